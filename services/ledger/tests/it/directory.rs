use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use writ_ledger::directory::{ExportError, Exported, FileError, export};
use writ_ledger::store::ReadError;
use writ_ledger::tile::{Tile, TilePath, TileSource};
use writ_ledger::{
    AuditReport, Checkpoint, FileLog, Log, Reader, SignedCheckpoint, SigningKey, TilesDirectory, audit_tiles,
};

use super::{filled, key, record, records, signer};

fn write(log: &Log, dir: &Path) -> Result<Exported, ExportError<ReadError>> {
    export(log.reader(), &log.reader().checkpoint(), &[], dir)
}

fn checkpoint(dir: &Path) -> Checkpoint {
    let held = TilesDirectory::at(dir).unwrap();
    SignedCheckpoint::verify(&held.checkpoint().unwrap(), &key(), key().name()).unwrap()
}

fn audit(dir: &Path, checkpoint: &Checkpoint) -> Result<AuditReport, FileError> {
    audit_tiles(&TilesDirectory::at(dir).unwrap(), checkpoint, None, &[], |_, _, _| ())
}

fn assert_holds(dir: &Path, size: u64) {
    let report = audit(dir, &checkpoint(dir)).unwrap();
    assert_eq!((report.is_sound(), report.records_read), (true, size), "{report:?}");
}

/// Every file below a folder with its content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_directory_holds_exactly_the_published_tiles_the_checkpoint_and_the_key() {
    for size in [0, 1, 255, 256, 257, 700] {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(&folder.path().join("log"), size);
        let dir = folder.path().join("out");
        assert_eq!(
            write(&log, &dir).unwrap(),
            Exported { before: 0, size, tiles: TilePath::all(size).count() as u64 }
        );
        let tiles =
            TilePath::all(size).map(|tile| (tile.to_string(), log.reader().tile(&tile).unwrap().unwrap()));
        let mut expected: BTreeMap<String, Vec<u8>> = tiles.collect();
        expected.insert("checkpoint".to_owned(), log.reader().checkpoint().text().into());
        expected.insert("log.vkey".to_owned(), format!("{}\n", key()).into());
        assert!(files(&dir) == expected, "size {size}");
        assert_holds(&dir, size);
    }
}

#[test]
fn a_directory_is_continued_by_what_is_new_and_keeps_every_published_size_checkable() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, fresh) = (folder.path().join("out"), folder.path().join("fresh"));
    let mut log = filled(&folder.path().join("log"), 100);
    let mut published = Vec::new();
    for size in [100, 255, 256, 300, 300, 511, 513, 900] {
        if size > log.size() {
            log.append(&records(log.size()..size)).unwrap();
        }
        let before = if published.is_empty() { 0 } else { checkpoint(&dir).size };
        let done = write(&log, &dir).unwrap();
        // The bundle that was unfinished is read again, nothing before it.
        let bound = 2 * (size - before).div_ceil(256) + 4;
        assert!(done.before == before && done.size == size && done.tiles <= bound, "{done:?}");
        published.push(checkpoint(&dir));
    }
    assert_eq!(published.last().unwrap().size, 900);
    for checkpoint in &published {
        assert!(audit(&dir, checkpoint).unwrap().is_sound(), "size {}", checkpoint.size);
    }
    write(&log, &fresh).unwrap();
    let (continued, fresh) = (files(&dir), files(&fresh));
    assert!(fresh.iter().all(|(name, bytes)| continued.get(name) == Some(bytes)));
    let outgrown = continued.keys().filter(|name| name.starts_with("tile/entries/000.p"));
    assert_eq!(outgrown.count(), 0, "a partial tile is of no use beside its full one");
}

