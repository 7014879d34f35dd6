use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use writ_ledger::store::{MAX_COMMIT_RECORDS, RecordProblem, StoreError};
use writ_ledger::tile::{MAX_RECORD_BYTES, TilePath, decode_entries};
use writ_ledger::{AppendError, FileLog, OpenError, ProofFile, ReadError, SignedCheckpoint, leaf_hash};

use super::{ORIGIN, assert_holds, filled, key, record, records, reopen, signer};

#[test]
fn what_is_appended_is_read_and_proven() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 600);
    assert_holds(&log, 600);
    let reader = log.reader();
    let signed = reader.checkpoint();
    let checkpoint = SignedCheckpoint::verify(signed.text(), &key(), ORIGIN).unwrap();
    assert_eq!(checkpoint.size, 600);
    for index in (0..600).step_by(7).chain([599]) {
        assert_eq!(reader.read(index).unwrap(), record(index).into_bytes());
        let proof = reader.inclusion(index, 600).unwrap();
        proof.verify(&leaf_hash(record(index).as_bytes()), &checkpoint.root).unwrap();
    }
    let file: ProofFile = reader.proof_file(5).unwrap().to_string().parse().unwrap();
    assert_eq!(file.verify(record(5).as_bytes(), &key()).unwrap(), checkpoint);
    for old in [0, 1, 255, 256, 257, 511, 599, 600] {
        let proof = reader.consistency(old, 600).unwrap();
        proof.verify(&reader.root(old).unwrap(), &checkpoint.root).unwrap();
    }
    assert!(matches!(reader.read(600), Err(ReadError::NotThere { seq: 600 })));
    assert!(matches!(reader.read(u64::MAX), Err(ReadError::NotThere { .. })));
    assert!(matches!(reader.inclusion(3, 601), Err(ReadError::Beyond { .. })));
    assert!(matches!(reader.inclusion(5, 5), Err(ReadError::NoSuchProof { .. })));
    assert!(matches!(reader.consistency(5, 4), Err(ReadError::NoSuchProof { .. })));
    assert_eq!(reader.read_range(598..u64::MAX).count(), 2);
}

#[test]
fn a_log_survives_reopening_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(dir.path(), 300).reader().checkpoint();
    let mut log = reopen(dir.path()).unwrap();
    assert_eq!(log.recovery(), Default::default());
    assert_eq!(log.reader().checkpoint(), before);
    let commit = log.append(&records(300..310)).unwrap();
    assert_eq!((commit.first, commit.size), (300, 310));
    assert_holds(&log, 310);
    assert!(matches!(reopen(dir.path()), Err(OpenError::Locked(_))), "a second writer is kept out");
    let copy = FileLog::open_read_only(dir.path(), &key()).unwrap();
    assert_eq!(copy.checkpoint(), log.reader().checkpoint());
    assert!(matches!(FileLog::create(dir.path(), signer()), Err(OpenError::Exists(_))));
}

#[test]
fn an_empty_folder_is_no_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::NoLog(_))));
    assert!(matches!(FileLog::open_read_only(dir.path(), &key()), Err(OpenError::NoLog(_))));
}

#[test]
fn bad_records_are_refused_by_name_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    let refused = |result: Result<_, AppendError>| match result {
        Err(AppendError::Store(StoreError::BadRecord { index, problem })) => (index, problem),
        other => panic!("{other:?}"),
    };
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD_BYTES));
    let batch = |bad: &str| vec![record(3), bad.to_owned(), record(4)];
    assert_eq!(refused(log.append(&batch(&large))), (1, RecordProblem::TooLarge(MAX_RECORD_BYTES + 8)));
    assert_eq!(refused(log.append(&batch("{\n}"))), (1, RecordProblem::LineBreakOrNul(1)));
    assert_eq!(refused(log.append(&batch("[]"))), (1, RecordProblem::NotAnObject));
    let none: [&[u8]; 0] = [];
    assert!(matches!(log.append(&none), Err(AppendError::Store(StoreError::EmptyBatch))));
    let many = vec!["{}"; MAX_COMMIT_RECORDS + 1];
    assert!(matches!(log.append(&many), Err(AppendError::Store(StoreError::BatchTooLarge { .. }))));
    assert_holds(&log, 3);
    log.append(&records(3..5)).unwrap();
    drop(log);
    assert_holds(&reopen(dir.path()).unwrap(), 5);
}

