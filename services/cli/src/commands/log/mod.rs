//! `writ log`: reading and checking the log.

mod audit;
mod copy;
mod export;
mod rotate_key;
mod seen;
mod served;
mod show;
mod verify;
mod witnesses;

pub use verify::folder_key;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{App, Verdict};

/// Read the log of the network, and check it
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Export(export::Arguments),
    Show(show::Arguments),
    Backup(copy::Backup),
    Restore(copy::Restore),
    RotateKey(rotate_key::Arguments),
    Verify(verify::Arguments),
    Witnesses(witnesses::Arguments),
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        Command::Export(arguments) => export::run(&arguments, app),
        Command::Backup(arguments) => copy::back_up(&arguments, app),
        Command::Restore(arguments) => copy::restore(&arguments, app),
        Command::RotateKey(arguments) => rotate_key::run(&arguments, app),
        Command::Show(arguments) => show::run(&arguments, app),
        Command::Verify(arguments) => verify::run(&arguments, app),
        Command::Witnesses(arguments) => witnesses::run(&arguments, app),
    }
}
