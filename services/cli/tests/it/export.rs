use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use writ_ledger::{FileLog, Log, SigningKey};
use writ_schema::event::LogKeyRotated;

use super::log::answer;
use super::login::ADMIN;
use super::server::Server;
use super::{ORIGIN, Ran, encoded, filled, record, vkey, writ};

/// The name of a file as an argument.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn export(folder: &Path, dir: &Path, log: &Path) -> Ran {
    writ(folder, ["log", "export", text(dir), "--from", text(log), "--key", &vkey(), "--json"])
}

fn verify(folder: &Path, dir: &Path) -> Ran {
    writ(folder, ["log", "verify", text(dir), "--key", &vkey(), "--json"])
}

/// A log of 300 records and its export.
fn exported(folder: &Path) -> (Log, PathBuf) {
    let log = filled(&folder.join("log"), 300);
    let dir = folder.join("out");
    let ran = export(folder, &dir, &folder.join("log"));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    (log, dir)
}

/// Changes the key of a log to another one, as `writd log rotate-key` does.
fn rotate(log: &mut Log) -> SigningKey {
    let next = SigningKey::from_seed(ORIGIN, [8; 32]).unwrap();
    let rotation = log.rotation_to(&next).unwrap();
    let event = LogKeyRotated {
        v: Default::default(),
        old_key: vkey(),
        new_key: next.verifier_key().to_string(),
        rotation: rotation.statement.clone(),
    };
    log.append(&[encoded(log.size(), event.into())]).unwrap();
    log.hand_over(Box::new(SigningKey::from_seed(ORIGIN, [8; 32]).unwrap()), &rotation).unwrap();
    next
}

#[test]
fn a_log_whose_key_changed_is_exported_and_verified_from_either_key() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, dir) = exported(folder.path());
    let first = format!("{}\n", vkey());
    assert_eq!(fs::read_to_string(dir.join("log.vkey")).unwrap(), first);
    let next = rotate(&mut log).verifier_key().to_string();
    log.append(&(301..320).map(record).collect::<Vec<_>>()).unwrap();
    let again = export(folder.path(), &dir, &folder.path().join("log")).json();
    assert_eq!((&again["before"], &again["size"]), (&300.into(), &320.into()));
    for dir in [&dir, &folder.path().join("log")] {
        for key in [vkey(), next.clone()] {
            let ran = writ(folder.path(), ["log", "verify", text(dir), "--key", &key]);
            assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        }
    }
    let ran = writ(folder.path(), ["log", "verify", text(&dir), "--key", &vkey()]);
    assert!(ran.stdout.contains("changed once") && ran.stdout.contains(&next), "{}", ran.stdout);
    // Without the changes, the new key is anybody's.
    fs::remove_file(dir.join("rotations")).unwrap();
    let ran = writ(folder.path(), ["log", "verify", text(&dir), "--key", &vkey()]);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_log_that_is_signed_by_another_key_than_its_records_say_is_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = exported(folder.path());
    rotate(&mut log);
    log.append(&[record(301)]).unwrap();
    // The holder of the former key goes on as if nothing were.
    let forged = folder.path().join("forged");
    let records: Vec<Vec<u8>> = log
        .reader()
        .read_range(0..302)
        .map(|record| record.map(|(_, record)| record))
        .collect::<Result<_, _>>()
        .unwrap();
    FileLog::create(&forged, Box::new(super::signer())).unwrap().append(&records).unwrap();
    let ran = writ(folder.path(), ["log", "verify", text(&forged), "--key", &vkey()]);
    assert!(ran.code == 1 && ran.stdout.contains("the records make"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn an_export_is_verified_with_the_key_beside_it_and_continued_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, dir) = exported(folder.path());
    let key = text(&dir.join("log.vkey")).to_owned();
    let ran = writ(folder.path(), ["log", "verify", text(&dir), "--key", &key]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.starts_with("VERIFIED") && ran.stdout.contains("300 records"), "{}", ran.stdout);

    let kept = folder.path().join("kept");
    fs::copy(dir.join("checkpoint"), &kept).unwrap();
    log.append(&(300..320).map(record).collect::<Vec<_>>()).unwrap();
    let again = export(folder.path(), &dir, &folder.path().join("log")).json();
    assert_eq!((&again["before"], &again["size"]), (&300.into(), &320.into()));
    for dir in [dir, folder.path().join("log")] {
        let continues = ["log", "verify", text(&dir), "--key", &key, "--continues", text(&kept), "--json"];
        let verdict = writ(folder.path(), continues);
        assert_eq!(
            (verdict.code, &verdict.json()["continues"]["size"]),
            (0, &300.into()),
            "{}",
            verdict.stdout
        );
    }
}

