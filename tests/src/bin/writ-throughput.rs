//! Measures how fast packets go beside what others carry them with, and prints a figure a line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use writ_tests::lab::{privilege, signals};
use writ_tests::parts::Programs;
use writ_tests::throughput::{Kind, Plan, is_permitted, measure, measure_idle, measure_latency};

/// Measures throughput with `iperf3`, what idle peers cost and how long a round trip takes, and prints `figure NAME VALUE UNIT` lines, ratios first.
#[derive(Debug, Parser)]
#[command(name = "writ-throughput")]
struct Options {
    /// Where the programs are (default: beside this one).
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Measures wireguard-go beside.
    #[arg(long, value_name = "PROGRAM")]
    wireguard_go: Option<PathBuf>,
    /// Measures gotatun beside.
    #[arg(long, value_name = "PROGRAM")]
    gotatun: Option<PathBuf>,
    /// The MTU of what is measured beside (default: what WireGuard's tools choose on Ethernet).
    #[arg(long, value_name = "BYTES", default_value_t = 1420)]
    mtu: u16,
    /// Measures only what an agent with a thousand idle peers costs.
    #[arg(long)]
    idle: bool,
    /// Measures only how long a line takes there and back, directly and over the relay.
    #[arg(long, conflicts_with = "idle")]
    latency: bool,
    /// How often; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u16,
    /// How long each time.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            signals::give_way();
            eprintln!("writ-throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    privilege::obtain()?;
    signals::install()?;
    let programs = Programs::at(options.bin_dir.as_deref())?;
    let others = [(Kind::WireguardGo, options.wireguard_go), (Kind::Gotatun, options.gotatun)];
    let beside = others.into_iter().filter_map(|(kind, program)| Some((kind, program?))).collect();
    if !is_permitted() {
        eprintln!("`chrt` may not be used here: what else runs on this machine is measured too");
    }
    let mut figures = Vec::new();
    if !options.idle && !options.latency {
        let plan = Plan { beside, mtu: options.mtu, rounds: options.rounds, seconds: options.seconds };
        figures.extend(measure(&programs, &plan)?);
    }
    if !options.latency {
        figures.extend(measure_idle(&programs)?);
    }
    if !options.idle {
        figures.extend(measure_latency(&programs)?);
    }
    let mut out = std::io::stdout().lock();
    for figure in figures {
        writeln!(out, "{figure}")?;
    }
    Ok(())
}
