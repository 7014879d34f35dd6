//! The target for libFuzzer.

#![no_main]
#![allow(dead_code, unused_imports, reason = "it has the simulation of the tests, and uses a part of it")]

#[path = "../../tests/it/control_plane.rs"]
mod control_plane;
#[path = "../../tests/it/insider.rs"]
mod insider;
#[path = "../../tests/it/nat.rs"]
mod nat;
#[path = "../../tests/it/simulation.rs"]
mod simulation;
#[path = "../../tests/it/tunnels.rs"]
mod tunnels;
#[path = "../targets/acts.rs"]
mod acts;
#[path = "../targets/packets.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
