//! A real `writd witness` in a process of its own, asked over HTTP.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use writ_ledger::witness::AddCheckpoint;
use writ_ledger::{CosignerKey, Log};
use writ_tests::programs;

use super::scene::signer;

/// The witness of the scene's log, killed when it goes out of scope.
pub struct WitnessProcess {
    child: Child,
    address: String,
    key: CosignerKey,
}

fn writd() -> PathBuf {
    programs::find(&programs::built().unwrap(), "writd").unwrap()
}

impl WitnessProcess {
    /// Makes a witness in a folder and runs it.
    pub fn start(data: &Path) -> Self {
        let log_key = signer().verifier_key().to_string();
        let init =
            ["witness", "init", "--name", "witness.example", "--listen", "127.0.0.1:0", "--log", &log_key];
        let made = Command::new(writd()).args(init).arg("--data").arg(data).output().unwrap();
        let told = String::from_utf8(made.stdout).unwrap();
        let key = told.lines().find_map(|line| line.trim().strip_prefix("public key  "));
        let key = key.unwrap_or_else(|| panic!("{told}{}", String::from_utf8_lossy(&made.stderr)));
        let mut run = Command::new(writd());
        run.args(["witness", "run", "--data"]).arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = run.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once(" on ").unwrap_or_else(|| panic!("not ready: {line}"));
        let address = rest.split(',').next().unwrap().to_owned();
        Self { child, address, key: key.parse().unwrap() }
    }

    /// A policy that trusts the scene's log where this witness has cosigned.
    pub fn policy(&self) -> String {
        let log = signer().verifier_key();
        format!("log {log}\nwitness security-team {}\nquorum security-team\n", self.key)
    }

    /// Asks for a cosignature on a log's checkpoint, which is said to continue one of a size. Gives the cosigned checkpoint, or
    /// status and words of the refusal.
    pub fn cosign(&self, log: &Log, old: u64) -> Result<String, (u16, String)> {
        let proof = log.reader().consistency(old, log.size()).unwrap().hashes;
        let note = log.reader().checkpoint().text().to_owned();
        let body = AddCheckpoint::new(old, proof, &note).unwrap().to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("http://{}/add-checkpoint", self.address);
            let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
            let (status, said) = (answer.status().as_u16(), answer.text().await.unwrap());
            if status == 200 { Ok(note + &said) } else { Err((status, said)) }
        })
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
