use std::path::Path;

use writ_ledger::{FileLog, Log, OpenError, Signer};

use super::suite::{Place, suite};
use super::{assert_holds, filled, key, records, reopen, small_segments};

/// A folder.
struct Folder(tempfile::TempDir);

impl Place for Folder {
    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn create_with(&self, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
        FileLog::create_with(self.dir(), signer, small_segments())
    }

    fn open_with(&self, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
        FileLog::open_with(self.dir(), signer, small_segments())
    }
}

suite!(Folder(tempfile::tempdir().unwrap()));

#[test]
fn a_copy_is_read_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 310);
    let copy = FileLog::open_read_only(dir.path(), &key()).unwrap();
    assert_eq!(copy.checkpoint(), log.reader().checkpoint());
}

#[test]
fn an_empty_folder_is_no_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::NoLog(_))));
    assert!(matches!(FileLog::open_read_only(dir.path(), &key()), Err(OpenError::NoLog(_))));
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

pub fn segment_with(dir: &Path, text: &str) -> (std::path::PathBuf, Vec<u8>) {
    std::fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(text))
        .unwrap()
}
