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

/// How a router translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    pub mapping: DependsOn,
    pub filtering: DependsOn,
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
        let all = DependsOn::AddressAndPort;
        match self {
            Self::None => None,
            Self::PortRestricted => {
                Some(Behaviour { mapping: DependsOn::Nothing, filtering: all, life: LIFE })
            }
            Self::Symmetric => Some(Behaviour { mapping: all, filtering: all, life: LIFE }),
            Self::Of(behaviour) => Some(behaviour),
        }
    }

    /// Whether two hosts can reach each other directly: where the port of one cannot be known to the other, the other must
    /// let any port in, and where neither can be known, one must let everybody in.
    pub fn can_reach(self, other: Self) -> bool {
        let hides_port = |nat: Self| nat.behaviour().is_some_and(|it| it.mapping != DependsOn::Nothing);
        let filters = |nat: Self, by| nat.behaviour().is_some_and(|it| it.filtering == by);
        let open = |nat| !filters(nat, DependsOn::Address) && !filters(nat, DependsOn::AddressAndPort);
        let pair = [(self, other), (other, self)];
        let misses = |(one, two)| hides_port(one) && filters(two, DependsOn::AddressAndPort);
        let both_hide = hides_port(self) && hides_port(other);
        !pair.into_iter().any(misses) && (!both_hide || open(self) || open(other))
    }
}

type Key = (Option<IpAddr>, Option<u16>);

/// A router with one host behind it.
pub struct Router {
    behaviour: Behaviour,
    pub outside: Ipv4Addr,
    next_port: u16,
    mappings: BTreeMap<Key, (u16, Duration)>,
    /// Who may send to which port, and until when.
    admitted: BTreeMap<(u16, Key), Duration>,
}

impl Router {
    pub fn new(behaviour: Behaviour, outside: Ipv4Addr) -> Self {
        let (mappings, admitted) = (BTreeMap::new(), BTreeMap::new());
        Self { behaviour, outside, next_port: 40_000, mappings, admitted }
    }

    /// The outside address of a packet from inside.
    pub fn outbound(&mut self, now: Duration, to: SocketAddr) -> SocketAddr {
        let Behaviour { mapping, filtering, life } = self.behaviour;
        let next = &mut self.next_port;
        let mut fresh = || {
            *next += 1;
            *next
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
