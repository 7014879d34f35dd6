use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use writ_ledger::{Bundle, Checkpoint, CosigningKey, SignedCheckpoint, Statement};

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

#[test]
fn a_policy_demands_its_quorum_and_says_between_when_records_were_logged() {
    let folder = tempfile::tempdir().unwrap();
    let witness = CosigningKey::from_seed("witness.example/w", [3; 32]).unwrap();
    let policy = folder.path().join("trust.policy");
    fs::write(&policy, format!("log {}\nwitness ada {}\nquorum ada\n", vkey(), witness.cosigner_key()))
        .unwrap();
    let log = filled(&folder.path().join("log"), 40);
    let cosigned = |size: u64, time: u64| {
        let checkpoint =
            Checkpoint { origin: super::ORIGIN.to_owned(), size, root: log.reader().root(size).unwrap() };
        let signed = checkpoint.sign(&signer()).unwrap();
        signed.with_signatures(&[witness.cosign(&signed.text().parse().unwrap(), time)])
    };
    let none = json!(null);
    let statement = Statement {
        subject: none.clone(),
        query: none.clone(),
        result: none.clone(),
        time: none.clone(),
        keys: none,
    };
    let file = folder.path().join("evidence.json");
    let write = |signed: &SignedCheckpoint| {
        let bundle = Bundle::build_under(log.reader(), signed, &[1, 17, 30], &statement).unwrap();
        fs::write(&file, bundle.to_json().unwrap()).unwrap();
    };
    let arguments = ["verify", file.to_str().unwrap(), "--policy", policy.to_str().unwrap()];

    write(&log.reader().checkpoint());
    let ran = writ(folder.path(), arguments);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("lacks the quorum") && ran.stdout.contains("ada did not"), "{}", ran.stdout);

    write(&cosigned(35, 1_800_000_000));
    let ran = writ(folder.path(), arguments);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("ada cosigned it at 2027-01-15"), "{}", ran.stdout);
    assert!(ran.stdout.contains("was logged before 2027-01-15"), "{}", ran.stdout);

    let earlier = folder.path().join("earlier");
    fs::write(&earlier, cosigned(20, 1_700_000_000).text()).unwrap();
    let ran = writ(folder.path(), arguments.into_iter().chain(["--earlier", earlier.to_str().unwrap()]));
    assert!(ran.stdout.contains("1 record from number 20 on: logged between 2023-11-14"), "{}", ran.stdout);
    let value = writ(folder.path(), arguments.into_iter().chain(["--json"])).json();
    assert_eq!(value["witnessed"]["cosigned"][0]["witness"], "ada");
    assert_eq!(value["witnessed"]["loggedBefore"], "2027-01-15T08:00:00Z");

    fs::write(&policy, "quorum\n").unwrap();
    let ran = writ(folder.path(), arguments);
    assert!(
        ran.code == 1 && ran.stderr.contains("policy line 1: expected `quorum <name>`"),
        "{}",
        ran.stderr
    );
}
