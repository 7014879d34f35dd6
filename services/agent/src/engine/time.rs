//! Time as the engine is told it.

use std::time::Instant;

use jiff::Timestamp;

/// One moment on both clocks: the steady one for deadlines, the wall's for what is written in records.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The steady clock.
    pub instant: Instant,
    /// The wall clock.
    pub wall: Timestamp,
}
