//! Writ's log before verifiers that others wrote, and logs that others wrote before Writ's verifier.
//!
//! The others are Go's `golang.org/x/mod/sumdb` (`tlog` and `note`) and Tessera (client, `fsck`, POSIX driver), in the program of
//! `tests/interop`.

mod bundle;
mod made;
mod proofs;
mod published;
mod served;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use writ_ledger::{FileLog, Log, SigningKey, VerifierKey};
use writ_tests::programs;

const ORIGIN: &str = "writ.example/log";

/// The verifiers of others.
const THEIRS: [&str; 2] = ["check-sumdb", "check-tessera"];

/// The program of `tests/interop`, built once.
fn interop() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
        let mut go = Command::new("go");
        go.current_dir(source)
            .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg(".");
        let output =
            go.output().unwrap_or_else(|error| panic!("{error}: tests/run installs Go: run it once"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        program
    })
}

/// What a program found, or why it refuses.
type Verdict = Result<Value, String>;

fn verdict(output: &Output) -> Verdict {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        Some(1) => Err(text(&output.stderr)),
        code => panic!("{code:?}: {}", text(&output.stderr)),
    }
}

fn go<S: AsRef<OsStr>>(command: &str, arguments: &[S]) -> Verdict {
    verdict(&Command::new(interop()).arg(command).args(arguments).output().unwrap())
}

/// One of their verifiers over a directory, and whether it continues an older checkpoint.
fn theirs(verifier: &str, dir: &Path, old: Option<&Path>) -> Verdict {
    let key = dir.join("log.vkey");
    let mut arguments = vec![OsStr::new("-log"), dir.as_os_str(), OsStr::new("-key"), key.as_os_str()];
    if let Some(old) = old {
        arguments.extend([OsStr::new("-old"), old.as_os_str()]);
    }
    go(verifier, &arguments)
}

/// What `writ` prints, with the settings of nobody.
fn writ(arguments: &[&str]) -> Output {
    let program = programs::find(&programs::built().unwrap(), "writ").unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env("WRIT_CONFIG", "/nonexistent/credentials.toml").output().unwrap()
}

/// Our verifier over a directory: the size, or the findings.
fn ours(dir: &Path, old: Option<&Path>) -> Verdict {
    let key = dir.join("log.vkey");
    let mut arguments = vec!["log", "verify", text(dir), "--key", text(&key), "--json"];
    if let Some(old) = old {
        arguments.extend(["--continues", text(old)]);
    }
    let output = writ(&arguments);
    let value: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(value["verified"].as_bool(), Some(output.status.success()));
    if output.status.success() { Ok(value) } else { Err(value["findings"].to_string()) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn signer() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [7; 32]).unwrap()
}

fn key() -> VerifierKey {
    signer().verifier_key()
}

fn records(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|seq| format!("{{\"note\":\"record number {seq}\"}}")).collect()
}

/// A log of so many records in a folder.
fn log(folder: &Path, size: u64) -> Log {
    let mut log = FileLog::create(folder, Box::new(signer())).unwrap();
    log.append(&records(0..size)).unwrap();
    log
}

/// Exports the log of a folder with `writ`.
fn export(log: &Path, dir: &Path) {
    let output = writ(&["log", "export", text(dir), "--from", text(log), "--key", &key().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Keeps the newest checkpoint of a log.
fn keep_checkpoint(log: &Log, file: &Path) {
    fs::write(file, log.reader().checkpoint().text()).unwrap();
}

/// Flips the lowest bit of a byte.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
