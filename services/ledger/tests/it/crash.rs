use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use writ_ledger::disk::{Disk, DiskFile, OsDisk};
use writ_ledger::store::{Options, StoreError};
use writ_ledger::{AppendError, FileLog, Log, OpenError};

use super::{assert_holds, filled, record, records, reopen, signer, small_segments};

#[test]
fn a_commit_cut_at_any_byte_is_gone_and_everything_before_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 21);
    let checkpoint = std::fs::read(dir.path().join("checkpoint")).unwrap();
    let segment = last_segment(dir.path());
    let before = std::fs::metadata(&segment).unwrap().len();
    log.append(&records(21..24)).unwrap();
    drop(log);
    let whole = std::fs::read(&segment).unwrap();
    let zeroed = |cut: usize| {
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        bytes
    };
    let holed = |cut: usize| {
        let mut bytes = whole.clone();
        let end = (cut + 9).min(bytes.len() - 2);
        bytes[cut.min(end)..end].fill(0);
        bytes
    };
    for cut in before as usize..whole.len() {
        for torn in [whole[..cut].to_vec(), zeroed(cut), holed(cut)] {
            let intact = torn == whole;
            std::fs::write(&segment, torn).unwrap();
            std::fs::write(dir.path().join("checkpoint"), &checkpoint).unwrap();
            let log = reopen(dir.path()).unwrap();
            assert_holds(&log, if intact { 24 } else { 21 });
        }
    }
    std::fs::write(&segment, &whole[..before as usize]).unwrap();
    std::fs::write(dir.path().join("checkpoint"), &checkpoint).unwrap();
    let mut log = reopen(dir.path()).unwrap();
    log.append(&records(21..25)).unwrap();
    drop(log);
    assert_holds(&reopen(dir.path()).unwrap(), 25);
}

#[test]
fn a_commit_that_a_checkpoint_covers_is_never_cut_away() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 24));
    let segment = last_segment(dir.path());
    let whole = std::fs::read(&segment).unwrap();
    for cut in [1, 2, 5, 40] {
        std::fs::write(&segment, &whole[..whole.len() - cut]).unwrap();
        let error = reopen(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Truncated { signed: 24, .. }), "{error}");
        assert_eq!(
            std::fs::metadata(&segment).unwrap().len(),
            (whole.len() - cut) as u64,
            "evidence is left alone"
        );
    }
    let mut torn = whole.clone();
    let at = whole.len() - 10;
    torn[at] = 0;
    std::fs::write(&segment, torn).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::Damaged(damage)) if damage.seq == 23));
}

#[test]
fn damage_before_the_last_commit_is_refused_even_without_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 24));
    std::fs::remove_file(dir.path().join("checkpoint")).unwrap();
    let segment = dir.path().join("segments/00000000000000000000.jsonl");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[2] = 0;
    std::fs::write(&segment, bytes).unwrap();
    let error = reopen(dir.path()).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged(damage) if damage.seq == 0 && damage.offset == 0), "{error}");
    assert!(error.to_string().contains("00000000000000000000.jsonl, record 0, byte 0"), "{error}");
}

/// What the faulty disk does with the next write or sync.
const WORKS: u8 = 0;
const FULL: u8 = 1;
const SYNC_FAILS: u8 = 2;
const FULL_AND_NO_CUT: u8 = 3;
const NO_ROOM_FOR_TILES: u8 = 4;

/// Ends of commits after record 10: a small one, and one that is so large that its hashes are made while it is written.
const COMMIT_ENDS: [u64; 2] = [15, 3000];

#[derive(Debug)]
struct FaultyDisk(Arc<AtomicU8>);

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    fault: Arc<AtomicU8>,
    is_tile: bool,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let is_tile = path.parent().unwrap().ends_with("tiles");
        Ok(Box::new(FaultyFile { file: OsDisk.open(path)?, fault: self.0.clone(), is_tile }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        OsDisk.sync_folder(folder)
    }
}

