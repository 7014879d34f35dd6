//! The exported directory: their verifiers accept it, and refuse it wherever it is altered, as ours does.

use std::fs;
use std::path::Path;

use super::{THEIRS, copy_folder, export, flip, keep_checkpoint, log, ours, records, theirs};

/// A log of 700 records, exported as it grew to 3000; and the checkpoint of the size between.
fn exported(folder: &Path) {
    let source = folder.join("log");
    let mut log = log(&source, 700);
    keep_checkpoint(&log, &folder.join("old"));
    export(&source, &folder.join("out"));
    log.append(&records(700..3000)).unwrap();
    export(&source, &folder.join("out"));
}

#[test]
fn every_entry_inclusion_and_the_consistency_of_two_sizes_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path());
    let (dir, old) = (folder.path().join("out"), folder.path().join("old"));
    let report = theirs("check-sumdb", &dir, Some(&old)).unwrap();
    assert_eq!(
        (&report["size"], &report["entries"], &report["oldSize"]),
        (&3000.into(), &3000.into(), &700.into())
    );
    assert!(report["inclusions"].as_u64() >= Some(300), "{report}");
    let report = theirs("check-tessera", &dir, Some(&old)).unwrap();
    assert_eq!((&report["size"], &report["oldSize"]), (&3000.into(), &700.into()));
    assert_eq!(ours(&dir, Some(&old)).unwrap()["continues"]["size"], 700);
}

#[test]
fn whatever_is_altered_is_refused_by_all_three_and_the_place_is_said() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path());
    let signature = "invalid signature for key writ.example/log";
    for (file, sumdb, tessera, writ) in [
        ("tile/entries/000", "entry 0 does not", "tile/0/000", "tile/entries/000"),
        ("tile/entries/011.p/184", "entry 2816 does not", "tile/0/011.p/184", "\"record\":2816"),
        ("tile/0/003", "entries 768 to 1023: downloaded inconsistent tile", "tile/0/003", "tile/0/003"),
        ("tile/1/000.p/11", "downloaded inconsistent tile", "tile/1/000.p/11", "tile/1/000.p/11"),
        ("checkpoint", signature, signature, "the signature of writ.example/log is wrong"),
    ] {
        let altered = folder.path().join("altered");
        copy_folder(&folder.path().join("out"), &altered);
        flip(&altered.join(file), 20);
        for (verdict, expected) in [
            (theirs("check-sumdb", &altered, None), sumdb),
            (theirs("check-tessera", &altered, None), tessera),
            (ours(&altered, None), writ),
        ] {
            let problem = verdict.unwrap_err();
            assert!(problem.contains(expected), "{file}: {problem}");
        }
        fs::remove_dir_all(altered).unwrap();
    }
}

#[test]
fn a_log_that_was_forked_or_rolled_back_does_not_continue_an_older_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (source, dir) = (folder.path().join("log"), folder.path().join("out"));
    log(&source, 1000);
    export(&source, &dir);
    let mut forked = log(&folder.path().join("forked"), 500);
    forked.append(&["{}"]).unwrap();
    keep_checkpoint(&forked, &folder.path().join("fork"));
    keep_checkpoint(&log(&folder.path().join("longer"), 1001), &folder.path().join("newer"));
    for (old, expected, said) in
        [("fork", "consistency with size 501", "forked"), ("newer", "shrank", "rolled back")]
    {
        let old = folder.path().join(old);
        for verifier in THEIRS {
            let problem = theirs(verifier, &dir, Some(&old)).unwrap_err();
            // Tessera builds the tree of the older checkpoint first, and finds no tiles for it.
            let missing = verifier == "check-tessera" && problem.contains("no such file");
            assert!(problem.contains(expected) || missing, "{verifier}: {problem}");
        }
        let problem = ours(&dir, Some(&old)).unwrap_err();
        assert!(problem.contains(said), "{problem}");
    }
}

#[test]
fn logs_of_every_awkward_size_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for size in [1, 2, 255, 256, 257, 512, 513] {
        let (source, dir) =
            (folder.path().join(format!("log{size}")), folder.path().join(format!("out{size}")));
        log(&source, size);
        export(&source, &dir);
        for verifier in THEIRS {
            assert_eq!(theirs(verifier, &dir, None).unwrap()["size"], size, "{verifier}");
        }
    }
}
