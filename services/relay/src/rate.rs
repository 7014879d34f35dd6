//! Rate limits per source, in memory of fixed size.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Instant;

/// Token buckets, one per source. Sources are hashed onto a fixed number of buckets, so a flood from invented addresses
/// takes no memory and there is nothing to clean up; two sources in one bucket share its rate. The hash is seeded with
/// a secret, so nobody can choose an address to share a victim's bucket.
pub(crate) struct RateLimiter {
    buckets: Box<[Bucket]>,
    per_second: f32,
    burst: f32,
    seed: u64,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f32,
    filled: Option<Instant>,
}

impl RateLimiter {
    pub(crate) fn new(sources: usize, per_second: u16, burst: u16, seed: u64) -> Self {
        let burst = f32::from(burst);
        let buckets = vec![Bucket { tokens: burst, filled: None }; sources.max(1)].into_boxed_slice();
        Self { buckets, per_second: f32::from(per_second), burst, seed }
    }

    /// Takes one token of the source, if it has one left.
    pub(crate) fn admits(&mut self, now: Instant, source: IpAddr) -> bool {
        let at = self.slot(source);
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        let elapsed = bucket.filled.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f32());
        bucket.tokens = (bucket.tokens + elapsed * self.per_second).min(self.burst);
        bucket.filled = Some(now);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn slot(&self, source: IpAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        match source.to_canonical() {
            IpAddr::V4(ip) => ip.octets().hash(&mut hasher),
            // A /64 is one subscriber, who can invent any address in it.
            IpAddr::V6(ip) => ip.segments()[..4].hash(&mut hasher),
        }
        let buckets = self.buckets.len() as u64;
        usize::try_from(hasher.finish() % buckets).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(limiter: &mut RateLimiter, now: Instant, source: &str, tries: usize) -> usize {
        let source = source.parse().unwrap();
        (0..tries).filter(|_| limiter.admits(now, source)).count()
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let (now, mut limiter) = (Instant::now(), RateLimiter::new(1 << 12, 10, 20, 7));
        assert_eq!(admitted(&mut limiter, now, "192.0.2.1", 50), 20);
        assert_eq!(admitted(&mut limiter, now, "192.0.2.2", 1), 1, "another source is not affected");
        assert_eq!(admitted(&mut limiter, now + Duration::from_millis(510), "192.0.2.1", 50), 5);
        assert_eq!(admitted(&mut limiter, now + Duration::from_secs(3600), "192.0.2.1", 50), 20);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source_and_mapped_ipv4_is_ipv4() {
        let (now, mut limiter) = (Instant::now(), RateLimiter::new(1 << 12, 1, 2, 7));
        assert_eq!(admitted(&mut limiter, now, "2001:db8::1", 2), 2);
        assert_eq!(admitted(&mut limiter, now, "2001:db8::ffff", 1), 0);
        assert_eq!(admitted(&mut limiter, now, "2001:db8:0:1::1", 1), 1);
        assert_eq!(admitted(&mut limiter, now, "192.0.2.1", 2), 2);
        assert_eq!(admitted(&mut limiter, now, "::ffff:192.0.2.1", 1), 0);
    }
}
