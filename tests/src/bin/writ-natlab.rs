//! Crosses every pair of NATs with real agents, and prints what came of it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use writ_tests::lab::{privilege, signals};
use writ_tests::natlab::{Access, Other, compare, cross};
use writ_tests::parts::Programs;

/// Crosses every pair of NATs with real agents. Exits with 0 only if every pair that can be direct is, every other is
/// relayed, and none is unconnected.
#[derive(Debug, Parser)]
#[command(name = "writ-natlab")]
struct Options {
    /// Where the programs are (default: beside this one).
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Crosses the same pairs with products of others too, and prints what came of it side by side. How they do does not
    /// change the exit code.
    #[arg(long, value_name = "PRODUCT", value_delimiter = ',')]
    beside: Vec<Other>,
    /// Where their programs are.
    #[arg(long, value_name = "DIR", requires = "beside")]
    beside_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            signals::give_way();
            eprintln!("writ-natlab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    privilege::obtain()?;
    signals::install()?;
    let programs = Programs::at(options.bin_dir.as_deref())?;
    let matrix = cross(&programs, &Access::ALL)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{matrix}\n")?;
    for figure in matrix.figures() {
        writeln!(out, "{figure}")?;
    }
    if !options.beside.is_empty() {
        let directory =
            options.beside_dir.as_deref().context("--beside needs --beside-dir: tests/natlab gives it")?;
        let comparison = compare(&programs, directory, &options.beside, &Access::ALL)?;
        writeln!(out, "\n{comparison}\n")?;
        for figure in comparison.figures() {
            writeln!(out, "{figure}")?;
        }
    }
    Ok(matrix.wrong().next().is_none())
}
