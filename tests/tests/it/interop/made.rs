//! Logs that others' writers make, before our verifier: accepted whole, refused wherever they are altered.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{copy_folder, flip, go, ours, text};

fn make(command: &str, dir: &Path, size: u64, more: &[&str]) -> Value {
    let size = size.to_string();
    let arguments = [&["-dir", text(dir), "-size", &size][..], more].concat();
    go(command, &arguments).unwrap()
}

#[test]
fn logs_of_gos_checksum_database_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    for (size, old) in [(1, 0), (256, 255), (3000, 700), (66_000, 65_536)] {
        let dir = folder.path().join(format!("{size}/log"));
        let made = make("make-sumdb", &dir, size, &["-old", &old.to_string()]);
        let found = ours(&dir, Some(&folder.path().join(format!("{size}/old-checkpoint")))).unwrap();
        assert_eq!((&found["records"], &found["continues"]["size"]), (&size.into(), &old.into()));
        assert_eq!((&found["checkpoint"]["root"], &found["opaque"]), (&made["root"], &true.into()));
    }
}

#[test]
fn logs_of_tesseras_posix_driver_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    for size in [1, 700, 3000] {
        let dir = folder.path().join(size.to_string());
        let made = make("make-tessera", &dir, size, &[]);
        let found = ours(&dir, None).unwrap();
        assert_eq!((&found["records"], &found["checkpoint"]["root"]), (&size.into(), &made["root"]));
    }
}

#[test]
fn whatever_is_altered_in_them_is_found_and_the_place_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["make-sumdb", "make-tessera"] {
        let dir = folder.path().join(command);
        make(command, &dir, 1000, &[]);
        for (file, expected) in [
            ("tile/entries/002", "\"place\":\"tile/entries/002\""),
            ("tile/0/002", "\"place\":\"tile/0/002\""),
            ("tile/1/000.p/3", "\"place\":\"tile/1/000.p/3\""),
            ("checkpoint", "checkpoint"),
        ] {
            let altered = folder.path().join("altered");
            copy_folder(&dir, &altered);
            flip(&altered.join(file), 40);
            let findings = ours(&altered, None).unwrap_err();
            assert!(findings.contains(expected), "{command} {file}: {findings}");
            fs::remove_dir_all(&altered).unwrap();
        }
        fs::remove_file(dir.join("tile/entries/003.p/232")).unwrap();
        let findings = ours(&dir, None).unwrap_err();
        assert!(findings.contains("the tile is missing"), "{findings}");
    }
}
