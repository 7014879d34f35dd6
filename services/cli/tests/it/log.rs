use std::fs;
use std::path::{Path, PathBuf};

use super::{Ran, filled, vkey, writ};

fn verify(folder: &Path, log: &Path) -> Ran {
    writ(folder, ["log", "verify", "--dir", log.to_str().unwrap(), "--key", &vkey(), "--json"])
}

fn log(folder: &Path) -> PathBuf {
    let dir = folder.join("log");
    drop(filled(&dir, 300));
    dir
}

#[test]
fn a_whole_log_in_a_folder_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let ran = verify(folder.path(), &log(folder.path()));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let value = ran.json();
    assert_eq!((&value["verified"], &value["records"]), (&true.into(), &300.into()));
}

#[test]
fn a_flipped_byte_is_found_and_its_record_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = log(folder.path());
    let segment = dir.join("segments/00000000000000000000.jsonl");
    let mut bytes = fs::read(&segment).unwrap();
    let needle = b"\"seq\":123,";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at + needle.len() - 2] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let ran = verify(folder.path(), &dir);
    assert_eq!(ran.code, 1);
    let findings = ran.json()["findings"].as_array().unwrap().clone();
    let named = findings.iter().find(|finding| finding["record"] == 123).unwrap();
    assert_eq!(named["place"], "00000000000000000000.jsonl");
    let text =
        writ(folder.path(), ["log", "verify", "--dir", dir.to_str().unwrap(), "--key", &vkey()]).stdout;
    assert!(text.starts_with("NOT VERIFIED") && text.contains("record 123"), "{text}");
}

#[test]
fn a_folder_without_a_log_is_an_error_not_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let ran = verify(folder.path(), &folder.path().join("nothing"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("nothing"), "{}", ran.stderr);
}
