//! The agent's trust and engine against a control plane and a network in memory.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod allocations;
mod clocks;
mod control_plane;
mod exit;
mod fuzz;
mod hostile;
mod insider;
mod nat;
mod reference;
mod restart;
mod routes;
mod simulation;
mod state;
mod trust;
mod tunnels;
mod witness;
