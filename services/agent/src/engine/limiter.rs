//! How many handshakes are looked at: a stranger's costs two curve operations, so there are few of them a second.
//!
//! Peers do not suffer from what strangers send: a handshake from where a peer is known to be (or over the relay, which vouches
//! for its name) is counted for that source alone. A flood is told once, when it begins, and is over when a while has passed
//! without.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Lets a few handshakes a second pass from each source, and bounds those of all strangers together.
#[derive(Debug, Default)]
pub(super) struct HandshakeLimiter {
    sources: HashMap<IpAddr, u32>,
    strangers: u32,
    since: Option<Instant>,
    /// When one was dropped last.
    dropped_at: Option<Instant>,
    /// Where peers are, as far as that was needed.
    peers: HashSet<IpAddr>,
}

/// What becomes of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    Dropped,
    /// Dropped, and the first for a while that is.
    FloodBegins,
}

impl HandshakeLimiter {
    const PER_SOURCE: u32 = 20;
    const STRANGERS: u32 = 400;
    const WINDOW: Duration = Duration::from_secs(1);
    const OVER_AFTER: Duration = Duration::from_secs(60);

    /// Counts a handshake. `is_peer` tells of a source that it is one for other reasons than its address.
    pub fn admit(&mut self, now: Instant, source: IpAddr, is_peer: bool) -> Admission {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Self::WINDOW) {
            self.sources.clear();
            (self.strangers, self.since) = (0, Some(now));
        }
        let is_stranger = !is_peer && !self.peers.contains(&source);
        // So there are never more sources than strangers that are let pass, and peers.
        if is_stranger && self.strangers >= Self::STRANGERS {
            return self.drop(now);
        }
        let count = self.sources.entry(source).or_default();
        *count = count.saturating_add(1);
        if *count > Self::PER_SOURCE {
            return self.drop(now);
        }
        self.strangers += u32::from(is_stranger);
        Admission::Admitted
    }

    fn drop(&mut self, now: Instant) -> Admission {
        let is_flooded = self.is_flooded(now);
        self.dropped_at = Some(now);
        if is_flooded { Admission::Dropped } else { Admission::FloodBegins }
    }

    /// Whether some were dropped of late.
    pub fn is_flooded(&self, now: Instant) -> bool {
        self.dropped_at.is_some_and(|at| now.saturating_duration_since(at) < Self::OVER_AFTER)
    }

    /// Says where peers are: worth the while only while there is a flood.
    pub fn set_peers(&mut self, peers: impl Iterator<Item = IpAddr>) {
        self.peers.clear();
        self.peers.extend(peers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from((0x0B00_0000 + number).to_be_bytes())
    }

    #[test]
    fn strangers_are_bounded_together_and_each_alone() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let admitted = |limiter: &mut HandshakeLimiter, now, sources: u32, each: u32| {
            let all = (0..sources).flat_map(|number| std::iter::repeat_n(source(number), each as usize));
            all.filter(|from| limiter.admit(now, *from, false) == Admission::Admitted).count()
        };
        assert_eq!(admitted(&mut limiter, now, 1, 1_000), 20);
        assert_eq!(admitted(&mut limiter, now, 100_000, 1), 380);
        assert!(limiter.sources.len() <= 400, "a source that is dropped costs no memory");
        assert_eq!(admitted(&mut limiter, now + HandshakeLimiter::WINDOW, 100_000, 1), 400);
    }

    #[test]
    fn a_flood_begins_once_and_ends_after_a_while() {
        let (mut limiter, start) = (HandshakeLimiter::default(), Instant::now());
        let begins = |limiter: &mut HandshakeLimiter, now| {
            let all = (0..2_000).map(|number| limiter.admit(now, source(number), false));
            all.filter(|it| *it == Admission::FloodBegins).count()
        };
        assert_eq!(begins(&mut limiter, start), 1);
        assert_eq!(begins(&mut limiter, start + Duration::from_secs(50)), 0);
        assert!(limiter.is_flooded(start + Duration::from_secs(100)));
        assert!(!limiter.is_flooded(start + Duration::from_secs(110)));
        assert_eq!(begins(&mut limiter, start + Duration::from_secs(110)), 1);
    }

    #[test]
    fn peers_are_let_pass_whatever_strangers_do() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        limiter.set_peers([source(7)].into_iter());
        (100..2_000).for_each(|number| _ = limiter.admit(now, source(number), false));
        assert_eq!(limiter.admit(now, source(7), false), Admission::Admitted);
        assert_eq!(limiter.admit(now, source(8), true), Admission::Admitted);
        assert_eq!(limiter.admit(now, source(9), false), Admission::Dropped);
        let forged = (0..100).filter(|_| limiter.admit(now, source(7), false) == Admission::Admitted).count();
        assert_eq!(forged, 19, "whoever forges a peer's address gets no further than that peer");
    }
}
