//! Crashes and faulty disks, many of them. What holds after each:
//!
//! - every acknowledged record is there, and no record that was refused;
//! - every checkpoint that was shown is one of the tree as it is now;
//! - opening succeeds when the disk works again.
//!
//! `WRIT_LEDGER_KILLS=2000` and `WRIT_LEDGER_SEEDS=20000` run more of them than the everyday run does; a failure names its seed,
//! and `WRIT_LEDGER_SEED=N` runs that one alone.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use writ_ledger::store::{Options, Sealing};
use writ_ledger::{FileLog, Hash, Log, verify_log};

use super::simdisk::{Faults, Random, SimDisk};
use super::{key, record, records, signer};

fn setting(name: &str, everyday: u64) -> u64 {
    std::env::var(name).map_or(everyday, |text| text.parse().unwrap())
}

/// What the world was told.
#[derive(Default)]
struct World {
    acknowledged: Vec<Vec<u8>>,
    /// Records of a commit of which nobody could tell whether it was stored.
    unknown: Vec<Vec<u8>>,
    shown: Vec<(u64, Hash)>,
}

impl World {
    /// Compares a log that was just opened; what it shows counts as shown.
    fn check(&mut self, log: &Log) {
        let found: Vec<Vec<u8>> =
            log.reader().read_range(0..u64::MAX).map(|entry| entry.unwrap().1).collect();
        assert_eq!(found.len() as u64, log.size());
        let known = self.acknowledged.len();
        assert!(found.len() >= known, "{} records of {known} that were acknowledged are there", found.len());
        assert!(found[..known] == self.acknowledged, "an acknowledged record is another one now");
        assert!(
            found.len() == known || found[known..] == self.unknown,
            "the log holds records that were refused, or parts of a commit"
        );
        self.acknowledged = found;
        self.unknown.clear();
        for (size, root) in &self.shown {
            assert_eq!(log.reader().root(*size).unwrap(), *root, "the checkpoint of size {size} was shown");
        }
        self.show(log);
    }

    fn show(&mut self, log: &Log) {
        let signed = log.reader().checkpoint();
        self.shown.push((signed.checkpoint().size, signed.checkpoint().root));
    }
}

/// A commit of up to 30 records of up to 700 bytes, none like another.
fn commit(random: &mut Random) -> Vec<Vec<u8>> {
    let count = if random.one_in(2) { 1 } else { random.below(30) + 1 };
    commit_of(count, random)
}

/// One in three is so large that its hashes are made and written while its lines are.
fn commit_of_any_size(random: &mut Random) -> Vec<Vec<u8>> {
    let count = random.below(40) + if random.one_in(3) { 150 } else { 1 };
    commit_of(count, random)
}

fn commit_of(count: u64, random: &mut Random) -> Vec<Vec<u8>> {
    let mut record = || {
        let (id, length) = (random.next(), random.below(random.clone().below(700) + 1));
        format!("{{\"id\":{id},\"text\":\"{}\"}}", "x".repeat(length as usize)).into_bytes()
    };
    (0..count).map(|_| record()).collect()
}

fn on(disk: &SimDisk) -> Options {
    Options {
        segment_bytes: 6000,
        sealing: Sealing::WhileAppending,
        checkpoint_interval: Duration::ZERO,
        disk: Arc::new(disk.clone()),
    }
}

/// Lives of one log on one disk: each begins with a start of the machine and ends with a power cut.
fn lives(seed: u64, commit: fn(&mut Random) -> Vec<Vec<u8>>) {
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let mut world = World::default();
    drop(FileLog::create(&dir, signer()).unwrap());
    for _ in 0..random.below(5) + 2 {
        let one_in =
            |random: &mut Random, count: u64| if random.one_in(3) { random.below(count) + 3 } else { 0 };
        let faults = Faults {
            full: one_in(&mut random, 60),
            sync: one_in(&mut random, 60),
            other: one_in(&mut random, 60),
        };
        let disk = SimDisk::new(folder.path(), random.next(), faults, random.below(600));
        for _ in 0..4 {
            life_of_a_process(&dir, &disk, &mut world, &mut random, commit);
        }
        disk.cut();
    }
    let mut log = FileLog::open(&dir, signer()).unwrap();
    world.check(&log);
    log.append(&commit(&mut random)).unwrap();
    drop(log);
    let report = verify_log(&dir, &key()).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

fn life_of_a_process(
    dir: &Path,
    disk: &SimDisk,
    world: &mut World,
    random: &mut Random,
    commit: fn(&mut Random) -> Vec<Vec<u8>>,
) {
    let mut log = match FileLog::open_with(dir, signer(), on(disk)) {
        Ok(log) => log,
        Err(error) => {
            // Of the faults of this disk, not of what it holds.
            assert!(disk.has_failed(), "{error}");
            return;
        }
    };
    world.check(&log);
    for _ in 0..random.below(60) {
        let records = commit(random);
        match log.append(&records) {
            Ok(commit) => {
                assert_eq!(commit.first, world.acknowledged.len() as u64);
                world.acknowledged.extend(records);
                world.show(&log);
            }
            Err(error) if error.is_unknown() => {
                world.unknown = records;
                return;
            }
            // Refused as a whole, or in doubt about an earlier one.
            Err(_) => {}
        }
    }
}

#[test]
fn whatever_a_power_cut_leaves_every_acknowledged_record_is_there() {
    if let Ok(seed) = std::env::var("WRIT_LEDGER_SEED") {
        return lives(seed.parse().unwrap(), commit);
    }
    let seeds = setting("WRIT_LEDGER_SEEDS", 120);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for seed in (half..seeds).step_by(2) {
                    let outcome = std::panic::catch_unwind(|| lives(seed, commit));
                    assert!(outcome.is_ok(), "run again with WRIT_LEDGER_SEED={seed}");
                }
            });
        }
    });
}

