//! What every store must do: one suite, run on the store of files and on the one in Kafka.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use writ_ledger::store::{CopyError, MAX_COMMIT_RECORDS, RecordProblem, StoreError, copy_log};
use writ_ledger::tile::{MAX_RECORD_BYTES, TilePath, decode_entries};
use writ_ledger::{
    AppendError, FileLog, Log, OpenError, ProofFile, ReadError, SignError, SignedCheckpoint, Signer,
    VerifierKey, leaf_hash, verify_log,
};

use super::{ORIGIN, assert_holds, key, record, records, signer};

/// Where a test has its log.
pub trait Place {
    /// The folder that the log is read from.
    fn dir(&self) -> &Path;
    fn create_with(&self, signer: Box<dyn Signer>) -> Result<Log, OpenError>;
    fn open_with(&self, signer: Box<dyn Signer>) -> Result<Log, OpenError>;

    fn create(&self) -> Log {
        self.create_with(signer()).unwrap()
    }

    fn open(&self) -> Result<Log, OpenError> {
        self.open_with(signer())
    }
}

/// Runs the whole suite at places of one kind.
macro_rules! suite {
    ($place:expr) => {
        suite!($place; what_is_appended_is_read_and_proven, bad_records_are_refused_by_name_and_nothing_is_stored,
            tiles_publish_the_whole_tree, readers_beside_the_writer_see_whole_commits_only,
            a_log_survives_reopening_and_goes_on, a_log_is_made_once_and_an_empty_place_is_none,
            a_commit_that_cannot_be_signed_is_shown_when_the_key_is_back, the_folder_verifies_offline,
            a_rolled_back_store_is_refused_under_the_newest_checkpoint, a_log_is_copied_here_with_its_root_unchanged);
    };
    ($place:expr; $($test:ident),*) => {
        $(#[test]
        fn $test() {
            crate::suite::$test(&$place);
        })*
    };
}
pub(crate) use suite;

/// A log of `size` records in commits of 1, 2, 3 … 7, 1, 2 … records.
pub fn filled(place: &impl Place, size: u64) -> Log {
    let mut log = place.create();
    let mut step = 0;
    while log.size() < size {
        let end = (log.size() + step % 7 + 1).min(size);
        log.append(&records(log.size()..end)).unwrap();
        step += 1;
    }
    log
}

