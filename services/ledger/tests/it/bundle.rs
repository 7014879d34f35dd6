use std::collections::BTreeSet;

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

/// A file that is accepted although it was altered has to say exactly what the original says: only white space between tokens, and how a string
/// is escaped, are without meaning (schema/evidence.md). Returns whether it was accepted.
fn is_harmless(original: &str, altered: &[u8], what: &str) -> bool {
    let Ok(bundle) = Bundle::parse(altered) else { return false };
    if bundle.verify(&key()).is_err() {
        return false;
    }
    assert_eq!(bundle.to_json().unwrap(), original, "{what}: accepted, and says something else");
    true
}

#[test]
fn every_altered_byte_and_every_byte_more_or_less_is_refused_or_without_meaning() {
    let mut bundle = bundle(20, &[3, 11]);
    bundle.seal(signer().as_ref()).unwrap();
    let file = bundle.to_json().unwrap();
    let middle = file.len() / 2;
    let additions = std::thread::scope(|scope| {
        let halves = [0..middle, middle..file.len()].map(|half| scope.spawn(|| alter_each(&file, half)));
        halves.into_iter().map(|half| half.join().unwrap()).sum::<u32>()
    });
    assert!(additions > 0, "white space may be added between tokens");
}

/// Alters, removes and adds to each of these bytes; returns how many additions were harmless.
fn alter_each(file: &str, range: std::ops::Range<usize>) -> u32 {
    let (bytes, mut additions) = (file.as_bytes(), 0);
    for at in range {
        // A letter's neighbour, a digit's, and the other case.
        for bit in [0, 2, 5] {
            let (mut altered, what) = (bytes.to_vec(), format!("byte {at} bit {bit}"));
            altered[at] ^= 1 << bit;
            assert!(
                !is_harmless(file, &altered, &what),
                "{what}: no bit turns white space into other white space"
            );
        }
        let mut shorter = bytes.to_vec();
        let removed = shorter.remove(at);
        let harmless = is_harmless(file, &shorter, &format!("without byte {at}"));
        assert!(!harmless || removed.is_ascii_whitespace(), "byte {at} is no white space");
        for byte in *b" \\" {
            let mut longer = bytes.to_vec();
            longer.insert(at, byte);
            let harmless = is_harmless(file, &longer, &format!("with {byte} before byte {at}"));
            let escapes_slash = byte == b'\\' && bytes[at] == b'/';
            assert!(!harmless || byte == b' ' || escapes_slash, "{byte} before byte {at}");
            additions += u32::from(harmless);
        }
    }
    additions
}

#[test]
fn another_spelling_of_the_same_evidence_is_the_same_evidence() {
    let mut bundle = bundle(20, &[3, 4, 11]);
    bundle.seal(signer().as_ref()).unwrap();
    let file = bundle.to_json().unwrap();
    let compact = serde_json::to_string(&bundle).unwrap();
    let escaped = file.replacen("writ-evidence/v1", "writ-evidence\\/v\\u0031", 1);
    assert!(escaped != file && compact != file);
    for same in [compact, escaped] {
        assert!(is_harmless(&file, same.as_bytes(), "another spelling"));
    }
    let twice = file.replacen("\"entries\"", "\"keys\": null, \"entries\"", 1);
    assert!(matches!(verify(&twice), Err(BundleError::Malformed(_))), "a repeated member has two readings");
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
fn a_thousand_records_share_their_tree_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 5000);
    let scattered = |n: u64| n * 2_654_435_761 % 5000;
    for (indexes, most) in [
        ((0..1000).collect::<Vec<u64>>(), 12),
        ((2311..3311).collect(), 2 * 13),
        ((0..1000).map(|n| n * 5).collect(), 2_300),
        ((0..1000).map(scattered).collect(), 2_300),
    ] {
        let bundle = Bundle::build(log.reader(), &indexes, &statement()).unwrap();
        assert_eq!((bundle.entries().len(), bundle.verify(&key()).unwrap().records), (1000, 1000));
        let value: Value = serde_json::from_str(&bundle.to_json().unwrap()).unwrap();
        let shared: Vec<String> = serde_json::from_value(value["hashes"].clone()).unwrap();
        let mut single = Vec::new();
        for index in &indexes {
            let proof = log.reader().inclusion(*index, 5000).unwrap();
            single.extend(proof.hashes.iter().map(ToString::to_string));
        }
        assert!(shared.len() <= most && most * 5 < single.len(), "{} of {}", shared.len(), single.len());
        let distinct: BTreeSet<String> = shared.iter().cloned().collect();
        assert_eq!(distinct.len(), shared.len(), "no node comes twice");
        let needed = BTreeSet::from_iter(single);
        assert!(distinct.is_subset(&needed), "every node is one that a single proof needs too");
        let short = edited(&bundle, |b| {
            b["hashes"].as_array_mut().unwrap().pop();
        });
        assert!(short.is_err(), "and none is one too many");
    }
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
