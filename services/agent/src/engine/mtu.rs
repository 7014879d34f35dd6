//! How long packets may be on the way to one peer, found by probes and not guessed (RFC 8899, DPLPMTUD).
//!
//! Until it is known, packets of every length are sent, and the network cuts in two what is too long for it (the outer
//! datagrams allow that). Probes inside the tunnel, which the network may not cut, find the longest that pass: one of the
//! full length at first, which is all where nothing stands in the way, then all lengths at once, as long as some rounds take.
//! From then on whoever sends a longer packet that must not be cut is told so by ICMP. A length that is known is confirmed every
//! minute while packets pass, and longer ones are looked for now and then.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;

/// Longest IP packet that is carried, and so the TUN device's MTU: what fits into 1500 bytes together with WireGuard (32), UDP
/// and IPv6 (48), or UDP, IPv4 (28) and the relay's header (17).
pub const MTU: usize = 1420;
/// No path is taken to carry less: what the least path of IPv6 (1280 bytes) leaves, the relay's header included. What one cannot
/// carry whole all the same is cut in two.
pub const MIN_MTU: usize = 1168;
/// No sender of IPv6 has to make its packets shorter (RFC 8200).
const MIN_MTU_V6: usize = 1280;

/// Lengths that are tried, the longest first. But for the first they are multiples of 16 bytes, as WireGuard pads to that.
const LENGTHS: [usize; 17] =
    [MTU, 1408, 1392, 1376, 1360, 1344, 1328, 1312, 1296, 1280, 1264, 1248, 1232, 1216, 1200, 1184, MIN_MTU];
/// Rounds of probes until what is not answered counts as too long, and the wait after each.
const ROUNDS: u8 = 3;
const ROUND_INTERVAL: Duration = Duration::from_millis(350);
/// Probes that may still be answered.
const MAX_PROBES: usize = LENGTHS.len() * 3;
/// How long a relayed path is left alone: most become direct sooner.
const RELAY_WAIT: Duration = Duration::from_secs(2);
/// When a length is confirmed, and how many times until a longer one is looked for.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(60);
const CONFIRMATIONS: u8 = 10;

/// A way to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Direct(SocketAddr),
    Relay,
}

impl Way {
    /// How long it is left alone before it is looked at.
    fn wait(self) -> Duration {
        if self == Self::Relay { RELAY_WAIT } else { Duration::ZERO }
    }
}

#[derive(Debug, Clone, Copy)]
struct Search {
    /// The length that ends the search if it passes.
    first: usize,
    rounds: u8,
    best: Option<usize>,
}

/// What the way of the moment carries.
#[derive(Debug)]
pub(super) struct PathMtu {
    way: Way,
    known: Option<usize>,
    search: Option<Search>,
    probes: Vec<(u64, usize)>,
    /// The next round, or the next search.
    next: Instant,
    /// Searches since the last that began at the longest, and those in a row in which nothing passed.
    confirmations: u8,
    failures: u8,
}

impl PathMtu {
    pub fn new(now: Instant) -> Self {
        Self::of(now, Way::Relay)
    }

    fn of(now: Instant, way: Way) -> Self {
        Self {
            way,
            known: None,
            search: None,
            probes: Vec::new(),
            next: after(now, way.wait()),
            confirmations: 0,
            failures: 0,
        }
    }

    /// The longest packet that passes whole, once that is known.
    pub fn known(&self) -> Option<usize> {
        self.known
    }

    /// The longest packet that a sender is to send, once that is known.
    pub fn limit(&self, is_v4: bool) -> Option<usize> {
        self.known.map(|known| if is_v4 { known } else { known.max(MIN_MTU_V6) })
    }

    /// The way that is looked at.
    pub fn way(&self) -> Way {
        self.way
    }

    /// When [`Self::poll`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Packets go this way now.
    pub fn follow(&mut self, now: Instant, way: Way) {
        if way != self.way {
            *self = Self::of(now, way);
        }
    }

    /// Packets pass again after a while.
    pub fn wake(&mut self, now: Instant) {
        if self.search.is_none() {
            self.next = self.next.min(after(now, self.way.wait()));
        }
    }

    /// The probes to send now: their numbers and lengths. While no packets pass nothing is looked for.
    pub fn poll(&mut self, now: Instant, is_active: bool, random: &mut impl Rng) -> Vec<(u64, usize)> {
        if now < self.next {
            return Vec::new();
        }
        let Some(search) = self.search.filter(|_| is_active).or_else(|| is_active.then(|| self.begin()))
        else {
            self.search = None;
            self.next = after(now, CONFIRM_INTERVAL);
            return Vec::new();
        };
        if search.rounds == ROUNDS {
            self.conclude(now, search.best);
            return Vec::new();
        }
        self.search = Some(Search { rounds: search.rounds.saturating_add(1), ..search });
        self.next = after(now, ROUND_INTERVAL);
        let is_first = search.rounds == 0;
        let lengths = LENGTHS.into_iter().filter(|length| {
            if is_first { *length == search.first } else { search.best.is_none_or(|best| *length > best) }
        });
        let probes: Vec<_> = lengths.map(|length| (random.random(), length)).collect();
        self.probes.extend(&probes);
        let surplus = self.probes.len().saturating_sub(MAX_PROBES);
        self.probes.drain(..surplus);
        probes
    }

