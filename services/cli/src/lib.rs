//! `writ`: what an operator or auditor types.
//!
//! One module per family of commands in `commands`; everything that they share is beside it: the connection to the server
//! ([`client`]), what is remembered between calls ([`credentials`]), and how things are said ([`output`],
//! [`describe`], [`failure`]). Checks are made here, with the ledger's verifier and the policy engine; the server is asked
//! for data, never for a verdict about itself.

mod args;
mod client;
mod client_error;
mod commands;
mod confirm;
#[cfg(test)]
mod contract;
mod credentials;
mod describe;
mod failure;
mod moment;
mod output;
mod secret;
mod subscription;

use std::process::ExitCode;

use clap::Parser;

use args::Arguments;
use output::Output;

/// How a command that ran to its end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Done, or everything holds.
    Good,
    /// A check found something wrong, or the person said no. What it was has been printed.
    Bad,
}

/// What every command is given.
struct App {
    out: Output,
    /// The server that was named; otherwise the one of the last sign-in.
    server: Option<String>,
}

/// Runs the program with the arguments of the process. The exit code is 0 when all is well, 1 when something failed, was
/// refused or does not verify, and 2 when the arguments cannot be understood.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let app = App { out: Output::new(arguments.json), server: arguments.server };
    match commands::run(arguments.command, &app) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(error) => ExitCode::from(failure::report(&error)),
    }
}
