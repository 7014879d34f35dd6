//! A log of sixty records, an auditor who kept its checkpoint, and an attacker who can write to its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use writ_ledger::{FileLog, Log, SigningKey};
use writ_schema::event::{LogClosed, NetworkCreated};
use writ_schema::seal::Salt;
use writ_schema::{Actor, CommandId, CommandRef, NetworkId, Record, Seq};
use writ_tests::programs;

pub const ORIGIN: &str = "writ.example/log";

/// Records of the scene's log, in commits of six.
pub const SIZE: u64 = 60;

/// The log's own key, which an attacker may have stolen.
pub fn signer() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [7; 32]).unwrap()
}

/// A record as the control plane writes it, so many seconds after ten o'clock.
pub fn record_at(seq: u64, seconds: i64, name: &str) -> String {
    let created = NetworkCreated {
        v: Default::default(),
        network: NetworkId::from_bytes([1; 16]),
        name: "example".to_owned(),
        prefix_v4: "100.64.0.0/10".to_owned(),
        prefix_v6: "fd00::/48".to_owned(),
        origin: ORIGIN.to_owned(),
        log_key: signer().verifier_key().to_string(),
    };
    let ten: jiff::Timestamp = "2026-03-14T10:00:00Z".parse().unwrap();
    let record = Record {
        seq: Seq(seq),
        time: ten + jiff::SignedDuration::from_secs(seconds),
        actor: Actor::System,
        command: CommandRef { id: CommandId::from_bytes([0; 16]), digest: name.to_owned() },
        cause: None,
        salt: Some(Salt::from_bytes([0; Salt::BYTES])),
        event: if seq == 0 { created.into() } else { LogClosed { v: Default::default() }.into() },
    };
    record.encode().unwrap()
}

pub fn record(seq: u64) -> String {
    record_at(seq, seq as i64, "honest")
}

/// The scene. The auditor keeps the checkpoint of the whole log outside of the attacker's reach.
pub struct Scene {
    folder: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        let mut log = scene.make("log", signer());
        append(&mut log, 0..SIZE, record);
        fs::write(scene.kept(), log.reader().checkpoint().text()).unwrap();
        scene
    }

    /// A log of a name, still empty.
    pub fn make(&self, name: &str, signer: SigningKey) -> Log {
        FileLog::create(&self.path(name), Box::new(signer)).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// The auditor's checkpoint.
    pub fn kept(&self) -> PathBuf {
        self.path("kept")
    }

    /// Rewrites the lines of the log's file; an empty line ends a commit.
    pub fn rewrite(&self, change: impl FnOnce(&mut Vec<String>)) {
        let segment = self.log().join("segments/00000000000000000000.jsonl");
        let text = fs::read_to_string(&segment).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(segment, lines.join("\n") + "\n").unwrap();
    }

    /// What `writ log verify` prints of a folder, to somebody who knows the log's key and has kept nothing.
    pub fn verify(&self, log: &Path) -> String {
        self.writ(log, &[])
    }

    /// The same to the auditor, who has kept a checkpoint.
    pub fn verify_with_kept(&self, log: &Path) -> String {
        self.writ(log, &[("--continues", &self.kept())])
    }

    /// The same to somebody whose policy demands witnesses.
    pub fn verify_with_policy(&self, log: &Path, policy: &str) -> String {
        let path = self.path("trust.policy");
        fs::write(&path, policy).unwrap();
        self.writ(log, &[("--policy", &path)])
    }

    fn writ(&self, log: &Path, given: &[(&str, &Path)]) -> String {
        let program = programs::find(&programs::built().unwrap(), "writ").unwrap();
        let mut command = Command::new(program);
        command.env("WRIT_CONFIG", self.path("credentials.toml")).args(["log", "verify"]).arg(log);
        command.arg("--key").arg(signer().verifier_key().to_string());
        for (option, file) in given {
            command.arg(option).arg(file);
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.success(), said.starts_with("VERIFIED"), "{said}");
        said
    }

    /// Why the control plane does not start on the log.
    pub fn refusal_to_start(&self) -> String {
        FileLog::open(&self.log(), Box::new(signer())).unwrap_err().to_string()
    }
}

/// The line of a record.
pub fn line_of(lines: &[String], seq: u64) -> usize {
    lines.iter().position(|line| line.contains(&format!("\"seq\":{seq},"))).unwrap()
}

pub fn append(log: &mut Log, range: std::ops::Range<u64>, record: impl Fn(u64) -> String) {
    let records: Vec<String> = range.map(record).collect();
    records.chunks(6).for_each(|commit| {
        log.append(commit).unwrap();
    });
}