pub fn what_is_appended_is_read_and_proven(place: &impl Place) {
    let log = filled(place, 600);
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

pub fn bad_records_are_refused_by_name_and_nothing_is_stored(place: &impl Place) {
    let mut log = filled(place, 3);
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
    assert_holds(&place.open().unwrap(), 5);
}

pub fn tiles_publish_the_whole_tree(place: &impl Place) {
    let log = filled(place, 520);
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

pub fn readers_beside_the_writer_see_whole_commits_only(place: &impl Place) {
    let mut log = filled(place, 0);
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

pub fn a_log_survives_reopening_and_goes_on(place: &impl Place) {
    let before = filled(place, 300).reader().checkpoint();
    let mut log = place.open().unwrap();
    assert_eq!(log.recovery(), Default::default());
    assert_eq!(log.reader().checkpoint(), before);
    let commit = log.append(&records(300..310)).unwrap();
    assert_eq!((commit.first, commit.size), (300, 310));
    assert_holds(&log, 310);
    assert!(matches!(place.open(), Err(OpenError::Locked(_))), "a second writer on one folder is kept out");
    drop(log);
    assert_holds(&place.open().unwrap(), 310);
}

pub fn a_log_is_made_once_and_an_empty_place_is_none(place: &impl Place) {
    assert!(place.open().is_err());
    drop(filled(place, 1));
    assert!(matches!(place.create_with(signer()), Err(OpenError::Exists(_))));
    assert_holds(&place.open().unwrap(), 1);
}

/// A key service that can be out of reach.
struct AwaySigner {
    key: Box<dyn Signer>,
    is_away: Arc<AtomicBool>,
}

impl Signer for AwaySigner {
    fn verifier_key(&self) -> VerifierKey {
        self.key.verifier_key()
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(SignError::Unavailable("the key service is away".to_owned()));
        }
        self.key.sign(text)
    }
}

pub fn a_commit_that_cannot_be_signed_is_shown_when_the_key_is_back(place: &impl Place) {
    drop(filled(place, 10));
    let is_away = Arc::new(AtomicBool::new(false));
    let key = AwaySigner { key: signer(), is_away: is_away.clone() };
    let mut log = place.open_with(Box::new(key)).unwrap();
    is_away.store(true, Ordering::Relaxed);
    let error = log.append(&records(10..12)).unwrap_err();
    assert!(matches!(error, AppendError::Sign(_)) && error.is_unknown(), "{error}");
    assert_holds(&log, 10);
    assert!(matches!(log.append(&records(12..13)), Err(AppendError::Store(StoreError::Poisoned))));
    assert!(log.lead().is_err());
    is_away.store(false, Ordering::Relaxed);
    assert_eq!(log.lead().unwrap(), 12);
    assert_holds(&log, 12);
    log.append(&records(12..13)).unwrap();
    drop(log);
    assert_holds(&place.open().unwrap(), 13);
}

pub fn the_folder_verifies_offline(place: &impl Place) {
    let log = filled(place, 600);
    let newest = log.reader().checkpoint();
    // The checkpoint's file may be a moment behind while a writer runs.
    drop(log);
    let report = verify_log(place.dir(), &key()).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.checkpoint.as_ref(), Some(newest.checkpoint()));
}

pub fn a_rolled_back_store_is_refused_under_the_newest_checkpoint(place: &impl Place) {
    let mut log = filled(place, 20);
    let newer = {
        log.append(&records(20..23)).unwrap();
        log.reader().checkpoint()
    };
    drop(log);
    let forged = writ_ledger::Checkpoint { size: 24, ..newer.checkpoint().clone() };
    let forged = forged.sign(signer().as_ref()).unwrap();
    std::fs::write(place.dir().join("checkpoint"), forged.text()).unwrap();
    let error = place.open().unwrap_err().to_string();
    assert!(error.contains("23") && error.contains("24"), "{error}");
    std::fs::write(place.dir().join("checkpoint"), newer.text()).unwrap();
    assert_holds(&place.open().unwrap(), 23);
}

pub fn a_log_is_copied_here_with_its_root_unchanged(place: &impl Place) {
    let dir = tempfile::tempdir().unwrap();
    let mut from = super::filled(dir.path(), 700);
    drop(place.create());
    let copied = copy_log(from.reader(), &mut place.open().unwrap()).unwrap();
    assert_eq!((copied.size, copied.root, copied.found), (700, from.reader().root(700).unwrap(), 0));
    let mut to = place.open().unwrap();
    assert_holds(&to, 700);
    assert_eq!(to.reader().checkpoint(), from.reader().checkpoint(), "to the byte");
    // Again, it finds all there; and it goes on after a part.
    assert_eq!(copy_log(from.reader(), &mut to).unwrap().found, 700);
    from.append(&records(700..710)).unwrap();
    let copied = copy_log(from.reader(), &mut to).unwrap();
    assert_eq!((copied.size, copied.root, copied.found), (710, from.reader().root(710).unwrap(), 700));
    // Back again.
    let back = tempfile::tempdir().unwrap();
    let mut files = FileLog::create(back.path(), signer()).unwrap();
    copy_log(to.reader(), &mut files).unwrap();
    assert_holds(&files, 710);
    to.append(&[record(9999)]).unwrap();
    from.append(&records(710..712)).unwrap();
    assert!(matches!(copy_log(from.reader(), &mut to), Err(CopyError::NotAPrefix { size: 711 })));
    assert!(matches!(copy_log(files.reader(), &mut to), Err(CopyError::NotAPrefix { size: 711 })));
}
