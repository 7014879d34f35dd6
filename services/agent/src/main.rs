//! `writ-agent`: joins a node to its network and carries its packets.

#![expect(clippy::print_stdout, reason = "what a person asked for goes to standard output")]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
