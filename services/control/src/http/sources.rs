//! How often one source may try to sign in.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::session::pace::Pace;

/// Buckets onto which sources are spread by a secret hash: memory is fixed, and nobody can choose whose bucket to empty.
const BUCKETS: usize = 4096;

/// Failed attempts at once, and then for each minute.
const ATTEMPTS: u32 = 10;

/// Failed attempts of each source.
#[derive(Debug)]
pub struct Sources {
    hasher: RandomState,
    buckets: Mutex<Vec<Pace>>,
}

impl Sources {
    /// Nobody has tried anything.
    pub fn new(now: Instant) -> Self {
        let pace = || Pace::per_minute(ATTEMPTS, ATTEMPTS, now);
        Self { hasher: RandomState::new(), buckets: Mutex::new((0..BUCKETS).map(|_| pace()).collect()) }
    }

    /// Counts an attempt before it is made, or says how long to wait.
    pub fn attempt(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        self.with(source, |pace| pace.take(now))
    }

    /// Takes an attempt back that succeeded.
    pub fn succeeded(&self, source: IpAddr) {
        self.with(source, Pace::give_back);
    }

    fn with<T>(&self, source: IpAddr, act: impl FnOnce(&mut Pace) -> T) -> T {
        let index = usize::try_from(self.hasher.hash_one(network_of(source))).unwrap_or_default() % BUCKETS;
        // There are always as many buckets as the constant says.
        act(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner)[index])
    }
}

/// One person easily has a whole IPv6 /64.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_slowed_down_and_successes_are_not() {
        let now = Instant::now();
        let sources = Sources::new(now);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..1000 {
            assert!(sources.attempt(source, now).is_ok());
            sources.succeeded(source);
        }
        let failures = (0..1000).take_while(|_| sources.attempt(source, now).is_ok()).count();
        assert_eq!(failures, 10);
        assert!(sources.attempt(source, now).unwrap_err() <= Duration::from_secs(6));
        assert!(sources.attempt(source, now + Duration::from_secs(7)).is_ok());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_source() {
        let now = Instant::now();
        let sources = Sources::new(now);
        let tries = |n: u16| format!("2001:db8:0:1::{n:x}").parse().unwrap();
        let passed = (0..100).filter(|n| sources.attempt(tries(*n), now).is_ok()).count();
        assert_eq!(passed, 10);
    }
}
