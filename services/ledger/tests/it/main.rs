//! The ledger through its public interface: what it keeps, what it refuses, and what it finds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails the test")]

mod backup;
mod bundle;
mod crash;
mod directory;
mod fold;
#[cfg(feature = "kafka")]
mod kafka;
mod keys;
mod mounts;
mod oracle;
mod sealed;
mod simdisk;
mod split_view;
mod store;
mod suite;
mod torture;
mod vectors;
mod verify;

use std::path::Path;
use std::time::Duration;

use writ_ledger::store::{Options, Sealing};
use writ_ledger::{FileLog, Log, Signer, SigningKey, VerifierKey};

const ORIGIN: &str = "writ.example/log";

fn signer() -> Box<dyn Signer> {
    Box::new(SigningKey::from_seed(ORIGIN, [7; 32]).unwrap())
}

fn key() -> VerifierKey {
    signer().verifier_key()
}

fn record(seq: u64) -> String {
    format!("{{\"v\":1,\"seq\":{seq},\"note\":\"record number {seq}\"}}")
}

fn records(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(record).collect()
}

fn small_segments() -> Options {
    Options {
        segment_bytes: 2000,
        sealing: Sealing::Off,
        checkpoint_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// The checkpoint's file is there with each commit, so that the folder can be read while the log is open.
fn at_once() -> Options {
    Options { checkpoint_interval: Duration::ZERO, ..Options::default() }
}

/// A log of `size` records in commits of 1, 2, 3 … 7, 1, 2 … records, over several segments.
fn filled(dir: &Path, size: u64) -> Log {
    let mut log = FileLog::create_with(dir, signer(), small_segments()).unwrap();
    let mut step = 0;
    while log.size() < size {
        let end = (log.size() + step % 7 + 1).min(size);
        log.append(&records(log.size()..end)).unwrap();
        step += 1;
    }
    log
}

fn reopen(dir: &Path) -> Result<Log, writ_ledger::OpenError> {
    FileLog::open_with(dir, signer(), small_segments())
}

fn assert_holds(log: &Log, size: u64) {
    assert_eq!(log.size(), size);
    let found: Vec<_> = log.reader().read_range(0..u64::MAX).map(|r| r.unwrap()).collect();
    let expected: Vec<_> = (0..size).map(|seq| (seq, record(seq).into_bytes())).collect();
    assert!(found == expected, "the records are not those that were appended");
}
