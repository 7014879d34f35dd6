//! A full and a read-only file system, real ones: small ones in memory, mounted in a namespace of the test's own.

use std::path::Path;
use std::process::Command;

use writ_ledger::store::StoreError;
use writ_ledger::{AppendError, FileLog, OpenError, verify_log};

use super::{assert_holds, filled, key, records, reopen, signer};

const INSIDE: &str = "WRIT_LEDGER_TEST_MOUNTS";

/// Runs a test of this binary again, as root of a namespace in which it may mount. `true` where that has happened.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "no test is called {test}");
    false
}

fn mount(arguments: &[&str], at: &Path) {
    assert!(Command::new("mount").args(arguments).arg(at).status().unwrap().success());
}

#[test]
fn a_file_system_that_is_full_takes_nothing_and_loses_nothing() {
    if !is_inside("mounts::a_file_system_that_is_full_takes_nothing_and_loses_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=400k", "tmpfs"], dir.path());
    let log_dir = dir.path().join("log");
    let mut log = FileLog::create_with(&log_dir, signer(), super::small_segments()).unwrap();
    let mut failures = 0;
    while failures < 5 {
        let size = log.size();
        match log.append(&records(size..size + 40)) {
            Ok(_) => {}
            Err(AppendError::Store(StoreError::Failed { .. })) => failures += 1,
            Err(other) => panic!("{other}"),
        }
        assert_eq!(log.size(), log.reader().size());
    }
    let size = log.size();
    assert_holds(&log, size);
    drop(log);
    // Opening needs next to no room: only the checkpoint, if it is behind.
    std::fs::remove_file(log_dir.join("lock")).unwrap();
    let log = reopen(&log_dir).unwrap();
    assert_holds(&log, size);
    drop(log);
    mount(&["-o", "remount,size=4m"], dir.path());
    let mut log = reopen(&log_dir).unwrap();
    log.append(&records(size..size + 40)).unwrap();
    assert_holds(&log, size + 40);
    drop(log);
    assert!(verify_log(&log_dir, &key()).unwrap().is_sound());
}

#[test]
fn a_read_only_file_system_is_read_and_verified_but_not_written() {
    if !is_inside("mounts::a_read_only_file_system_is_read_and_verified_but_not_written") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], dir.path());
    let log_dir = dir.path().join("log");
    drop(filled(&log_dir, 60));
    mount(&["-o", "remount,ro"], dir.path());
    let error = FileLog::create(&dir.path().join("other"), signer()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    let error = reopen(&log_dir).unwrap_err();
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    let reader = FileLog::open_read_only(&log_dir, &key()).unwrap();
    assert_eq!(reader.read_range(0..u64::MAX).map(Result::unwrap).count(), 60);
    assert!(verify_log(&log_dir, &key()).unwrap().is_sound());
}
