//! The sequencer: the one writer of the log.
//!
//! A thread of its own drains a bounded queue, decides each command on the state as the ones before it left it, appends
//! all that results in one durable commit, makes it visible and then answers everybody. Whatever is visible is durable.

mod handle;
mod metrics;

pub use handle::{Commit, OpenRecord, Outcome, SequencerHandle, SubmitError};
pub use metrics::Metrics;
