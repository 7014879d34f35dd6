//! The demonstration: the main job on real parts, from end to end.
//!
//! [`runner`] plays steps and counts what was verified, [`stage`] holds what they play on, [`steps`] lists them.

mod runner;
mod stage;
mod steps;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

pub use self::runner::{Outcome, Step, Verified, play};
pub use self::stage::{Cast, Notes, Stage};

use crate::lab::{Forward, privilege, signals};
use crate::load;
use crate::parts::Programs;

/// Where the explorer is shown, if nobody else is there.
const EXPLORER_PORT: u16 = 8443;

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
    let programs = Programs::at(options.bin_dir.as_deref())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{INTRODUCTION}")?;
    let start = Instant::now();
    let mut stage = Stage::build(programs)?;
    let outcome = play(&steps::all(), &mut stage, &mut out)?;
    writeln!(out, "\n{outcome} [{:.0} s]", start.elapsed().as_secs_f64())?;
    if !outcome.is_verified() {
        return Ok(ExitCode::FAILURE);
    }
    let figures = load::figures(&stage.programs).inspect_err(|_| signals::give_way())?;
    writeln!(
        out,
        "\nHow fast this build is on this machine, as first marks (the command: {}):",
        figures_command(&stage)
    )?;
    for figure in figures {
        writeln!(out, "  {figure}")?;
    }
    if !options.check {
        let explorer = explorer(&stage)?;
        writeln!(
            out,
            "\n{}\n\nPress Ctrl-C to take everything down.",
            stage.look_around(explorer.address())?
        )?;
        out.flush()?;
        let _ = signals::wait();
    }
    Ok(ExitCode::SUCCESS)
}

const INTRODUCTION: &str = "\
An office behind one NAT holds a staging cluster and a production database in one LAN; a developer is at home behind another
NAT, an engineer on call behind a third. The developer may reach staging's web port, the engineer the database, and nobody
anything else. Each host is a network namespace of this machine; the NATs, the tunnels and all programs are real.
";

fn figures_command(stage: &Stage) -> String {
    stage.programs.directory().join("writ-figures").display().to_string()
}

/// Carries the API's page to this machine's loopback, at the usual port if that is free.
fn explorer(stage: &Stage) -> anyhow::Result<Forward> {
    let (lab, control) = (&stage.scene.lab, &stage.cast()?.control);
    let at =
        |port| lab.forward(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), control.host(), control.listen());
    Ok(at(EXPLORER_PORT).or_else(|_| at(0))?)
}
