//! The target for libFuzzer.

#![no_main]
#![allow(dead_code, unused_imports, reason = "it has the simulation of the tests, and uses a part of it")]

#[path = "../../tests/it/control_plane.rs"]
mod control_plane;
#[path = "../targets/names.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
