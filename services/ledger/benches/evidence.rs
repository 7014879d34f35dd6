//! What evidence costs: `cargo bench -p writ-ledger --bench evidence`.
//!
//! The records are of the size that a network's are. Each figure stands beside the least that could do: hashing the same bytes once, and
//! proving the same records one by one.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at what it did not expect")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::Value;
use writ_ledger::{Bundle, FileLog, SigningKey, Statement, leaf_hash};

const RECORDS: u64 = 1_000_000;

/// Records of the bundle: every tenth of the log, so that hardly any two are neighbours.
const TAKEN: u64 = 100_000;

const RECORD_BYTES: usize = 380;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let signer = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap();
    let key = signer.verifier_key();
    let mut log = FileLog::create(dir.path(), Box::new(signer)).unwrap();
    for first in (0..RECORDS).step_by(10_000) {
        log.append(&(first..first + 10_000).map(record).collect::<Vec<_>>()).unwrap();
    }
    let none = || Value::Null;
    let statement = Statement { subject: none(), query: none(), result: none(), time: none(), keys: none() };
    let indexes: Vec<u64> = (0..TAKEN).map(|n| n * (RECORDS / TAKEN)).collect();

    let (bundle, build) = timed(|| Bundle::build(log.reader(), &indexes, &statement).unwrap());
    let file = bundle.to_json().unwrap();
    let (read, parse) = timed(|| Bundle::parse(file.as_bytes()).unwrap());
    let (report, verify) = timed(|| read.verify(&key).unwrap());
    assert_eq!(report.records as u64, TAKEN);
    let (_, hash) = timed(|| {
        bundle.entries().iter().for_each(|entry| {
            black_box(leaf_hash(entry.record.as_bytes()));
        })
    });
    let (single, one_by_one) = timed(|| {
        let size = log.size();
        let proofs = indexes.iter().map(|index| log.reader().inclusion(*index, size).unwrap().hashes.len());
        proofs.sum::<usize>()
    });
    let shared = serde_json::from_str::<Value>(&file).unwrap()["hashes"].as_array().unwrap().len();

    figure("evidence.bundle_bytes", file.len() as f64, "B");
    figure("evidence.build_seconds", build.as_secs_f64(), "s");
    figure("evidence.parse_seconds", parse.as_secs_f64(), "s");
    figure("evidence.verify_seconds", verify.as_secs_f64(), "s");
    figure("evidence.check_seconds", (parse + verify).as_secs_f64(), "s");
    figure("evidence.check_vs_hashing_the_records", ratio(parse + verify, hash), "x");
    figure("evidence.build_vs_single_proofs", ratio(build, one_by_one), "x");
    figure("evidence.hashes_vs_single_proofs", shared as f64 / single as f64, "x");
}

fn record(seq: u64) -> String {
    let head = format!(
        "{{\"seq\":{seq},\"kind\":\"connection.authorized\",\"node\":\"nod_{:016x}\",\"pad\":\"",
        seq * 7919
    );
    let pad = "x".repeat(RECORD_BYTES - head.len() - 2);
    format!("{head}{pad}\"}}")
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn ratio(ours: Duration, beside: Duration) -> f64 {
    ours.as_secs_f64() / beside.as_secs_f64()
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}
