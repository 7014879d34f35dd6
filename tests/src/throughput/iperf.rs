//! `iperf3` between two hosts, and the processor time that programs take meanwhile.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::rank;
use crate::lab::{Host, Process, wait_for};

/// iperf3 ends so long after its time at the latest.
const GRACE: Duration = Duration::from_secs(10);
/// What the kernel counts processor time in (USER_HZ, the same on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// TCP connections at the same time.
    pub streams: u32,
    /// The server sends instead of the client.
    pub is_reverse: bool,
}

/// What a run gave.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Bits that arrived in a second.
    pub bits_per_second: f64,
    /// Processor seconds of the programs that carried a gigabit.
    pub cpu_per_gigabit: f64,
}

/// Runs iperf3 from `client` to `address`, which is one of `server`'s.
///
/// # Errors
/// When iperf3 is missing or fails.
pub fn run(
    (client, server): (&Host, &Host),
    address: IpAddr,
    load: Load,
    seconds: u32,
    carriers: &[&Process],
) -> anyhow::Result<Run> {
    let listening = server.spawn(Command::new("iperf3").args(["--server", "--one-off", "--forceflush"]))?;
    rank::raise(&listening);
    wait_for(GRACE, "iperf3 listens", || {
        if listening.stdout().contains("listening") { Ok(()) } else { Err(listening.stderr()) }
    })?;
    let mut command = Command::new("iperf3");
    command.args(["--client", &address.to_string(), "--json"]);
    command.args(["--time", &seconds.to_string(), "--parallel", &load.streams.to_string()]);
    if load.is_reverse {
        command.arg("--reverse");
    }
    let before = cpu_seconds(carriers)?;
    let sending = client.spawn(&command)?;
    rank::raise(&sending);
    let output = sending.output(Duration::from_secs(seconds.into()).saturating_add(GRACE))?;
    let took = cpu_seconds(carriers)? - before;
    let report: Value = serde_json::from_slice(&output.stdout).context("iperf3 printed no JSON")?;
    ensure!(output.status.success(), "iperf3: {}", report["error"]);
    let sum = &report["end"]["sum_received"];
    let number = |name: &str| sum[name].as_f64().with_context(|| format!("iperf3 told no {name}"));
    let gigabits = number("bytes")? * 8.0 / 1e9;
    ensure!(gigabits > 0.0, "nothing arrived");
    Ok(Run { bits_per_second: number("bits_per_second")?, cpu_per_gigabit: took / gigabits })
}

/// Processor seconds that these programs have taken so far.
pub fn cpu_seconds(programs: &[&Process]) -> anyhow::Result<f64> {
    programs.iter().map(|program| cpu_seconds_of(program.id())).sum()
}

fn cpu_seconds_of(pid: i32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // proc_pid_stat(5): the name may hold anything; utime and stime are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path} is not as expected"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}
