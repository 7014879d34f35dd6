use super::*;
use crate::key::{CosigningKey, Signer, SigningKey};
use crate::tree::leaf_hash;

fn log() -> SigningKey {
    SigningKey::from_seed("writ.example/log", [1; 32]).unwrap()
}

fn witness(number: u8) -> CosigningKey {
    CosigningKey::from_seed(&format!("witness{number}.example"), [100 + number; 32]).unwrap()
}

/// The example of the specification: two of three X, and any of three Y.
fn example() -> String {
    let mut text = format!("# who is trusted\n\nlog {}\n", log().verifier_key());
    for (number, name) in (1..).zip(["X1", "X2", "X3", "Y1", "Y2", "Y3"]) {
        text.push_str(&format!("\twitness {name}   {} https://w.example \n", witness(number).cosigner_key()));
    }
    text.push_str("group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n");
    text.push_str("group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n");
    text
}

fn policy(text: &str) -> TrustPolicy {
    TrustPolicy::parse(text.as_bytes()).unwrap()
}

/// A checkpoint with cosignatures of these witnesses at these times.
fn checkpoint(signer: &dyn Signer, cosigners: &[(u8, u64)]) -> String {
    let checkpoint =
        Checkpoint { origin: signer.verifier_key().name().to_owned(), size: 9, root: leaf_hash(b"r") };
    let mut note: Note = checkpoint.sign(signer).unwrap().text().parse().unwrap();
    for (number, time) in cosigners {
        note.add(witness(*number).cosign(&note, *time));
    }
    note.to_string()
}

#[test]
fn the_quorum_decides_and_dates_the_checkpoint() {
    let policy = policy(&example());
    for (cosigners, witnessed_by) in [
        (&[(1, 10), (2, 20), (4, 15)][..], Some(20)),
        (&[(1, 10), (2, 20), (3, 12), (5, 11)], Some(12)),
        (&[(1, 10), (3, 20), (4, 50), (6, 40)], Some(40)),
        (&[(1, 10), (4, 15)], None),
        (&[(1, 10), (2, 20), (3, 30)], None),
        (&[], None),
    ] {
        let standing = policy.check(&checkpoint(&log(), cosigners));
        match witnessed_by {
            Some(_) => {
                let standing = standing.unwrap();
                assert_eq!(standing.witnessed_by, witnessed_by, "{cosigners:?}");
                assert_eq!(standing.cosigned.len(), cosigners.len());
                assert_eq!(standing.absent.len(), 6 - cosigners.len());
            }
            None => assert!(matches!(standing, Err(StandingError::NoQuorum { size: 9, .. })), "{standing:?}"),
        }
    }
}

#[test]
fn a_refusal_says_who_cosigned_and_who_did_not() {
    let refused = policy(&example()).check(&checkpoint(&log(), &[(1, 10), (4, 11)])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the checkpoint of size 9 lacks the quorum of witnesses that the policy demands: X1, Y1 cosigned, \
         X2, X3, Y2, Y3 did not"
    );
}

#[test]
fn a_wrong_cosignature_or_log_signature_is_refused_whatever_the_quorum() {
    let policy = policy(&example());
    let good = checkpoint(&log(), &[(1, 10), (2, 20), (4, 15), (3, 30)]);
    let later = witness(3).cosign(&Note::new("writ.example/log\n9\nother\n".into()).unwrap(), 30);
    let mut note: Note = good.parse().unwrap();
    note.retain(|signature| signature.name != later.name);
    note.add(later);
    assert!(matches!(policy.check(&note.to_string()), Err(StandingError::Checkpoint(_))));
    let other = SigningKey::from_seed("writ.example/log", [2; 32]).unwrap();
    assert!(matches!(policy.check(&checkpoint(&other, &[])), Err(StandingError::Checkpoint(_))));
    let other = SigningKey::from_seed("other.example/log", [1; 32]).unwrap();
    assert!(matches!(policy.check(&checkpoint(&other, &[])), Err(StandingError::UnknownLog(_))));
}

#[test]
fn no_cosignature_is_needed_where_the_policy_says_so() {
    let policy = policy(&format!("log {}\nquorum none\n", log().verifier_key()));
    let standing = policy.check(&checkpoint(&log(), &[(1, 5)])).unwrap();
    assert_eq!((standing.witnessed_by, standing.cosigned.len()), (None, 0));
}

#[test]
fn a_malformed_policy_names_its_line() {
    let (log_key, w1, w2) = (log().verifier_key(), witness(1).cosigner_key(), witness(2).cosigner_key());
    for (text, line, problem) in [
        ("quorum none".to_owned(), 1, "ended by a line break"),
        ("quorum none\r\n".to_owned(), 1, "control characters"),
        ("\nlogs x\n".to_owned(), 2, "expected `log`"),
        ("log\n".to_owned(), 1, "log <vkey>"),
        (format!("log {w1}\n"), 1, "a cosigner's key"),
        (format!("witness a {log_key}\n"), 1, "a log's key"),
        (format!("log {log_key}\nlog {log_key}\n"), 2, "given before"),
        (format!("witness a {w1}\nwitness b {w1}\n"), 2, "given before"),
        (format!("witness a {w1}\nwitness a {w2}\n"), 2, "defined already"),
        (format!("witness none {w1}\n"), 1, "defined already"),
        ("group g any a\n".to_owned(), 1, "no line before defines \"a\""),
        (format!("witness a {w1}\ngroup g any none\n"), 2, "no line before defines \"none\""),
        (format!("witness a {w1}\ngroup g 2 a\n"), 2, "1 to 1"),
        (format!("witness a {w1}\ngroup g 01 a\n"), 2, "1 to 1"),
        (format!("witness a {w1}\ngroup g 0 a\n"), 2, "1 to 1"),
        (format!("witness a {w1}\ngroup g all\n"), 2, "1 to 0"),
        (format!("witness a {w1}\ngroup g any a\ngroup h any a\n"), 3, "member of a group already"),
        (format!("witness a {w1}\ngroup g any a a\n"), 2, "member of a group already"),
        ("quorum none\nquorum none\n".to_owned(), 2, "`quorum` line already"),
        ("quorum g\n".to_owned(), 1, "no line before defines \"g\""),
        ("quorum\n".to_owned(), 1, "quorum <name>"),
    ] {
        let error = TrustPolicy::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("policy line {line}: ")), "{text:?}: {error}");
        assert!(error.contains(problem), "{text:?}: {error}");
    }
    assert!(matches!(TrustPolicy::parse(b"# nothing\n"), Err(PolicyError::NoQuorum)));
    assert!(matches!(TrustPolicy::parse(&[b'#'; MAX_POLICY_BYTES + 1]), Err(PolicyError::TooLarge(_))));
}

#[test]
fn names_are_bytes_and_any_bytes_are_read_without_panic() {
    let (w1, w2) = (witness(1).cosigner_key(), witness(2).cosigner_key());
    let kelvin = format!("witness K {w1}\nwitness \u{212a} {w2}\ngroup g all K \u{212a}\nquorum g\n");
    assert_eq!(policy(&kelvin).witnesses().len(), 2);
    let latin = [b"witness \xe9 ".as_slice(), w1.to_string().as_bytes(), b"\nquorum \xe9\n"].concat();
    assert!(TrustPolicy::parse(&latin).is_ok());
    let text = example().into_bytes();
    for at in 0..text.len() {
        let mut text = text.clone();
        text[at] = text[at].wrapping_add(0x81);
        let _ = TrustPolicy::parse(&text);
    }
}
