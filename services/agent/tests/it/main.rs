//! The agent's trust and engine against a control plane and a network in memory.

mod control_plane;
mod simulation;
mod state;
mod trust;
mod tunnels;
