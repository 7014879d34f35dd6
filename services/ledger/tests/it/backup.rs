//! Copies of a log that is being written: each is a log of its own up to some commit.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use writ_ledger::store::{COSIGNED, Options};
use writ_ledger::{BackupError, CosignedHistory, CosigningKey, FileLog, Log, back_up, restore, verify_log};

use super::{assert_holds, key, records, signer};

fn options() -> Options {
    Options { segment_bytes: 30_000, ..Options::default() }
}

/// Makes copies while a log grows, and checks each.
fn while_it_grows(dir: &Path, copies: usize, mut copy: impl FnMut(usize) -> std::path::PathBuf) {
    let mut log: Log = FileLog::create_with(dir, signer(), options()).unwrap();
    log.append(&records(0..10)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let size = log.size();
                log.append(&records(size..size + 1 + size % 60)).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..copies {
                let shown = FileLog::open_read_only(dir, &key()).unwrap().checkpoint().checkpoint().clone();
                let copied = copy(number);
                let report = verify_log(&copied, &key()).unwrap();
                assert!(report.is_sound(), "copy {number}: {:?}", report.findings);
                let log = FileLog::open_with(&copied, signer(), options()).unwrap();
                assert!(log.size() >= shown.size, "copy {number}: {} of {}", log.size(), shown.size);
                assert_eq!(log.reader().root(shown.size).unwrap(), shown.root, "copy {number}");
                assert_holds(&log, log.size());
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn rsync_copies_a_running_log_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("log"), dir.path().join("copy"));
    while_it_grows(&from, 8, |number| {
        // Every other time onto the copy that is there, as a nightly backup does.
        let to = if number % 2 == 0 { to.clone() } else { dir.path().join(format!("copy-{number}")) };
        std::fs::create_dir_all(&to).unwrap();
        for attempt in 0.. {
            // The checkpoint first: a single run lists all names before it copies anything.
            let script = "rsync -a \"$0/checkpoint\" \"$1\" && rsync -a --exclude='*.new' --exclude=/checkpoint \"$0/\" \"$1\"";
            let copied = Command::new("sh").args(["-c", script]).args([&from, &to]).status().unwrap();
            match copied.code() {
                Some(0) => break,
                // Segments of this size are sealed and removed faster than it copies: run it again, it says.
                Some(24) if attempt < 20 => {}
                code => panic!("rsync: {code:?}"),
            }
        }
        // The copy is opened by itself, so that the next run copies onto what was written here.
        let opened = dir.path().join(format!("opened-{number}"));
        assert!(Command::new("cp").arg("-a").arg(&to).arg(&opened).status().unwrap().success());
        opened
    });
}

#[test]
fn a_backup_of_a_running_log_is_whole_and_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("log");
    while_it_grows(&from, 4, |number| {
        let (to, again) = (dir.path().join("backup"), dir.path().join(format!("restored-{number}")));
        let backed_up = back_up(&from, &to, &key()).unwrap();
        let restored = restore(&to, &again, &key()).unwrap();
        assert_eq!(restored, backed_up);
        again
    });
    let report = restore(&dir.path().join("backup"), &from, &key());
    assert!(matches!(report, Err(BackupError::Occupied(_))), "{report:?}");
}

#[test]
fn a_damaged_log_is_neither_backed_up_over_a_sound_backup_nor_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("log"), dir.path().join("backup"));
    drop(super::filled(&from, 60));
    back_up(&from, &to, &key()).unwrap();
    let good = std::fs::read(from.join("segments/00000000000000000000.jsonl")).unwrap();
    let mut bytes = good.clone();
    bytes[20] ^= 1;
    std::fs::write(from.join("segments/00000000000000000000.jsonl"), &bytes).unwrap();
    assert!(matches!(back_up(&from, &to, &key()), Err(BackupError::Unsound { .. })));
    assert!(verify_log(&to, &key()).unwrap().is_sound(), "the backup stays as it was");
    std::fs::write(to.join("segments/00000000000000000000.jsonl"), &bytes).unwrap();
    let restored = dir.path().join("restored");
    assert!(matches!(restore(&to, &restored, &key()), Err(BackupError::Unsound { .. })));
    assert!(!restored.exists());
}

#[test]
fn what_witnesses_have_cosigned_is_backed_up_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut log: Log = FileLog::create_with(&path("log"), signer(), options()).unwrap();
    log.append(&records(0..10)).unwrap();
    let witness = CosigningKey::from_seed("witness.example", [3; 32]).unwrap();
    let newest = log.reader().checkpoint();
    let line = witness.cosign(&newest.text().parse().unwrap(), 1_800_000_000);
    let cosigned = newest.with_signatures(&[line]).text().to_owned();
    std::fs::write(path("log").join(COSIGNED), &cosigned).unwrap();
    let mut history = CosignedHistory::default();
    history.add(1_800_000_000, &cosigned);
    history.store(&path("log")).unwrap();
    drop(log);
    back_up(&path("log"), &path("copy"), &key()).unwrap();
    restore(&path("copy"), &path("restored"), &key()).unwrap();
    for copy in [path("copy"), path("restored")] {
        assert_eq!(std::fs::read_to_string(copy.join(COSIGNED)).unwrap(), cosigned);
        assert_eq!(CosignedHistory::load(&copy).unwrap(), history);
    }
}
