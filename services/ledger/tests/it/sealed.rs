//! Sealed segments: what is in the files, and what happens when they are damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use writ_ledger::store::{Options, Problem, Sealing};
use writ_ledger::{FileLog, Finding, Log, OpenError, ReadError, verify_log};

use super::simdisk::Random;
use super::{assert_holds, key, record, records, signer};

fn sealing(segment_bytes: u64) -> Options {
    Options {
        segment_bytes,
        sealing: Sealing::WhileAppending,
        checkpoint_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// A log with several sealed segments, some with a plain copy still, and a plain one at the end.
fn sealed_log(dir: &Path, size: u64) -> Log {
    let mut log = FileLog::create_with(dir, signer(), sealing(2000)).unwrap();
    while log.size() < size {
        let end = (log.size() + log.size() % 11 + 1).min(size);
        log.append(&records(log.size()..end)).unwrap();
    }
    log
}

fn reopen(dir: &Path) -> Result<Log, OpenError> {
    FileLog::open_with(dir, signer(), sealing(2000))
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

fn names(dir: &Path, ending: &str) -> Vec<PathBuf> {
    files(&dir.join("segments")).into_keys().filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

fn output(command: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(command).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn zstdcat_gives_the_plain_segments_and_jq_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, sealed) = (dir.path().join("plain"), dir.path().join("sealed"));
    let unsealed = Options { sealing: Sealing::Off, ..sealing(2000) };
    let mut log = FileLog::create_with(&plain, signer(), unsealed).unwrap();
    log.append(&records(0..1)).unwrap();
    while log.size() < 300 {
        let end = (log.size() + log.size() % 11 + 1).min(300);
        log.append(&records(log.size()..end)).unwrap();
    }
    drop(sealed_log(&sealed, 300));
    let (plain, sealed) = (names(&plain, ".jsonl"), names(&sealed, ".zst"));
    assert_eq!(sealed.len(), plain.len() - 1, "all but the last are sealed");
    for (plain, sealed) in plain.iter().zip(&sealed) {
        let text = output("zstdcat", &[sealed.to_str().unwrap()]);
        assert_eq!(text, std::fs::read(plain).unwrap());
    }
    let all = format!("zstdcat {} | jq .seq", dir.path().join("sealed/segments/*.zst").display());
    let numbers = String::from_utf8(output("sh", &["-c", &all])).unwrap();
    assert!(numbers.lines().enumerate().all(|(seq, line)| line == seq.to_string()), "{numbers}");
    assert!(numbers.lines().count() > 200);
}

#[test]
fn any_record_of_a_large_sealed_segment_is_read_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(dir.path(), signer(), sealing(1_500_000)).unwrap();
    while names(dir.path(), ".zst").len() < 2 {
        log.append(&records(log.size()..log.size() + 5000)).unwrap();
    }
    let size = log.size();
    for reader in [log.reader().clone(), FileLog::open_read_only(dir.path(), &key()).unwrap()] {
        for seq in (0..size).step_by(977) {
            assert_eq!(reader.read(seq).unwrap(), record(seq).into_bytes(), "{seq}");
        }
        assert_eq!(reader.read_range(0..size).map(Result::unwrap).count() as u64, size);
    }
    let memory = log.reader().index_bytes();
    assert!(memory < size as usize, "{memory} bytes of index for {size} records");
    drop(log);
    let mut log = reopen(dir.path()).unwrap();
    log.append(&records(size..size + 3)).unwrap();
    assert_holds(&log, size + 3);
    assert!(verify_log(dir.path(), &key()).unwrap().is_sound());
}

#[test]
fn a_replay_delivers_every_record_in_order_and_notices_any_that_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(dir.path(), signer(), sealing(700_000)).unwrap();
    while names(dir.path(), ".zst").len() < 2 {
        log.append(&records(log.size()..log.size() + 3000)).unwrap();
    }
    let size = log.size();
    let replayed = |range: std::ops::Range<u64>, threads| {
        let mut found = Vec::new();
        let decode = |seq: u64, bytes: &[u8]| (seq, bytes.to_vec());
        let each = |item| {
            found.push(item);
            Ok::<(), ReadError>(())
        };
        log.reader().replay(range, threads, decode, each).map(|()| found)
    };
    for (range, threads) in [(0..u64::MAX, 1), (0..u64::MAX, 3), (0..size - 7, 2), (1234..size, 2), (5..5, 2)]
    {
        let expected: Vec<_> =
            (range.start..range.end.min(size)).map(|seq| (seq, record(seq).into_bytes())).collect();
        assert!(replayed(range.clone(), threads).unwrap() == expected, "{range:?} by {threads}");
    }
    let stopped = log.reader().replay(
        0..size,
        2,
        |seq, _| seq,
        |seq| match seq {
            0..500 => Ok(()),
            _ => Err(ReadError::NotThere { seq }),
        },
    );
    assert!(matches!(stopped, Err(ReadError::NotThere { seq: 500 })), "{stopped:?}");
    let sealed = names(dir.path(), ".zst")[1].clone();
    let mut bytes = std::fs::read(&sealed).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&sealed, bytes).unwrap();
    for threads in [1, 2] {
        assert!(matches!(replayed(0..size, threads), Err(ReadError::Changed { .. })));
    }
}

