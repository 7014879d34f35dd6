use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use writ_ledger::{Bundle, Statement};

use super::{filled, held, signer, user, vkey, writ};

fn bundle(folder: &Path, is_sealed: bool) -> PathBuf {
    let log = filled(&folder.join("log"), 40);
    let statement = Statement {
        subject: json!({ "network": "example" }),
        query: json!("who is ada?"),
        result: json!([user()]),
        time: json!("2026-03-14T11:00:00Z"),
        keys: json!({ "1": held(1) }),
    };
    let mut bundle = Bundle::build(log.reader(), &[1, 17], &statement).unwrap();
    if is_sealed {
        bundle.seal(&signer()).unwrap();
    }
    let file = folder.join("evidence.json");
    fs::write(&file, bundle.to_json().unwrap()).unwrap();
    file
}

#[test]
fn a_good_bundle_is_verified_and_its_sealed_fields_are_read_with_the_keys_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = bundle(folder.path(), true);
    let ran = writ(folder.path(), ["verify", file.to_str().unwrap(), "--key", &vkey()]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.starts_with("VERIFIED") && ran.stdout.contains("ada@example.com (Ada)"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("the other 38 records"), "{}", ran.stdout);
    let value = writ(folder.path(), ["verify", file.to_str().unwrap(), "--key", &vkey(), "--json"]).json();
    assert_eq!((&value["verified"], &value["checkpoint"]["size"]), (&true.into(), &40.into()));
    assert_eq!(value["records"][1]["kind"], "log.closed");
}

#[test]
fn a_bundle_without_a_seal_is_said_to_prove_less() {
    let folder = tempfile::tempdir().unwrap();
    let file = bundle(folder.path(), false);
    let ran = writ(folder.path(), ["verify", file.to_str().unwrap(), "--key", &vkey()]);
    assert!(ran.code == 0 && ran.stdout.contains("nobody has signed question and answer"), "{}", ran.stdout);
}

#[test]
fn an_altered_bundle_proves_nothing_and_what_was_altered_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = bundle(folder.path(), true);
    let text = fs::read_to_string(&file).unwrap();
    for (from, to, named) in [
        ("\\\"seq\\\":17", "\\\"seq\\\":18", "record 17 was altered"),
        ("who is ada?", "who is bob?", "query was altered"),
        ("2026-03-14T11:00:00Z", "2026-03-14T12:00:00Z", "time was altered"),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
        let ran = writ(folder.path(), ["verify", file.to_str().unwrap(), "--key", &vkey()]);
        assert_eq!(ran.code, 1);
        assert!(ran.stdout.starts_with("NOT VERIFIED") && ran.stdout.contains(named), "{}", ran.stdout);
    }
    fs::write(&file, "{}").unwrap();
    let ran = writ(folder.path(), ["--json", "verify", file.to_str().unwrap(), "--key", &vkey()]);
    assert_eq!((ran.code, &ran.json()["verified"]), (1, &Value::Bool(false)));
}

#[test]
fn a_bundle_cannot_vouch_for_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = bundle(folder.path(), true);
    let ran = writ(folder.path(), ["verify", file.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains(&vkey()) && ran.stderr.contains("--key"), "{}", ran.stderr);
}