#[test]
fn tiles_publish_the_whole_tree() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 520);
    let (mut leaves, mut entries) = (Vec::new(), Vec::new());
    for path in TilePath::all(520) {
        let bytes = log.reader().tile(&path).unwrap().unwrap_or_else(|| panic!("{path} is missing"));
        if path.to_string().starts_with("tile/0/") {
            leaves.extend(bytes);
        } else if path.to_string().starts_with("tile/entries/") {
            entries.extend(decode_entries(&bytes).unwrap().into_iter().map(<[u8]>::to_vec));
        }
    }
    assert_eq!(entries, records(0..520).into_iter().map(String::into_bytes).collect::<Vec<_>>());
    assert_eq!(leaves, entries.iter().flat_map(|entry| leaf_hash(entry).0).collect::<Vec<_>>());
    for beyond in [
        "tile/0/002.p/9",
        "tile/0/003",
        "tile/1/000.p/3",
        "tile/2/000.p/1",
        "tile/9/000.p/1",
        "tile/entries/002",
    ] {
        assert_eq!(log.reader().tile(&beyond.parse().unwrap()).unwrap(), None, "{beyond}");
    }
    assert!(
        log.reader().tile(&"tile/0/001.p/3".parse().unwrap()).unwrap().is_some(),
        "older partial tiles stay"
    );
}

#[test]
fn missing_or_damaged_tiles_are_made_again_and_a_copy_without_tiles_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(dir.path(), 600).reader().inclusion(300, 600).unwrap();
    let level = dir.path().join("tiles/0");
    let good = std::fs::read(&level).unwrap();
    for damage in 0..3 {
        let mut bytes = good.clone();
        match damage {
            0 => bytes.truncate(77),
            1 => bytes[40] ^= 1,
            _ => bytes.extend([0; 64]),
        }
        std::fs::write(&level, bytes).unwrap();
        let copy = FileLog::open_read_only(dir.path(), &key()).unwrap();
        assert_eq!(copy.inclusion(300, 600).unwrap(), before);
        let log = reopen(dir.path()).unwrap();
        assert_eq!(log.recovery().tiles_rebuilt, damage != 2);
        assert_eq!(log.reader().inclusion(300, 600).unwrap(), before);
        assert_eq!(std::fs::read(&level).unwrap(), good);
    }
    std::fs::remove_dir_all(dir.path().join("tiles")).unwrap();
    assert_eq!(FileLog::open_read_only(dir.path(), &key()).unwrap().inclusion(300, 600).unwrap(), before);
    assert!(reopen(dir.path()).unwrap().recovery().tiles_rebuilt);
    assert_eq!(std::fs::read(&level).unwrap(), good);
}

#[test]
fn a_missing_or_older_checkpoint_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 20);
    let path = dir.path().join("checkpoint");
    let older = std::fs::read(&path).unwrap();
    log.append(&records(20..23)).unwrap();
    let newest = std::fs::read(&path).unwrap();
    drop(log);
    for (found, newly) in [(Some(older), 3), (Some(Vec::new()), 23), (Some(vec![0; 150]), 23), (None, 23)] {
        match found {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert_eq!(reopen(dir.path()).unwrap().recovery().newly_signed, newly);
        assert_eq!(std::fs::read(&path).unwrap(), newest);
    }
}

#[test]
fn a_rewritten_history_is_refused_and_the_record_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 50));
    let (segment, bytes) = segment_with(dir.path(), "record number 31\"");
    let forged =
        String::from_utf8(bytes.clone()).unwrap().replace("record number 31\"", "record number 13\"");
    std::fs::write(&segment, forged).unwrap();
    let error = reopen(dir.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::HistoryChanged { signed: 50, first: Some(damage) } if damage.seq == 31),
        "{error}"
    );
    assert!(error.to_string().contains("record 31"), "{error}");
    assert!(FileLog::open_read_only(dir.path(), &key()).is_err());
    std::fs::write(&segment, bytes).unwrap();
    assert_holds(&reopen(dir.path()).unwrap(), 50);
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 200));
    let mut segments: Vec<_> =
        std::fs::read_dir(dir.path().join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() > 3);
    let hidden = dir.path().join("hidden");
    for (at, segment) in segments.iter().enumerate() {
        std::fs::rename(segment, &hidden).unwrap();
        let error = reopen(dir.path()).unwrap_err();
        if at + 1 == segments.len() {
            assert!(matches!(error, OpenError::Truncated { signed: 200, .. }), "{error}");
        } else {
            assert!(matches!(error, OpenError::Damaged(_)), "{error}");
        }
        std::fs::rename(&hidden, segment).unwrap();
    }
    assert_holds(&reopen(dir.path()).unwrap(), 200);
}

#[test]
fn readers_beside_the_writer_see_whole_commits_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 0);
    let (reader, done) = (log.reader().clone(), AtomicBool::new(false));
    let sizes = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut sizes = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let signed = reader.checkpoint();
                let size = signed.checkpoint().size;
                sizes.insert(size);
                assert_eq!(reader.root(size).unwrap(), signed.checkpoint().root);
                if let Some(last) = size.checked_sub(1) {
                    assert_eq!(reader.read(last).unwrap(), record(last).into_bytes());
                }
            }
            sizes
        });
        for commit in 0..100 {
            log.append(&records(commit * 5..commit * 5 + 5)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(sizes.iter().all(|size| size % 5 == 0), "{sizes:?}");
}

pub fn segment_with(dir: &std::path::Path, text: &str) -> (std::path::PathBuf, Vec<u8>) {
    std::fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(text))
        .unwrap()
}
