//! `cargo bench -p writ-ledger`: the ledger beside what bounds it, in one run.
//!
//! Every figure is a line `figure NAME VALUE UNIT`; a ratio's unit is `x`. Names of sections run those alone, as in
//! `cargo bench -p writ-ledger -- append replay`: `append`, `postgres`, `tessera`, `sealed`, `replay`, `proofs`, `open`.
//!
//! `WRIT_BENCH_RECORDS` sets how many records the reading sections use (1,000,000 by default; 10,000,000 need 8 GB of disk and a
//! quarter of an hour to make), `WRIT_BENCH_DIR` where the files lie (the build's target directory by default: figures of a
//! memory file system say nothing).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark that cannot run has nothing better to do than to stop"
)]

mod append;
mod events;
mod history;
mod postgres;
mod tessera;

use std::path::PathBuf;
use std::time::Duration;

use writ_ledger::{Signer, SigningKey};

fn main() {
    // Cargo passes --bench to every benchmark.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let folder = tempfile::tempdir_in(directory()).unwrap();
    if is_wanted("append") || is_wanted("postgres") || is_wanted("tessera") {
        let plain = append::run(folder.path(), is_wanted("append"));
        if is_wanted("postgres") {
            postgres::run(folder.path(), &plain);
        }
        if is_wanted("tessera") {
            tessera::run(folder.path(), &plain);
        }
    }
    if ["sealed", "replay", "proofs", "open"].iter().any(|name| is_wanted(name)) {
        history::run(folder.path(), records(), &is_wanted);
    }
}

fn directory() -> PathBuf {
    let default = || std::env::current_exe().unwrap().parent().unwrap().to_owned();
    std::env::var_os("WRIT_BENCH_DIR").map_or_else(default, PathBuf::from)
}

fn records() -> u64 {
    std::env::var("WRIT_BENCH_RECORDS").map_or(1_000_000, |text| text.parse().unwrap())
}

fn signer() -> Box<dyn Signer> {
    Box::new(SigningKey::from_seed("bench.example/log", [7; 32]).unwrap())
}

/// Prints one figure.
fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// How often something was done, and how long each took.
struct Timing {
    each: Vec<Duration>,
    total: Duration,
}

impl Timing {
    /// Repeats something until it has taken a second or has been done so often.
    fn of(most: usize, mut action: impl FnMut(usize)) -> Self {
        let (started, mut each) = (std::time::Instant::now(), Vec::new());
        while each.len() < most && started.elapsed() < Duration::from_secs(3) {
            let begun = std::time::Instant::now();
            action(each.len());
            each.push(begun.elapsed());
        }
        let total = started.elapsed();
        each.sort();
        Self { each, total }
    }

    fn per_second(&self, things: usize) -> f64 {
        (self.each.len() * things) as f64 / self.total.as_secs_f64()
    }

    /// The time that so many of a hundred did not exceed, in microseconds.
    fn percentile(&self, percent: usize) -> f64 {
        self.each[(self.each.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }
}
