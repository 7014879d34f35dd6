//! `writ` as its users run it: the program itself, offline or against a listener on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails by panicking, as the test does"
)]

mod bundle;
mod export;
mod log;
mod login;
mod policy;
mod server;
mod split_view;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use writ_ledger::store::Options;
use writ_ledger::{FileLog, Log, SigningKey};
use writ_schema::event::{LogClosed, NetworkCreated, UserProvisioned, UserSource};
use writ_schema::seal::{
    HeldKey, IndexKey, KeyId, Place, Retention, Salt, Sealed, SealingKeys, Subject, SubjectKey,
};
use writ_schema::{Actor, CommandId, CommandRef, Event, NetworkId, Record, Seq, UserId};

const ORIGIN: &str = "writ.example/log";

/// What a run printed, and how it ended.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// Runs `writ` with its settings in a folder of the test.
fn writ<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_writ"))
        .args(arguments)
        .env_clear()
        .env("PATH", "/nonexistent")
        .env("WRIT_CONFIG", folder.join("credentials.toml"))
        .env("WRIT_SECRET", "writ-secret-of-the-test")
        .output()
        .unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn signer() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [7; 32]).unwrap()
}

fn vkey() -> String {
    signer().verifier_key().to_string()
}

fn user() -> UserId {
    UserId::from_bytes([4; 16])
}

fn salt(seq: u64) -> Salt {
    Salt::from_bytes([u8::try_from(seq % 251).unwrap(); Salt::BYTES])
}

/// The key of everybody.
struct OneKey;

impl SealingKeys for OneKey {
    fn sealing_key(&self, _: &(Subject, Retention), place: Place) -> Option<HeldKey> {
        let key_ref = IndexKey::from_bytes([8; 32]).key_ref(KeyId::from_bytes([7; 8]), place);
        Some(HeldKey { key_ref, key: SubjectKey::from_bytes([9; 32]).field_key(place) })
    }
}

/// The keys that open the sealed fields of a record about the user.
fn held(seq: u64) -> Vec<HeldKey> {
    let place = |field| Place { salt: salt(seq), field };
    let of = (Subject::User(user()), Retention::Identity);
    ["login", "display_name"].iter().filter_map(|field| OneKey.sealing_key(&of, place(field))).collect()
}

fn event(seq: u64) -> Event {
    let sealed = |text: &str| Sealed::new(Subject::User(user()), Retention::Identity, text.to_owned());
    match seq {
        0 => NetworkCreated {
            v: Default::default(),
            network: NetworkId::from_bytes([1; 16]),
            name: "example".to_owned(),
            prefix_v4: "100.64.0.0/10".to_owned(),
            prefix_v6: "fd00::/48".to_owned(),
            origin: ORIGIN.to_owned(),
            log_key: vkey(),
        }
        .into(),
        1 => UserProvisioned {
            v: Default::default(),
            user: user(),
            login: sealed("ada@example.com"),
            display_name: sealed("Ada"),
            source: UserSource::Manual,
        }
        .into(),
        _ => LogClosed { v: Default::default() }.into(),
    }
}

fn record(seq: u64) -> String {
    encoded(seq, event(seq))
}

fn encoded(seq: u64, event: Event) -> String {
    let mut record = Record {
        seq: Seq(seq),
        time: format!("2026-03-14T10:{:02}:{:02}Z", seq / 60 % 60, seq % 60).parse().unwrap(),
        actor: Actor::System,
        command: CommandRef { id: CommandId::from_bytes([0; 16]), digest: String::new() },
        cause: None,
        salt: Some(salt(seq)),
        event,
    };
    record.close(&OneKey).unwrap();
    record.encode().unwrap()
}

/// The checkpoint's file is there with each commit, so that the folder can be read while the log is open.
fn at_once() -> Options {
    Options { checkpoint_interval: Duration::ZERO, ..Options::default() }
}

/// A log of so many records.
fn filled(folder: &Path, size: u64) -> Log {
    let mut log = FileLog::create_with(folder, Box::new(signer()), at_once()).unwrap();
    let records: Vec<String> = (0..size).map(record).collect();
    for batch in records.chunks(7) {
        log.append(batch).unwrap();
    }
    log
}

#[test]
fn arguments_that_make_no_sense_are_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["nonsense"][..], &["verify"], &["--server", "ftp://x", "nodes"], &["login", "--pin", "short"]]
    {
        let ran = writ(folder.path(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn without_a_sign_in_the_way_to_one_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let ran = writ(folder.path(), ["nodes"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("writ login --server"), "{}", ran.stderr);
}
