//! The network's state and decisions, pure: no clock, no randomness, no IO.
//!
//! [`decide`] says what a command brings about in a state; [`evolve`] says what a record does to a state. A state is
//! what the records so far have made of it, and nothing else: folding the same records again gives the same state.

pub mod command;
pub mod context;
mod decide;
mod evolve;
mod explain;
pub mod policy;
pub mod reach;
pub mod refusals;
pub mod rejection;
pub mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, Secret, Submission};
pub use context::Context;
pub use decide::{Decision, Draft, MAX_LIVE_PER_SOURCE, PolicyChange, Refusal, decide};
pub use evolve::evolve;
pub use explain::Question;
pub use rejection::Rejection;
pub use state::State;
