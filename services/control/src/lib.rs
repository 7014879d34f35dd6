//! The control plane: the network's state and decisions, the one writer of its log, projections of it, and the APIs.
//!
//! [`core`] is pure; [`sequencer`] is the only way to change anything; everything else reads what it has committed.

pub mod core;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod sequencer;
pub mod vault;
