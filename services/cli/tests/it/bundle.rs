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

#[test]
fn a_bundle_of_thousands_of_records_is_made_from_a_folder_of_the_log_or_an_export_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (log, export) = (folder.path().join("log"), folder.path().join("export"));
    let source = filled(&log, 3000);
    writ_ledger::directory::export(source.reader(), &source.reader().checkpoint(), &[], &export).unwrap();
    drop(source);
    let out = folder.path().join("evidence.json");
    let out = out.to_str().unwrap();
    let take = |from: &Path, records: &[&str]| {
        let _ = fs::remove_file(out);
        let key = vkey();
        let mut args = vec!["bundle", "--log", from.to_str().unwrap(), "--key", &key, "--out", out];
        args.extend(records.iter().flat_map(|record| ["--record", record]));
        writ(folder.path(), args)
    };
    for from in [&export, &log] {
        let made = take(from, &["0-2998", "2999"]);
        assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
        let checked = writ(folder.path(), ["--json", "verify", out, "--key", &vkey()]).json();
        let records = checked["records"].as_array().unwrap().len();
        assert_eq!((&checked["verified"], records), (&true.into(), 3000));
        let beyond = take(from, &["3000"]);
        assert!(beyond.code != 0 && beyond.stderr.contains("record 3000 is not in"), "{}", beyond.stderr);
    }

    // Whichever part of it is altered, the first record that is gets named.
    assert_eq!(take(&log, &["0-2999"]).code, 0);
    let text = fs::read_to_string(out).unwrap();
    for seq in [5, 1400, 2800] {
        fs::write(out, text.replace(&format!("\\\"seq\\\":{seq},"), "\\\"seq\\\":9,")).unwrap();
        let ran = writ(folder.path(), ["verify", out, "--key", &vkey()]);
        assert!(ran.code == 1 && ran.stdout.contains(&format!("record {seq} was altered")), "{}", ran.stdout);
    }

    // Of an export that was altered nothing is made.
    let tile = export.join("tile/entries/003");
    let mut bytes = fs::read(&tile).unwrap();
    let at = bytes.windows(10).position(|bytes| bytes == b"\"seq\":800,").unwrap();
    bytes[at + 8] = b'1';
    fs::write(&tile, bytes).unwrap();
    let refused = take(&export, &["800"]);
    assert!(refused.code != 0 && refused.stderr.contains("nothing was written"), "{}", refused.stderr);
    assert!(!Path::new(out).exists());
}

#[test]
fn records_that_no_bundle_can_hold_are_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], problem: &str| {
        let ran = writ(folder.path(), [&["bundle", "--out", "other.json"], args].concat());
        assert!(ran.code != 0 && ran.stderr.contains(problem), "{}", ran.stderr);
    };
    refused(&["--record", "0-10000"], "at most 10000");
    refused(&["--record", "7-3"], "7 comes after 3");
    refused(&["--record", "x"], "no position");
    refused(&["--record", "0-18446744073709551615", "--log", "."], "at most 1000000");
}
