//! Instructions of a decision, counted by `valgrind`: they do not jitter.
//!
//! By hand: `valgrind --tool=callgrind --callgrind-out-file=/dev/null BENCH --decide-only 0`, the same with 20000, and the
//! difference of the two counts by 20000.

use std::hint::black_box;
use std::process::Command;

use writ_policy::Protocol;

use super::{AIM, Network};

/// Makes the bench do nothing but decide so many requests.
pub const MODE: &str = "--decide-only";

const DECISIONS: usize = 20_000;

/// Compiles a network and decides.
pub fn work(count: usize) {
    let network = Network::new(AIM.0, AIM.1);
    let Ok(compiled) = network.compiled() else { return };
    for (src, dst, port) in network.requests(DECISIONS).into_iter().take(count) {
        black_box(compiled.permits(src, dst, Protocol::Tcp, port));
    }
}

/// Instructions of one decision, or why they cannot be counted.
pub fn per_decision() -> Result<f64, String> {
    let (nothing, all) = (count(0)?, count(DECISIONS)?);
    Ok((all - nothing) / DECISIONS as f64)
}

fn count(decisions: usize) -> Result<f64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args([MODE, &decisions.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&run.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    collected.and_then(|count| count.parse().ok()).ok_or_else(|| "valgrind did not say".to_owned())
}
