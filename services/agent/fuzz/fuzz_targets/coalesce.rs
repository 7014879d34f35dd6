//! The target for libFuzzer.

#![no_main]
#![allow(dead_code, unused_imports, reason = "it has the simulation of the tests, and uses a part of it")]

#[path = "../targets/acts.rs"]
mod acts;
#[path = "../targets/coalesce.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
