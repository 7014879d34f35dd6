//! How fast one party may go on: a token bucket. Time comes in as an argument.

use std::time::{Duration, Instant};

/// A token bucket: a burst at once, then a steady rate.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Pace {
    /// A full bucket that refills by so many a second.
    pub fn per_second(rate: u32, burst: u32, now: Instant) -> Self {
        Self { per_second: f64::from(rate.max(1)), burst: burst.into(), tokens: burst.into(), at: now }
    }

    /// A full bucket that refills by so many a minute.
    pub fn per_minute(rate: u32, burst: u32, now: Instant) -> Self {
        let pace = Self::per_second(rate, burst, now);
        Self { per_second: pace.per_second / 60.0, ..pace }
    }

    /// Takes one token, or says how long to wait for it.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
    }

    /// Takes one token in any case, and says how long to rest before the next.
    pub fn spend(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }

    /// Gives a token back that was not needed.
    pub fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_through_and_then_the_steady_rate() {
        let start = Instant::now();
        let mut pace = Pace::per_second(10, 3, start);
        assert!((0..3).all(|_| pace.take(start).is_ok()));
        let wait = pace.take(start).unwrap_err();
        assert!(wait <= Duration::from_millis(101) && wait >= Duration::from_millis(90), "{wait:?}");
        assert!(pace.take(start + Duration::from_millis(150)).is_ok());
        assert!(pace.take(start + Duration::from_millis(151)).is_err());
    }

    #[test]
    fn who_rests_as_told_goes_at_the_steady_rate() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::per_second(10, 5, start), start);
        for _ in 0..105 {
            now += pace.spend(now);
        }
        let took = (now - start).as_secs_f64();
        assert!((9.8..=10.2).contains(&took), "{took}");
    }

    #[test]
    fn a_long_rest_gives_no_more_than_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::per_second(10, 3, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| pace.take(later).is_ok()).count(), 3);
    }
}