#[test]
fn a_flipped_byte_in_any_file_of_an_export_is_found_and_the_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, dir) = exported(folder.path());
    for (name, place, record) in [
        ("tile/entries/000", "tile/entries/000", true),
        ("tile/entries/001.p/44", "tile/entries/001.p/44", true),
        ("tile/0/001.p/44", "tile/0/001.p/44", false),
        ("tile/1/000.p/1", "tile/1/000.p/1", false),
        ("checkpoint", "checkpoint", false),
    ] {
        let whole = fs::read(dir.join(name)).unwrap();
        let mut bytes = whole.clone();
        bytes[30] ^= 1;
        fs::write(dir.join(name), bytes).unwrap();
        let ran = verify(folder.path(), &dir);
        assert_eq!(ran.code, 1, "{name}");
        let first = ran.json()["findings"][0].clone();
        assert_eq!((&first["place"], first["record"].is_u64()), (&place.into(), record), "{first}");
        fs::write(dir.join(name), whole).unwrap();
    }
    assert_eq!(verify(folder.path(), &dir).code, 0);
    fs::remove_file(dir.join("tile/entries/000")).unwrap();
    let missing = verify(folder.path(), &dir);
    assert!(missing.code == 1 && missing.stdout.contains("the tile is missing"), "{}", missing.stdout);
}

#[test]
fn what_cannot_be_continued_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, dir) = exported(folder.path());
    drop(filled(&folder.path().join("shorter"), 200));
    let ran = export(folder.path(), &dir, &folder.path().join("shorter"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("the log was rolled back; keep the directory as evidence"), "{}", ran.stderr);
    let into_itself = export(folder.path(), &folder.path().join("log"), &folder.path().join("log"));
    assert!(into_itself.stderr.contains("holds no exported log"), "{}", into_itself.stderr);
    assert_eq!(verify(folder.path(), &dir).json()["records"], 300);
}

#[test]
fn a_directory_cannot_vouch_for_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, dir) = exported(folder.path());
    let ran = writ(folder.path(), ["log", "verify", text(&dir)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("log.vkey") && ran.stderr.contains("--key"), "{}", ran.stderr);
    let other = SigningKey::from_seed("writ.example/log", [8; 32]).unwrap().verifier_key().to_string();
    let ran = writ(folder.path(), ["log", "verify", text(&dir), "--key", &other]);
    assert!(ran.code == 1 && ran.stdout.contains("is not signed by writ.example/log"), "{}", ran.stdout);
}

#[test]
fn a_log_of_another_program_is_checked_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut log =
        FileLog::create_with(&folder.path().join("log"), Box::new(super::signer()), super::at_once())
            .unwrap();
    log.append(&["{}", "{\"a\":1}"]).unwrap();
    let dir = folder.path().join("out");
    assert_eq!(export(folder.path(), &dir, &folder.path().join("log")).code, 0);
    let verdict = verify(folder.path(), &dir);
    assert_eq!((verdict.code, &verdict.json()["opaque"]), (0, &true.into()), "{}", verdict.stdout);
}

#[test]
fn a_servers_log_is_exported_by_whoever_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Mutex::new(filled(&folder.path().join("log"), 300)));
    let serving = log.clone();
    let server = Server::start(Arc::new(move |path, _| answer(serving.lock().unwrap().reader(), path)));
    let ran = writ(folder.path(), ["login", "--server", &server.url, "--admin", ADMIN, "--pin", &server.pin]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let dir = folder.path().join("out");
    for (before, size) in [(0, 300), (300, 310)] {
        let mut log = log.lock().unwrap();
        let new: Vec<String> = (log.size()..size).map(record).collect();
        if !new.is_empty() {
            log.append(&new).unwrap();
        }
        drop(log);
        let ran = writ(folder.path(), ["log", "export", text(&dir), "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!((&ran.json()["before"], &ran.json()["size"]), (&before.into(), &size.into()));
        assert_eq!(verify(folder.path(), &dir).code, 0);
    }
}
