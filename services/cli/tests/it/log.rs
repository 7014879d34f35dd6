use std::fs;
use std::path::{Path, PathBuf};

use std::sync::{Arc, Mutex};

use writ_ledger::{CosigningKey, Reader};

use super::login::{ADMIN, token};
use super::server::Server;
use super::{Ran, filled, vkey, writ};

fn verify(folder: &Path, log: &Path) -> Ran {
    writ(folder, ["log", "verify", log.to_str().unwrap(), "--key", &vkey(), "--json"])
}

fn log(folder: &Path) -> PathBuf {
    let dir = folder.join("log");
    drop(filled(&dir, 300));
    dir
}

#[test]
fn a_whole_log_in_a_folder_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let ran = verify(folder.path(), &log(folder.path()));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let value = ran.json();
    assert_eq!((&value["verified"], &value["records"]), (&true.into(), &300.into()));
}

#[test]
fn a_flipped_byte_is_found_and_its_record_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = log(folder.path());
    let segment = dir.join("segments/00000000000000000000.jsonl");
    let mut bytes = fs::read(&segment).unwrap();
    let needle = b"\"seq\":123,";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at + needle.len() - 2] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let ran = verify(folder.path(), &dir);
    assert_eq!(ran.code, 1);
    let findings = ran.json()["findings"].as_array().unwrap().clone();
    let named = findings.iter().find(|finding| finding["record"] == 123).unwrap();
    assert_eq!(named["place"], "00000000000000000000.jsonl");
    let text = writ(folder.path(), ["log", "verify", dir.to_str().unwrap(), "--key", &vkey()]).stdout;
    assert!(text.starts_with("NOT VERIFIED") && text.contains("record 123"), "{text}");
}

#[test]
fn a_log_is_backed_up_and_restored_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (log, copy, key) = (log(folder.path()), folder.path().join("copy"), vkey());
    let command = |what: &str, from: &Path, to: &Path| {
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        writ(folder.path(), ["log", what, from, to, "--key", &key, "--json"])
    };
    for _ in 0..2 {
        let ran = command("backup", &log, &copy);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.json()["checkpoint"]["size"], 300);
    }
    let ran = command("restore", &copy, &log);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("is there already"), "{}", ran.stderr);
    fs::remove_dir_all(&log).unwrap();
    let ran = command("restore", &copy, &log);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(verify(folder.path(), &log).json()["records"], 300);
}

#[test]
fn a_folder_without_a_log_is_an_error_not_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let ran = verify(folder.path(), &folder.path().join("nothing"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("nothing"), "{}", ran.stderr);
}

pub fn answer(log: &Reader, path: &str) -> (u16, Vec<u8>) {
    match path.strip_prefix("/log/") {
        Some("checkpoint") => (200, log.checkpoint().text().as_bytes().to_vec()),
        Some("vkey") => (200, format!("{}\n", log.checkpoint().key()).into_bytes()),
        Some(tile) => match tile.parse().ok().and_then(|tile| log.tile(&tile).ok().flatten()) {
            Some(bytes) => (200, bytes),
            None => (404, Vec::new()),
        },
        None => token(),
    }
}

#[test]
fn a_server_that_rolls_its_log_back_is_found_by_what_was_verified_before() {
    let folder = tempfile::tempdir().unwrap();
    let whole = filled(&folder.path().join("whole"), 300).reader().clone();
    let shorter = filled(&folder.path().join("shorter"), 290).reader().clone();
    let served = Arc::new(Mutex::new(whole.clone()));
    let serving = served.clone();
    let server = Server::start(Arc::new(move |path, _| answer(&serving.lock().unwrap(), path)));
    let ran = writ(folder.path(), ["login", "--server", &server.url, "--admin", ADMIN, "--pin", &server.pin]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("taken from the server"), "{}", ran.stdout);
    let verify = || writ(folder.path(), ["log", "verify", "--json"]);
    let first = verify();
    assert_eq!((first.code, &first.json()["records"]), (0, &300.into()), "{}{}", first.stdout, first.stderr);
    assert_eq!(first.json()["keyTakenFromServer"], false, "the sign-in took it, and said so");
    *served.lock().unwrap() = shorter;
    let rolled_back = verify();
    assert_eq!(rolled_back.code, 1);
    assert!(rolled_back.stdout.contains("rolled back"), "{}", rolled_back.stdout);
    *served.lock().unwrap() = whole;
    let again = verify();
    assert_eq!((again.code, &again.json()["continues"]["size"]), (0, &300.into()), "{}", again.stdout);
}

#[test]
fn a_policy_demands_that_witnesses_have_seen_the_log_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let witness = CosigningKey::from_seed("witness.example/w", [3; 32]).unwrap();
    let policy = folder.path().join("trust.policy");
    fs::write(&policy, format!("log {}\nwitness ada {}\nquorum ada\n", vkey(), witness.cosigner_key()))
        .unwrap();
    let dir = folder.path().join("log");
    let log = filled(&dir, 40);
    let arguments = ["log", "verify", "--dir", dir.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let ran = writ(folder.path(), arguments);
    assert!(ran.code == 1 && ran.stdout.contains("checkpoint.cosigned"), "{}{}", ran.stdout, ran.stderr);
    let signed = log.reader().checkpoint();
    let cosignature = witness.cosign(&signed.text().parse().unwrap(), 1_800_000_000);
    fs::write(dir.join("checkpoint.cosigned"), signed.with_signatures(&[cosignature]).text()).unwrap();
    let ran = writ(folder.path(), arguments);
    assert!(
        ran.code == 0 && ran.stdout.contains("ada cosigned it at 2027-01-15"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    // A shorter copy of the log is not the one that the witness has seen.
    let cosigned = fs::read(dir.join("checkpoint.cosigned")).unwrap();
    let shorter = folder.path().join("shorter");
    filled(&shorter, 30);
    fs::write(shorter.join("checkpoint.cosigned"), cosigned).unwrap();
    let arguments =
        ["log", "verify", "--dir", shorter.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let ran = writ(folder.path(), arguments);
    assert!(ran.code == 1 && ran.stdout.contains("rolled back"), "{}{}", ran.stdout, ran.stderr);
}