#[test]
fn a_plain_copy_is_kept_for_two_segments_and_then_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = sealed_log(dir.path(), 400);
    let (plain, sealed) = (names(dir.path(), ".jsonl"), names(dir.path(), ".zst"));
    assert!(sealed.len() > 5);
    assert_eq!(plain.len(), 3, "two copies and the last segment");
    drop(log);
    // What a first `rsync` left behind, and a crash while sealing.
    std::fs::write(dir.path().join("segments/00000000000000000000.jsonl"), b"{\"half a rec").unwrap();
    std::fs::write(sealed[0].with_extension("zst.new"), b"half").unwrap();
    assert!(verify_log(dir.path(), &key()).unwrap().is_sound());
    let mut log = reopen(dir.path()).unwrap();
    assert_holds(&log, 400);
    log.append(&records(400..500)).unwrap();
    log.append(&records(500..501)).unwrap();
    assert_holds(&log, 501);
}

#[test]
fn opening_reads_no_sealed_record_and_reading_a_damaged_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(sealed_log(dir.path(), 300));
    let sealed = names(dir.path(), ".zst")[1].clone();
    let first: u64 = sealed.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap();
    let good = std::fs::read(&sealed).unwrap();
    let mut bytes = good.clone();
    bytes[40] ^= 1;
    std::fs::write(&sealed, bytes).unwrap();
    let log = reopen(dir.path()).unwrap();
    assert!(matches!(log.reader().read(first), Err(ReadError::Changed { seq, .. }) if seq == first));
    assert_eq!(log.reader().read(first - 1).unwrap(), record(first - 1).into_bytes());
    drop(log);
    let report = verify_log(dir.path(), &key()).unwrap();
    let Some(Finding::Record(damage)) = report.findings.first() else { panic!("{:?}", report.findings) };
    assert!(matches!(damage.problem, Problem::Frame(_)), "{damage}");
    assert_eq!(Some(damage.segment.as_str()), sealed.file_name().unwrap().to_str());
    std::fs::write(&sealed, &good).unwrap();
    assert_holds(&reopen(dir.path()).unwrap(), 300);
}

#[test]
fn a_damaged_index_is_made_anew_and_a_plain_copy_stands_in() {
    let dir = tempfile::tempdir().unwrap();
    drop(sealed_log(dir.path(), 400));
    for sealed in names(dir.path(), ".zst") {
        let good = std::fs::read(&sealed).unwrap();
        let has_copy = sealed.with_extension("").exists();
        for at in [good.len() - 1, good.len() - 30, good.len() - 60, good.len() - 100] {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            std::fs::write(&sealed, &bytes).unwrap();
            let reader = FileLog::open_read_only(dir.path(), &key()).unwrap();
            assert_eq!(reader.read_range(0..400).map(Result::unwrap).count(), 400);
            assert_holds(&reopen(dir.path()).unwrap(), 400);
            if has_copy {
                std::fs::write(&sealed, &good).unwrap();
            } else {
                assert_eq!(std::fs::read(&sealed).unwrap(), good, "byte {at}");
            }
        }
    }
    assert!(verify_log(dir.path(), &key()).unwrap().is_sound());
}

#[test]
fn a_flipped_bit_anywhere_is_healed_or_refused_with_what_to_do_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    drop(sealed_log(dir.path(), 400));
    std::fs::write(dir.path().join("lock"), b"whatever").unwrap();
    let good = files(dir.path());
    let mut random = Random(7);
    for path in good.keys() {
        for _ in 0..4 {
            let mut bytes = good[path].clone();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            std::fs::write(path, bytes).unwrap();
            let place = format!("{} byte {at}", path.display());
            match reopen(dir.path()) {
                Ok(log) => {
                    assert_eq!(log.size(), 400, "{place}");
                    for seq in 0..400 {
                        match log.reader().read(seq) {
                            Ok(found) => assert_eq!(found, record(seq).into_bytes(), "{place}"),
                            Err(error) => assert!(error.to_string().contains("writ log verify"), "{error}"),
                        }
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("restore") || error.contains("give the key"), "{place}: {error}");
                }
            }
            for path in files(dir.path()).keys().filter(|path| !good.contains_key(*path)) {
                std::fs::remove_file(path).unwrap();
            }
            for (path, bytes) in &good {
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
    assert!(verify_log(dir.path(), &key()).unwrap().is_sound());
}

#[test]
fn a_segment_that_cannot_be_sealed_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(dir.path(), signer(), sealing(2000)).unwrap();
    // Where the sealed segment is to be made stands something that is no file.
    let obstacle = dir.path().join("segments/00000000000000000000.jsonl.zst.new");
    std::fs::create_dir(&obstacle).unwrap();
    let grow = |log: &mut Log| {
        let size = log.size();
        log.append(&records(size..size + 40)).unwrap();
    };
    assert_eq!(log.upkeep_failure(), None);
    (0..4).for_each(|_| grow(&mut log));
    let failure = log.upkeep_failure().unwrap();
    assert!(failure.contains("segments: a full segment was not compressed: "), "{failure}");
    std::fs::remove_dir(&obstacle).unwrap();
    (0..4).for_each(|_| grow(&mut log));
    assert_eq!(log.upkeep_failure(), None);
    assert!(!names(dir.path(), ".zst").is_empty());
}