#[test]
fn a_directory_of_another_log_or_history_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let log = filled(&folder.path().join("log"), 300);
    write(&log, &dir).unwrap();
    let held = files(&dir);

    let stranger = Box::new(SigningKey::from_seed("other.example", [8; 32]).unwrap());
    let mut other = FileLog::create_with(&folder.path().join("other"), stranger, super::at_once()).unwrap();
    other.append(&records(0..310)).unwrap();
    assert!(matches!(write(&other, &dir), Err(ExportError::OtherLog { .. })));

    let shorter = filled(&folder.path().join("shorter"), 299);
    assert!(matches!(write(&shorter, &dir), Err(ExportError::RolledBack { exported: 300, size: 299, .. })));

    // Forked early, in the unfinished bundle, and at the same size.
    for (name, changed, size) in [("early", 3, 700), ("late", 299, 700), ("same", 3, 300)] {
        let mut forked = FileLog::create_with(&folder.path().join(name), signer(), super::at_once()).unwrap();
        let mut records = records(0..size);
        records[changed] = record(999);
        forked.append(&records).unwrap();
        let refused = write(&forked, &dir);
        assert!(matches!(refused, Err(ExportError::Diverged { exported: 300, .. })), "{name}: {refused:?}");
        assert!(
            files(&dir).iter().all(|(path, bytes)| held.get(path).is_none_or(|held| held == bytes)),
            "{name}"
        );
        assert_holds(&dir, 300);
    }

    let strange = folder.path().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("notes.txt"), "mine").unwrap();
    assert!(matches!(write(&log, &strange), Err(ExportError::NotAnExport(_))));
    assert!(matches!(write(&log, &folder.path().join("log")), Err(ExportError::NotAnExport(_))));
    assert_eq!(files(&strange).len(), 1);
}

#[test]
fn an_altered_directory_is_not_continued() {
    for (name, altered_tiles) in [("checkpoint", false), ("tile/0/000", true), ("tile/0/001.p/44", true)] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("out");
        let mut log = filled(&folder.path().join("log"), 300);
        write(&log, &dir).unwrap();
        log.append(&records(300..310)).unwrap();
        let mut bytes = fs::read(dir.join(name)).unwrap();
        bytes[20] ^= 1;
        fs::write(dir.join(name), bytes).unwrap();
        let refused = write(&log, &dir);
        let fits = match refused {
            Err(ExportError::Altered { .. }) => !altered_tiles,
            Err(ExportError::TilesAltered { size: 300, .. }) => altered_tiles,
            _ => false,
        };
        // A full tile lies left of the edge: what continues it is not changed by it, and `log verify` finds it.
        assert!(fits || name == "tile/0/000", "{name}: {refused:?}");
    }
}

/// A log whose bundles cannot be read from some position on.
struct Failing<'a>(&'a Reader, u64);

impl TileSource for Failing<'_> {
    type Error = ReadError;

    fn tile(&self, path: &TilePath) -> Result<Tile, ReadError> {
        if path.index() >= self.1 {
            return Err(ReadError::NotThere { seq: path.first() });
        }
        TileSource::tile(self.0, path)
    }
}

#[test]
fn an_export_that_is_cut_off_shows_what_was_there_and_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let mut log = filled(&folder.path().join("log"), 300);
    let cut =
        |log: &Log| export(&Failing(log.reader(), 2), &log.reader().checkpoint(), &[], &dir).unwrap_err();
    log.append(&records(300..900)).unwrap();
    assert!(matches!(cut(&log), ExportError::Source(_)));
    assert!(TilesDirectory::at(&dir).is_none(), "nothing is published yet");
    write(&log, &dir).unwrap();
    assert_holds(&dir, 900);
    log.append(&records(900..1900)).unwrap();
    assert!(matches!(cut(&log), ExportError::Source(_)));
    assert_holds(&dir, 900);
    assert_eq!(write(&log, &dir).unwrap().before, 900);
    assert_holds(&dir, 1900);
}

#[test]
fn a_directory_is_sound_at_every_moment_of_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out");
    let mut log = filled(&folder.path().join("log"), 10);
    write(&log, &dir).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let checkpoint = checkpoint(&dir);
                let report = audit(&dir, &checkpoint).unwrap();
                assert!(report.is_sound(), "size {}: {report:?}", checkpoint.size);
                seen += 1;
            }
            seen
        });
        for step in 0..40 {
            log.append(&records(log.size()..log.size() + 13 + step)).unwrap();
            write(&log, &dir).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_holds(&dir, log.size());
}

#[test]
fn two_exports_do_not_write_to_one_directory_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(&folder.path().join("log"), 10);
    let dir = folder.path().join("out");
    write(&log, &dir).unwrap();
    let held = fs::File::open(&dir).unwrap();
    held.lock().unwrap();
    assert!(matches!(write(&log, &dir), Err(ExportError::Busy(_))));
    drop(held);
    write(&log, &dir).unwrap();
}
