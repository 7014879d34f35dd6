//! The relay through its public interface: as a state machine, against a model, and on real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails by panicking, as the test does"
)]

mod abuse;
mod bench;
mod forwarding;
mod model;
mod shell;
