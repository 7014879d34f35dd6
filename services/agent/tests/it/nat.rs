//! Routers as RFC 4787 describes them: mapping, filtering, and how long they remember.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// On what of the other end something depends (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependsOn {
    Nothing,
    Address,
    AddressAndPort,
}

impl DependsOn {
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Address, Self::AddressAndPort];

    fn of(self, other: SocketAddr) -> (Option<IpAddr>, Option<u16>) {
        match self {
            Self::Nothing => (None, None),
            Self::Address => (Some(other.ip()), None),
            Self::AddressAndPort => (Some(other.ip()), Some(other.port())),
        }
    }
}

/// How a router draws ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draws {
    /// The next one.
    InSequence,
    /// Any of this many.
    FromFew,
    /// Any.
    FromAll,
}

impl Draws {
    pub const ALL: [Self; 3] = [Self::InSequence, Self::FromFew, Self::FromAll];
}

/// How a router translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    pub mapping: DependsOn,
    pub filtering: DependsOn,
    pub draws: Draws,
    /// How long a mapping lasts after the last packet from inside.
    pub life: Duration,
}

/// How a host is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// With a public address.
    None,
    /// Endpoint-independent mapping, address- and port-dependent filtering: a home router.
    PortRestricted,
    /// Another port for every destination.
    Symmetric,
    /// In any other way.
    Of(Behaviour),
}

/// The least that RFC 4787 asks for.
const LIFE: Duration = Duration::from_secs(120);

impl Nat {
    pub fn behaviour(self) -> Option<Behaviour> {
        let (filtering, draws, life) = (DependsOn::AddressAndPort, Draws::FromAll, LIFE);
        let of = |mapping| Some(Behaviour { mapping, filtering, draws, life });
        match self {
            Self::None => None,
            Self::PortRestricted => of(DependsOn::Nothing),
            Self::Symmetric => of(DependsOn::AddressAndPort),
            Self::Of(behaviour) => Some(behaviour),
        }
    }

    /// Whether two hosts can reach each other directly.
    pub fn reaches(self, other: Self) -> Reaches {
        if self.can_reach(other) {
            return Reaches::Must;
        }
        let is_guessed = |one: Self, two: Self| {
            let is_known = two.behaviour().is_none_or(|it| it.mapping == DependsOn::Nothing);
            is_known && one.draws_near(DependsOn::AddressAndPort)
        };
        if is_guessed(self, other) || is_guessed(other, self) {
            return Reaches::Must;
        }
        let may = [self, other].iter().any(|nat| DependsOn::ALL.iter().any(|on| nat.draws_near(*on)));
        if may { Reaches::May } else { Reaches::Never }
    }

    /// Its ports depend on this of the other end and lie near each other.
    fn draws_near(self, on: DependsOn) -> bool {
        let hides = on != DependsOn::Nothing;
        hides && self.behaviour().is_some_and(|it| it.mapping == on && it.draws != Draws::FromAll)
    }

    /// Where the port of one cannot be known to the other, the other must let any port in, and where neither can be known,
    /// one must let everybody in.
    fn can_reach(self, other: Self) -> bool {
        let hides_port = |nat: Self| nat.behaviour().is_some_and(|it| it.mapping != DependsOn::Nothing);
        let filters = |nat: Self, by| nat.behaviour().is_some_and(|it| it.filtering == by);
        let open = |nat| !filters(nat, DependsOn::Address) && !filters(nat, DependsOn::AddressAndPort);
        let pair = [(self, other), (other, self)];
        let misses = |(one, two)| hides_port(one) && filters(two, DependsOn::AddressAndPort);
        let both_hide = hides_port(self) && hides_port(other);
        !pair.into_iter().any(misses) && (!both_hide || open(self) || open(other))
    }
}

/// What must come of two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaches {
    /// They reach each other directly.
    Must,
    /// If the right port is drawn.
    May,
    /// Only over the relay.
    Never,
}

type Key = (Option<IpAddr>, Option<u16>);

/// A router with one host behind it.
pub struct Router {
    behaviour: Behaviour,
    pub outside: Ipv4Addr,
    next_port: u16,
    /// Which port is drawn from several: a sequence that looks random (Knuth).
    draw: u64,
    mappings: BTreeMap<Key, (u16, Duration)>,
    /// Who may send to which port, and until when.
    admitted: BTreeMap<(u16, Key), Duration>,
}

impl Router {
    pub fn new(behaviour: Behaviour, outside: Ipv4Addr) -> Self {
        let (mappings, admitted) = (BTreeMap::new(), BTreeMap::new());
        let draw = u32::from(outside).into();
        Self { behaviour, outside, next_port: 40_000, draw, mappings, admitted }
    }

    /// The outside address of a packet from inside.
    pub fn outbound(&mut self, now: Duration, to: SocketAddr) -> SocketAddr {
        let Behaviour { mapping, filtering, draws, life } = self.behaviour;
        let (next, draw) = (&mut self.next_port, &mut self.draw);
        let mut fresh = || {
            *next += 1;
            *draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let any = (*draw >> 33) as u16;
            match draws {
                Draws::InSequence => *next,
                Draws::FromFew => 40_000 + any % 64,
                Draws::FromAll => any.max(1_024),
            }
        };
        let entry = self.mappings.entry(mapping.of(to)).or_insert_with(|| (fresh(), now));
        if entry.1 + life < now {
            entry.0 = fresh();
        }
        entry.1 = now;
        self.admitted.insert((entry.0, filtering.of(to)), now + life);
        (self.outside, entry.0).into()
    }

    /// Whether a packet from outside is let in.
    pub fn admits(&self, now: Duration, port: u16, from: SocketAddr) -> bool {
        let lives = self
            .mappings
            .values()
            .any(|(mapped, used)| *mapped == port && *used + self.behaviour.life >= now);
        let filter = self.behaviour.filtering.of(from);
        lives && self.admitted.get(&(port, filter)).is_some_and(|until| *until >= now)
    }

    /// As after a restart of the router.
    pub fn forget(&mut self) {
        self.mappings.clear();
        self.admitted.clear();
        self.next_port += 100;
    }
}
