//! The program on a file of records, as they stand in a log.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use writ_compliance::evidence::{Evidence, Selection};
use writ_compliance::memory::Records;
use writ_schema::Seq;

use crate::scene::{admin, authorization, key, node, period, proposal};

fn record(seq: u64, time: &str, cause: Option<u64>, event: Value) -> Value {
    let command = json!({"id": writ_schema::CommandId::from_bytes([7; 16]), "digest": "00ff00ff00ff00ff"});
    let salt = data_encoding::BASE64.encode(&[9; 12]);
    let mut record = json!({"seq": seq, "time": time, "actor": {"admin": admin(1)}, "command": command, "salt": salt, "event": event});
    if let Some(cause) = cause {
        record["cause"] = cause.into();
    }
    record
}

fn file() -> Value {
    let day = |day: u32, rest: &str| format!("2026-10-{day:02}T{rest}Z");
    json!({
        "network": "net_example",
        "checkpoint": {"origin": "example.net/log", "size": 6, "root": "AAAA"},
        "records": [
            record(0, &day(1, "08:00:00"), None, json!({"log.opened": {"v": 1, "program": "0.1.0", "clean": true}})),
            record(1, &day(1, "08:00:01"), None, json!({"enrol_key.revoked": {"v": 1, "key": key(1)}})),
            record(2, &day(2, "09:00:00"), None, json!({"policy.activated": {"v": 1, "version": 1, "proposal": proposal(1)}})),
            record(3, &day(2, "09:00:00"), Some(2), json!({"connection.revoked": {"v": 1, "authorization": authorization(1), "reason": "policy_changed"}})),
            record(4, &day(3, "09:00:00"), None, json!({"node.removed": {"v": 1, "node": node(1), "reason": "removed"}})),
            record(5, "2026-11-01T00:00:00Z", None, json!({"log.closed": {"v": 1}})),
        ],
    })
}

fn run(file: &Path, out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writ-report"))
        .args(["--from", "2026-10-01", "--to", "2026-11-01T00:00:00Z", "--from-json"])
        .arg(file)
        .arg("--out")
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn records_of_the_log_are_understood_and_those_after_the_period_left_out() {
    let records = Records::from_json(file().to_string().as_bytes(), period()).unwrap();
    assert_eq!(records.scope().unwrap().extent.range, Some((Seq(0), Seq(4))));
    let kinds = vec!["connection.revoked".to_owned(), "log.closed".to_owned()];
    let found = records.records(&Selection { kinds, from: None, to: period().to }).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].seq, found[0].cause), (Seq(3), Some(Seq(2))));
}

#[test]
fn a_record_of_a_later_version_is_refused_rather_than_left_out() {
    let mut later = file();
    later["records"][1]["event"] = json!({"node.teleported": {"v": 1}});
    let error = Records::from_json(later.to_string().as_bytes(), period()).unwrap_err().to_string();
    assert!(error.contains("node.teleported"), "{error}");
}

#[test]
fn the_program_writes_three_files_and_writes_them_again_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.json");
    std::fs::write(&path, file().to_string()).unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for out in [&first, &second] {
        let output = run(&path, out, &["--framework", "dora", "--lang", "de"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in ["dora-de.html", "dora-de.pdf", "dora-de.json"] {
        let (a, b) = (std::fs::read(first.join(name)).unwrap(), std::fs::read(second.join(name)).unwrap());
        assert!(a == b && !a.is_empty(), "{name}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.json");
    std::fs::write(&path, "{\"records\": 5}").unwrap();
    let cases = [
        (vec!["--framework", "soc2"], "choose nis2 or dora"),
        (vec!["--framework", "nis2", "--lang", "fr"], "choose en or de"),
        (vec!["--framework", "nis2"], "JSON file"),
    ];
    for (arguments, message) in cases {
        let output = run(&path, dir.path(), &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(message), "{stderr}");
    }
}