impl DiskFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_full = match self.fault.load(Ordering::Relaxed) {
            FULL | FULL_AND_NO_CUT => !self.is_tile,
            NO_ROOM_FOR_TILES => self.is_tile,
            _ => false,
        };
        if is_full {
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.fault.load(Ordering::Relaxed) == SYNC_FAILS {
            return Err(io::Error::other("the device is gone"));
        }
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if self.fault.load(Ordering::Relaxed) == FULL_AND_NO_CUT {
            return Err(io::Error::other("the device is gone"));
        }
        self.file.set_len(length)
    }
}

fn on_faulty_disk(dir: &Path) -> (Log, Arc<AtomicU8>) {
    drop(filled(dir, 10));
    let fault = Arc::new(AtomicU8::new(WORKS));
    let options = Options { disk: Arc::new(FaultyDisk(fault.clone())), ..small_segments() };
    (FileLog::open_with(dir, signer(), options).unwrap(), fault)
}

#[test]
fn a_full_disk_refuses_the_commit_and_the_log_goes_on_when_there_is_room() {
    for (kind, end) in
        [FULL, NO_ROOM_FOR_TILES].into_iter().flat_map(|kind| COMMIT_ENDS.map(|end| (kind, end)))
    {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, fault) = on_faulty_disk(dir.path());
        let segment = || std::fs::metadata(last_segment(dir.path())).unwrap().len();
        let before = segment();
        fault.store(kind, Ordering::Relaxed);
        for _ in 0..3 {
            let error = log.append(&records(10..end)).unwrap_err();
            assert!(matches!(error, AppendError::Store(StoreError::Failed { .. })), "{error}");
            assert_holds(&log, 10);
            assert_eq!(segment(), before, "what was written is cut off");
        }
        fault.store(WORKS, Ordering::Relaxed);
        log.append(&[record(10)]).unwrap();
        log.append(&records(11..end)).unwrap();
        assert_holds(&log, end);
        drop(log);
        assert_holds(&reopen(dir.path()).unwrap(), end);
    }
}

#[test]
fn nothing_stays_of_a_commit_with_a_bad_record_however_large_it_is() {
    for (end, bad) in
        COMMIT_ENDS.into_iter().flat_map(|end| ["{\"a\":}", "{\"a\":\n1}", "[]"].map(|bad| (end, bad)))
    {
        let dir = tempfile::tempdir().unwrap();
        let mut log = filled(dir.path(), 10);
        let before = std::fs::metadata(last_segment(dir.path())).unwrap().len();
        let mut commit = records(10..end);
        commit.push(bad.to_owned());
        let error = log.append(&commit).unwrap_err();
        let index = commit.len() - 1;
        assert!(
            matches!(error, AppendError::Store(StoreError::BadRecord { index: at, .. }) if at == index),
            "{error}"
        );
        assert_eq!(std::fs::metadata(last_segment(dir.path())).unwrap().len(), before);
        log.append(&records(10..end)).unwrap();
        assert_holds(&log, end);
        drop(log);
        assert_holds(&reopen(dir.path()).unwrap(), end);
    }
}

#[test]
fn after_a_failed_sync_or_cut_nothing_is_taken_until_the_log_is_reopened() {
    let kinds = [(SYNC_FAILS, true), (FULL_AND_NO_CUT, false)];
    for ((kind, unknown), end) in kinds.into_iter().flat_map(|kind| COMMIT_ENDS.map(|end| (kind, end))) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, fault) = on_faulty_disk(dir.path());
        fault.store(kind, Ordering::Relaxed);
        let error = log.append(&records(10..end)).unwrap_err();
        assert_eq!(matches!(error, AppendError::Store(StoreError::Unknown { .. })), unknown, "{error}");
        fault.store(WORKS, Ordering::Relaxed);
        let error = log.append(&records(10..end)).unwrap_err();
        assert!(matches!(error, AppendError::Store(StoreError::Poisoned)), "{error}");
        assert_holds(&log, 10);
        drop(log);
        let mut log = reopen(dir.path()).unwrap();
        assert_holds(&log, 10);
        log.append(&records(10..end)).unwrap();
        assert_holds(&log, end);
    }
}

fn last_segment(dir: &Path) -> std::path::PathBuf {
    std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}
