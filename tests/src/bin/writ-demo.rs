//! Plays the demonstration; `deploy/demo` builds what it needs and starts it.

use std::process::ExitCode;

use clap::Parser;
use writ_tests::demo::{Options, run};
use writ_tests::lab::signals;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            signals::give_way();
            eprintln!("writ-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
