//! The control plane as its clients see it: over real HTTP and WebSockets.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod agent;
mod cosigned;
mod crash;
mod joins;
mod kafka;
mod log_keys;
mod plane;
mod relay;
mod sessions;
mod witness;
