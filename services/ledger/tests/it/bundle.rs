use proptest::prelude::*;
use serde_json::{Value, json};
use writ_ledger::bundle::{BuildError, BundleError};
use writ_ledger::{Bundle, SigningKey, Statement};

use super::{filled, key, record, signer};

fn statement() -> Statement {
    Statement {
        subject: json!({"control": "NIS2-21.2.i"}),
        query: json!({"who": "could reach production-database", "asOf": 42}),
        result: json!([{"node": "n1", "share": 1.0}, {"node": "n2", "big": 12345678901234567890_u64}]),
        time: json!("2026-03-14T10:02:00Z"),
        keys: json!({"3": "c2VjcmV0"}),
    }
}

fn bundle(size: u64, indexes: &[u64]) -> Bundle {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), size);
    Bundle::build(log.reader(), indexes, &statement()).unwrap()
}

fn verify(file: &str) -> Result<writ_ledger::BundleReport, BundleError> {
    Bundle::parse(file.as_bytes())?.verify(&key())
}

fn edited(bundle: &Bundle, edit: impl FnOnce(&mut Value)) -> Result<writ_ledger::BundleReport, BundleError> {
    let mut value: Value = serde_json::from_str(&bundle.to_json().unwrap()).unwrap();
    edit(&mut value);
    verify(&value.to_string())
}

#[test]
fn a_bundle_is_checked_with_nothing_but_the_key() {
    let mut bundle = bundle(300, &[299, 3, 5, 3, 120]);
    let report = verify(&bundle.to_json().unwrap()).unwrap();
    assert_eq!((report.records, report.checkpoint.size, report.sealed), (4, 300, false));
    bundle.seal(signer().as_ref()).unwrap();
    assert!(verify(&bundle.to_json().unwrap()).unwrap().sealed);
    let read = Bundle::parse(bundle.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(read.entries()[1].record, record(5));
    assert_eq!(serde_json::from_str::<Value>(read.result()).unwrap(), statement().result);
    let other = SigningKey::from_seed("writ.example/log", [8; 32]).unwrap().verifier_key();
    assert!(matches!(read.verify(&other), Err(BundleError::OtherKey { .. })));
}

#[test]
fn what_was_altered_is_named() {
    let mut bundle = bundle(40, &[3, 5, 17, 30]);
    bundle.seal(signer().as_ref()).unwrap();
    let digest = |result, part| match result {
        Err(BundleError::DigestMismatch { part: found }) => assert_eq!(found, part),
        other => panic!("{part}: {other:?}"),
    };
    for part in ["subject", "query", "result", "time"] {
        digest(edited(&bundle, |b| b["manifest"][part] = json!("forged")), part);
        let result = edited(&bundle, |b| b["manifest"]["digests"][part] = json!("00"));
        digest(result, part);
    }
    digest(edited(&bundle, |b| b["keys"] = json!({})), "keys");
    digest(edited(&bundle, |b| b["hashes"][0] = b["hashes"][1].clone()), "hashes");
    digest(edited(&bundle, |b| b["entries"].as_array_mut().unwrap().truncate(2)), "entries");
    let result = edited(&bundle, |b| b["entries"][2]["record"] = json!(record(18)));
    assert!(matches!(result, Err(BundleError::RecordAltered { index: 17 })));
    let result = edited(&bundle, |b| b["entries"][2]["leaf"] = b["entries"][1]["leaf"].clone());
    assert!(matches!(result, Err(BundleError::RecordAltered { index: 17 })));
    for index in [5, 4, 40, u64::MAX] {
        let result = edited(&bundle, |b| b["entries"][2]["index"] = json!(index));
        assert!(matches!(result, Err(BundleError::Misplaced { position: 2, .. })), "{index}");
    }
    let result =
        edited(&bundle, |b| b["checkpoint"] = json!(b["checkpoint"].as_str().unwrap().replace("40", "41")));
    assert!(matches!(result, Err(BundleError::Checkpoint(_))));
    let result = edited(&bundle, |b| b["format"] = json!("writ-evidence/v2"));
    assert!(matches!(result, Err(BundleError::OtherFormat(_))));
    let result = edited(&bundle, |b| b["extra"] = json!(1));
    assert!(matches!(result, Err(BundleError::Malformed(_))));
}

#[test]
fn an_answer_with_matching_digests_is_still_refused_by_the_seal() {
    let mut sealed = bundle(40, &[3]);
    let mut forged = {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(dir.path(), 40);
        let statement = Statement { result: json!("nobody"), ..statement() };
        Bundle::build(log.reader(), &[3], &statement).unwrap()
    };
    assert!(
        !verify(&forged.to_json().unwrap()).unwrap().sealed,
        "without a seal it is a claim, and reported as one"
    );
    sealed.seal(signer().as_ref()).unwrap();
    let seal = serde_json::from_str::<Value>(&sealed.to_json().unwrap()).unwrap()["seal"].clone();
    let result = edited(&forged, |b| b["seal"] = seal);
    assert!(matches!(result, Err(BundleError::SealMismatch)), "{result:?}");
    forged.seal(&SigningKey::from_seed("writ.example/log", [8; 32]).unwrap()).unwrap();
    assert!(matches!(verify(&forged.to_json().unwrap()), Err(BundleError::Seal(_))));
}

#[test]
fn every_altered_byte_is_refused() {
    let mut bundle = bundle(20, &[3, 4, 11]);
    bundle.seal(signer().as_ref()).unwrap();
    let file = bundle.to_json().unwrap();
    for at in 0..file.len() {
        let mut bytes = file.clone().into_bytes();
        if bytes[at].is_ascii_whitespace() {
            // Between the members of the JSON, white space means nothing.
            continue;
        }
        bytes[at] ^= 1 << (at % 7);
        let refused = Bundle::parse(&bytes).and_then(|bundle| bundle.verify(&key())).is_err();
        assert!(refused, "byte {at}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn records_share_their_proof() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 700);
    let bundle = |indexes: &[u64]| Bundle::build(log.reader(), indexes, &statement()).unwrap();
    let hashes = |bundle: &Bundle| {
        let value: Value = serde_json::from_str(&bundle.to_json().unwrap()).unwrap();
        value["hashes"].as_array().unwrap().len()
    };
    let all: Vec<u64> = (0..700).collect();
    assert_eq!(hashes(&bundle(&all)), 0);
    assert!(hashes(&bundle(&all[100..400])) < 20);
    let none = bundle(&[]);
    assert_eq!((hashes(&none), none.verify(&key()).unwrap().records), (1, 0));
    assert!(matches!(Bundle::build(log.reader(), &[700], &statement()), Err(BuildError::Read(_))));
}

#[test]
fn an_empty_log_has_a_bundle_too() {
    assert_eq!(bundle(0, &[]).verify(&key()).unwrap().checkpoint.size, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_selection_is_proven(size in 1_u64..90, picks in proptest::collection::vec(any::<u64>(), 0..30)) {
        let mut indexes: Vec<u64> = picks.iter().map(|pick| pick % size).collect();
        let bundle = bundle(size, &indexes);
        indexes.sort_unstable();
        indexes.dedup();
        prop_assert_eq!(bundle.verify(&key()).unwrap().records, indexes.len());
    }
}
