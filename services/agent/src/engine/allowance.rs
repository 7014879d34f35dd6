//! How often something may happen.

use std::time::{Duration, Instant};

/// So many at once, and then one in a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    at_once: u32,
    forgiven_after: Duration,
    /// When everything is forgiven.
    until: Option<Instant>,
}

impl Allowance {
    pub fn new(at_once: u32, forgiven_after: Duration) -> Self {
        Self { at_once, forgiven_after, until: None }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let until = self.until.unwrap_or(now).max(now).checked_add(self.forgiven_after);
        let fits =
            until.is_some_and(|at| at.saturating_duration_since(now) <= self.forgiven_after * self.at_once);
        if fits {
            self.until = until;
        }
        fits
    }
}
