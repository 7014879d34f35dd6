//! The proof of one record as a file: checked by a reader of the specification and Go's `tlog`.

use std::fs;
use std::path::Path;

use super::{Verdict, go, key, log, records, text};

fn check(folder: &Path) -> Verdict {
    let file = |name: &str| text(&folder.join(name)).to_owned();
    go("check-proof", &["-proof", &file("proof"), "-record", &file("record"), "-key", &file("key")])
}

#[test]
fn a_proof_file_is_accepted_for_its_record_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder.path().join("log"), 777);
    fs::write(folder.path().join("key"), key().to_string()).unwrap();
    for index in [0, 255, 256, 776] {
        let mut proof = log.reader().proof_file(index).unwrap();
        proof.extra = (index == 256).then(|| b"extra".to_vec());
        fs::write(folder.path().join("proof"), proof.to_string()).unwrap();
        fs::write(folder.path().join("record"), log.reader().read(index).unwrap()).unwrap();
        assert_eq!(check(folder.path()).unwrap()["index"], index);
        fs::write(folder.path().join("record"), &records(index + 1..index + 2)[0]).unwrap();
        assert!(check(folder.path()).unwrap_err().contains(&format!("inclusion of entry {index}")));
    }
}
