//! `writ policy`: the rules of the network, and their changes.

mod change;
mod check;
mod difference;
mod edit;
mod import;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{App, Verdict};

/// Check, import, edit, compare, set and restore the policy
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Arguments),
    Import(import::Arguments),
    Edit(edit::Arguments),
    Diff(change::Diff),
    Set(change::Set),
    Undo(change::Undo),
    Show(change::Show),
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        Command::Check(arguments) => check::run(&arguments, app),
        Command::Import(arguments) => import::run(&arguments, app),
        Command::Edit(arguments) => edit::run(arguments, app),
        Command::Diff(arguments) => change::diff(&arguments, app),
        Command::Set(arguments) => change::set(&arguments, app),
        Command::Undo(arguments) => change::undo(&arguments, app),
        Command::Show(arguments) => change::show(&arguments, app),
    }
}
