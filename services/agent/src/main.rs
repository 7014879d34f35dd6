//! `writ-agent`: joins a node to its network and carries its packets.

#![expect(clippy::print_stdout, reason = "what a person asked for goes to standard output")]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writ-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