/// With two threads at work a seed stands for many orders of events, so a failure may need several runs to come again.
#[test]
fn whatever_a_power_cut_leaves_of_large_commits_every_acknowledged_record_is_there() {
    (0..setting("WRIT_LEDGER_SEEDS", 120) / 12).for_each(|seed| lives(seed, commit_of_any_size));
}

const CHILD_DIR: &str = "WRIT_LEDGER_TORTURE_DIR";

fn in_small_segments() -> Options {
    Options { segment_bytes: 20_000, ..Options::default() }
}

/// Not a test by itself: the process that the next test kills. It says on its standard output what it was acknowledged.
#[test]
fn child_that_appends_until_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let mut log = FileLog::open_with(Path::new(&dir), signer(), in_small_segments()).unwrap();
    let mut out = std::io::stdout();
    loop {
        let first = log.size();
        let commit = log.append(&records(first..first + 1 + first % 40)).unwrap();
        let root = log.reader().checkpoint().checkpoint().root;
        writeln!(out, "acknowledged {} {root}", commit.size).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_writer_killed_at_any_moment_loses_nothing_acknowledged() {
    let (kills, seed) = (setting("WRIT_LEDGER_KILLS", 40), setting("WRIT_LEDGER_SEED", 1));
    let mut random = Random(seed);
    let mut folder = tempfile::tempdir().unwrap();
    let mut shown = new_log(folder.path());
    for kill in 0..kills {
        if shown.last().is_some_and(|(size, _)| *size > 60_000) {
            folder = tempfile::tempdir().unwrap();
            shown = new_log(folder.path());
        }
        let acknowledged = kill_a_writer(folder.path(), Duration::from_micros(random.below(30_000)));
        shown.extend(acknowledged.last().copied());
        let reader = FileLog::open_read_only(folder.path(), &key()).unwrap();
        let size = shown.last().map_or(0, |(size, _)| *size);
        assert!(
            reader.size() + 10_000 >= size,
            "kill {kill}: the checkpoint file covers {} of {size} records",
            reader.size()
        );
        if random.one_in(4) {
            let log = FileLog::open_with(folder.path(), signer(), in_small_segments()).unwrap();
            assert!(log.size() >= size, "kill {kill}: {} of {size} records are there", log.size());
            for (size, root) in &shown {
                assert_eq!(log.reader().root(*size).unwrap(), *root, "kill {kill}: shown at size {size}");
            }
            for (_, (seq, found)) in log.reader().read_range(0..u64::MAX).map(|r| ((), r.unwrap())) {
                assert!(found == record(seq).as_bytes(), "kill {kill}: record {seq}");
            }
            let report = verify_log(folder.path(), &key()).unwrap();
            assert!(report.is_sound(), "kill {kill}: {:?}", report.findings);
        }
    }
    let segments = std::fs::read_dir(folder.path().join("segments")).unwrap();
    let is_sealed = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".zst");
    assert!(segments.map(|entry| entry.unwrap().file_name()).any(is_sealed), "nothing was sealed under way");
}

fn new_log(dir: &Path) -> Vec<(u64, Hash)> {
    drop(FileLog::create(dir, signer()).unwrap());
    Vec::new()
}

/// Starts a writer, kills it some time after its first commit, and returns what it was acknowledged.
fn kill_a_writer(dir: &Path, after: Duration) -> Vec<(u64, Hash)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "torture::child_that_appends_until_killed", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = |line: std::io::Result<String>| {
        let line = line.ok()?;
        let (size, root) = line.split_once("acknowledged ")?.1.split_once(' ')?;
        Some((size.parse().ok()?, root.parse().ok()?))
    };
    let mut found: Vec<(u64, Hash)> = Vec::new();
    while found.is_empty() {
        let line = lines.next();
        assert!(line.is_some(), "the writer ended by itself");
        found.extend(line.and_then(acknowledged));
    }
    let reading = std::thread::spawn(move || lines.filter_map(acknowledged).collect::<Vec<_>>());
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    found.extend(reading.join().unwrap());
    found
}
