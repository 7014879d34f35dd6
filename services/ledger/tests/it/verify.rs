use std::path::Path;

use writ_ledger::store::{Damage, Problem};
use writ_ledger::{Finding, OpenError, Report, SigningKey, verify_log};

use super::store::segment_with;
use super::{filled, key, records};

fn verify(dir: &Path) -> Report {
    verify_log(dir, &key()).unwrap()
}

#[test]
fn a_sound_log_is_found_sound() {
    let dir = tempfile::tempdir().unwrap();
    for size in [0, 1, 600] {
        let dir = dir.path().join(size.to_string());
        let log = filled(&dir, size);
        let report = verify(&dir);
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!((report.records, report.unsigned_records()), (size, 0));
        assert_eq!(report.checkpoint.as_ref(), Some(log.reader().checkpoint().checkpoint()));
    }
    assert!(matches!(verify_log(dir.path(), &key()), Err(OpenError::NoLog(_))));
    let other = SigningKey::from_seed("writ.example/log", [8; 32]).unwrap().verifier_key();
    assert!(!verify_log(&dir.path().join("600"), &other).unwrap().is_sound());
}

#[test]
fn every_altered_byte_is_found_in_the_file_that_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 17));
    let segments = dir.path().join("segments");
    let mut files: Vec<_> =
        std::fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.extend([dir.path().join("tiles/0"), dir.path().join("checkpoint")]);
    for file in files {
        let good = std::fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut lines = 0;
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&file, &bytes).unwrap();
            let report = verify(dir.path());
            assert!(!report.is_sound(), "{name} byte {at}");
            if file.starts_with(&segments) {
                let first: u64 = name.trim_end_matches(".jsonl").parse().unwrap();
                let named = report.findings.iter().any(|finding| match finding {
                    // Without its end, the last commit is lost from its first record on.
                    Finding::Record(Damage { segment, seq, problem: Problem::Unfinished, .. }) => {
                        segment == name && (first..=first + lines).contains(seq)
                    }
                    Finding::Record(Damage { segment, seq, .. }) => {
                        segment == name && seq.abs_diff(first + lines) <= 1
                    }
                    _ => false,
                });
                assert!(named, "{name} byte {at}, record {}: {:?}", first + lines, report.findings);
            } else if name == "checkpoint" {
                assert!(matches!(report.findings[..], [Finding::Checkpoint(_)]), "{:?}", report.findings);
            } else {
                let hash = at as u64 / 32;
                assert_eq!(report.findings, [Finding::Tile { level: 0, hash, missing: false }]);
            }
            lines += u64::from(good[at] == b'\n' && good[at - 1] != b'\n');
        }
        std::fs::write(&file, good).unwrap();
    }
    assert!(verify(dir.path()).is_sound());
}

#[test]
fn an_edited_record_is_named_to_the_byte_and_only_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 600));
    let (path, bytes) = segment_with(dir.path(), "record number 300\"");
    let text = String::from_utf8(bytes).unwrap();
    let offset = text.find("{\"v\":1,\"seq\":300,").unwrap() as u64;
    std::fs::write(&path, text.replace("record number 300\"", "record number 003\"")).unwrap();
    let segment = path.file_name().unwrap().to_str().unwrap().to_owned();
    let record = Damage { segment, seq: 300, offset, problem: Problem::Altered };
    assert_eq!(verify(dir.path()).findings, [Finding::Record(record), Finding::RootMismatch { signed: 600 }]);
}

#[test]
fn an_altered_upper_tile_is_named_even_beside_an_altered_record() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 600));
    let tile = dir.path().join("tiles/1");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[33] ^= 4;
    std::fs::write(&tile, bytes).unwrap();
    let upper = Finding::Tile { level: 1, hash: 1, missing: false };
    assert_eq!(verify(dir.path()).findings, std::slice::from_ref(&upper));
    let (path, bytes) = segment_with(dir.path(), "record number 10\"");
    std::fs::write(&path, String::from_utf8(bytes).unwrap().replace("number 10\"", "number 01\"")).unwrap();
    let report = verify(dir.path());
    assert!(report.findings.contains(&upper), "{:?}", report.findings);
    assert!(report.findings.iter().any(|f| matches!(f, Finding::Record(damage) if damage.seq == 10)));
}

#[test]
fn missing_parts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 600));
    let hide = |name: &str, check: &dyn Fn(Report)| {
        let (path, hidden) = (dir.path().join(name), dir.path().join("hidden"));
        std::fs::rename(&path, &hidden).unwrap();
        check(verify(dir.path()));
        std::fs::rename(&hidden, &path).unwrap();
    };
    hide("checkpoint", &|report| assert!(matches!(report.findings[..], [Finding::Checkpoint(_)])));
    hide("tiles/0", &|report| {
        assert_eq!(report.findings, [Finding::Tile { level: 0, hash: 0, missing: true }]);
    });
    hide("tiles", &|report| assert_eq!(report.findings.len(), 2));
    hide("segments/00000000000000000000.jsonl", &|report| {
        let first = |f: &Finding| {
            matches!(f, Finding::Record(Damage { seq: 0, problem: Problem::NotContiguous { .. }, .. }))
        };
        assert!(report.findings.iter().any(first), "{:?}", report.findings);
    });
}

#[test]
fn a_rolled_back_copy_under_the_newest_checkpoint_is_truncated_and_an_open_end_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 10);
    let (path, older) = segment_with(dir.path(), "record number 9\"");
    log.append(&records(10..12)).unwrap();
    drop(log);
    let newest = std::fs::read(&path).unwrap();
    std::fs::write(&path, &older).unwrap();
    assert_eq!(verify(dir.path()).findings, [Finding::Truncated { signed: 12, found: 10 }]);
    std::fs::write(&path, [newest.as_slice(), b"{\"half\":"].concat()).unwrap();
    let report = verify(dir.path());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.unfinished_bytes, 8);
}
