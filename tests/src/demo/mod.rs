//! The demonstration: the main job on real parts, from end to end.
//!
//! [`runner`] plays steps and counts what was verified, [`stage`] holds what they play on, [`steps`] lists them.

mod runner;
mod stage;
mod steps;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

pub use self::runner::{Outcome, Step, Verified, play};
pub use self::stage::Stage;

use crate::lab::{privilege, signals};
use crate::programs;

/// Plays Writ's main job on hosts made of network namespaces, and says of each step why it can be believed.
#[derive(Debug, Parser)]
#[command(name = "writ-demo")]
pub struct Options {
    /// End after the last step; the exit code is 0 only if every step was verified.
    #[arg(long)]
    pub check: bool,
    /// Where the programs are (default: beside this one).
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

/// Plays the demonstration. Everything it made is gone when it returns.
///
/// # Errors
/// When the scene cannot be built. A step that fails is no error but an exit code.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    privilege::obtain()?;
    signals::install()?;
    let bin_dir = match &options.bin_dir {
        Some(directory) => directory
            .canonicalize()
            .with_context(|| format!("--bin-dir {} cannot be used", directory.display()))?,
        None => programs::built()?,
    };
    let mut out = std::io::stdout().lock();
    let mut stage = Stage::build(bin_dir)?;
    let outcome = play(&steps::all(), &mut stage, &mut out)?;
    writeln!(out, "\n{outcome}")?;
    if !options.check && outcome.is_verified() {
        writeln!(out, "\n{}\nPress Ctrl-C to take everything down.", stage.look_around())?;
        let _ = signals::wait();
    }
    Ok(if outcome.is_verified() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
