//! Prints how fast this build is on this machine, a figure a line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use writ_tests::lab::{privilege, signals};
use writ_tests::load;
use writ_tests::parts::Programs;

/// Measures joins, authorizations, withdrawals and waits, and prints `figure NAME VALUE UNIT` lines.
#[derive(Debug, Parser)]
#[command(name = "writ-figures")]
struct Options {
    /// Where the programs are (default: beside this one).
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            signals::give_way();
            eprintln!("writ-figures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    privilege::obtain()?;
    signals::install()?;
    let programs = Programs::at(options.bin_dir.as_deref())?;
    let mut out = std::io::stdout().lock();
    for figure in load::figures(&programs)? {
        writeln!(out, "{figure}")?;
    }
    Ok(())
}
