//! The control plane: the network's state and decisions, the one writer of its log, projections of it, and the APIs.
//!
//! [`core`] is pure; [`sequencer`] is the only way to change anything; everything else reads what it has committed.

pub mod config;
pub mod core;
pub mod cosigners;
mod entropy;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod graphql;
pub mod http;
pub mod init;
pub mod log_key;
pub mod log_store;
pub mod metrics;
pub mod relay;
pub mod sequencer;
pub mod server;
pub mod session;
pub mod stun;
pub mod tls;
pub mod vault;
pub mod views;
pub mod witness;
