//! Evidence bundles before a verifier that was written from `schema/evidence.md` alone: it and ours agree on every file.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use writ_ledger::{Bundle, Statement};

use super::{Verdict, go, key, log, signer, text};

/// A bundle of the log's records 3, 4 and 17, with and without a seal.
fn bundle(folder: &Path, is_sealed: bool) -> String {
    let log = log(&folder.join(format!("log-{is_sealed}")), 40);
    let statement = Statement {
        subject: json!({ "text": "a / b", "snowman": "☃" }),
        query: json!("who?"),
        result: json!([{ "share": 1.0, "big": 12_345_678_901_234_567_890_u64 }]),
        time: json!("2026-03-14T10:02:00Z"),
        keys: Value::Null,
    };
    let mut bundle = Bundle::build(log.reader(), &[3, 4, 17], &statement).unwrap();
    if is_sealed {
        bundle.seal(&signer()).unwrap();
    }
    bundle.to_json().unwrap()
}

fn theirs(folder: &Path, bundle: &[u8]) -> Verdict {
    let (file, vkey) = (folder.join("bundle.json"), folder.join("vkey"));
    fs::write(&file, bundle).unwrap();
    fs::write(&vkey, key().to_string()).unwrap();
    go("check-bundle", &["-bundle", text(&file), "-key", text(&vkey)])
}

fn ours(bundle: &[u8]) -> bool {
    Bundle::parse(bundle).is_ok_and(|bundle| bundle.verify(&key()).is_ok())
}

#[test]
fn a_bundle_is_accepted_and_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for is_sealed in [false, true] {
        let file = bundle(folder.path(), is_sealed);
        let found = theirs(folder.path(), file.as_bytes()).unwrap();
        assert_eq!(
            (&found["records"], &found["size"], &found["sealed"]),
            (&3.into(), &40.into(), &is_sealed.into())
        );
        assert_eq!(found["result"].as_str().unwrap(), Bundle::parse(file.as_bytes()).unwrap().result());
    }
}

#[test]
fn what_ours_refuses_theirs_refuses_and_what_ours_accepts_theirs_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let file = bundle(folder.path(), true);
    let compact = serde_json::from_str::<Bundle>(&file).unwrap();
    let mut files: Vec<Vec<u8>> = vec![
        serde_json::to_vec(&compact).unwrap(),
        file.replacen("\"format\"", "\"format\": \"writ-evidence/v1\", \"format\"", 1).into_bytes(),
        file.replacen("\"format\"", "\"Format\"", 1).into_bytes(),
        file.replacen("\"keys\"", "\"more\": 1, \"keys\"", 1).into_bytes(),
        file.replacen("\"time\"", "\"time\" \n ", 1).into_bytes(),
        file.replacen("writ-evidence", "writ\\u002devidence", 1).into_bytes(),
        file.replacen("a / b", "a \\/ b", 1).into_bytes(),
        format!("{file}\n\n").into_bytes(),
        format!("{file}x").into_bytes(),
        file.as_bytes()[..file.len() - 2].to_vec(),
    ];
    for at in (0..file.len()).step_by(29) {
        let mut altered = file.clone().into_bytes();
        altered[at] ^= 1;
        files.push(altered);
    }
    let mut accepted = 0;
    for altered in &files {
        let (ours, theirs) = (ours(altered), theirs(folder.path(), altered));
        assert_eq!(ours, theirs.is_ok(), "{theirs:?}: {}", String::from_utf8_lossy(altered));
        accepted += usize::from(ours);
    }
    assert!((1..files.len()).contains(&accepted), "{accepted} of {} are accepted", files.len());
}