    fn begin(&mut self) -> Search {
        self.confirmations = self.confirmations.saturating_add(1);
        let is_confirming = self.confirmations < CONFIRMATIONS;
        let first = self.known.filter(|_| is_confirming).unwrap_or(MTU);
        if !is_confirming {
            self.confirmations = 0;
        }
        Search { first, rounds: 0, best: None }
    }

    /// A probe came back. Tells whether it was one of these.
    pub fn answered(&mut self, now: Instant, id: u64) -> bool {
        let Some(at) = self.probes.iter().position(|(probe, _)| *probe == id) else { return false };
        let (_, length) = self.probes.swap_remove(at);
        if let Some(search) = &mut self.search {
            search.best = search.best.max(Some(length));
            let (best, first) = (search.best, search.first);
            if best >= Some(first) {
                self.conclude(now, best);
            }
        }
        true
    }

    /// A probe was not sent as one.
    pub fn forget(&mut self, id: u64) {
        self.probes.retain(|(probe, _)| *probe != id);
    }

    /// Where nothing passed at all, everything may have been lost: only the second time is it believed.
    fn conclude(&mut self, now: Instant, best: Option<usize>) {
        self.search = None;
        self.probes.clear();
        self.next = after(now, CONFIRM_INTERVAL);
        match best {
            Some(best) => (self.known, self.failures) = (Some(best), 0),
            None if self.failures > 0 => self.known = Some(MIN_MTU),
            None => {
                self.failures = 1;
                self.next = after(now, RELAY_WAIT);
            }
        }
    }
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Lets time pass on a path that carries so much, with packets or without. Gives how many probes were sent.
    fn pass(mtu: &mut PathMtu, now: &mut Instant, time: Duration, carries: usize, is_active: bool) -> usize {
        let mut random = StdRng::seed_from_u64(1);
        let (end, mut sent) = (*now + time, 0);
        while *now < end {
            let probes = mtu.poll(*now, is_active, &mut random);
            sent += probes.len();
            for (id, _) in probes.into_iter().filter(|(_, length)| *length <= carries) {
                assert!(mtu.answered(*now + Duration::from_millis(20), id));
            }
            *now = mtu.deadline().clamp(*now + Duration::from_millis(1), end);
        }
        sent
    }

    fn direct() -> (PathMtu, Instant) {
        let now = Instant::now();
        let mut mtu = PathMtu::new(now);
        mtu.follow(now, Way::Direct("192.0.2.1:1".parse().unwrap()));
        (mtu, now)
    }

    #[test]
    fn the_longest_that_passes_is_found_soon_and_with_one_probe_where_nothing_is_in_the_way() {
        for (carries, found, most) in [
            (1500, MTU, 1),
            (MTU, MTU, 1),
            (1419, 1408, 40),
            (1340, 1328, 40),
            (1300, 1296, 40),
            (1240, 1232, 40),
            (1168, MIN_MTU, 40),
        ] {
            let (mut mtu, mut now) = direct();
            assert_eq!(mtu.known(), None);
            let sent = pass(&mut mtu, &mut now, 2 * SECOND, carries, true);
            assert_eq!(mtu.known(), Some(found), "{carries}");
            assert!(sent <= most, "{carries}: {sent}");
        }
    }

    #[test]
    fn a_path_that_carries_nothing_is_believed_so_the_second_time_only() {
        let (mut mtu, mut now) = direct();
        pass(&mut mtu, &mut now, 2 * SECOND, 0, true);
        assert_eq!(mtu.known(), None);
        pass(&mut mtu, &mut now, 4 * SECOND, 0, true);
        assert_eq!((mtu.limit(true), mtu.limit(false)), (Some(MIN_MTU), Some(MIN_MTU_V6)));
        pass(&mut mtu, &mut now, 11 * 60 * SECOND, 1500, true);
        assert_eq!(mtu.known(), Some(MTU));
    }

    #[test]
    fn a_path_that_changes_is_noticed_and_one_that_is_idle_costs_nothing() {
        let (mut mtu, mut now) = direct();
        pass(&mut mtu, &mut now, SECOND, 1500, true);
        assert_eq!(pass(&mut mtu, &mut now, 600 * SECOND, 1500, false), 0);
        pass(&mut mtu, &mut now, 63 * SECOND, 1340, true);
        assert_eq!(mtu.known(), Some(1328));
        pass(&mut mtu, &mut now, 11 * 60 * SECOND, 1500, true);
        assert_eq!(mtu.known(), Some(MTU));
        mtu.follow(now, Way::Relay);
        assert_eq!(mtu.known(), None);
        assert!(mtu.deadline() >= now + RELAY_WAIT);
    }
}
