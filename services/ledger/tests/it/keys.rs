//! Where a log's key comes from, and how it changes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use writ_ledger::directory::export;
use writ_ledger::{
    AgentSigner, CheckpointError, FileLog, Finding, Log, LogKeys, OpenError, Rotation, SignError,
    SignedCheckpoint, Signer, SigningKey, TileFinding, TilesDirectory, VerifierKey, audit_tiles, back_up,
    restore, verify_log,
};

use super::{ORIGIN, key, signer};

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pem(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn other(byte: u8) -> Box<dyn Signer> {
    Box::new(SigningKey::from_seed(ORIGIN, [byte; 32]).unwrap())
}

/// Records the change to another key and carries it out.
fn rotate(log: &mut Log, next: Box<dyn Signer>) -> Rotation {
    let rotation = log.rotation_to(next.as_ref()).unwrap();
    log.append(&["{\"rotated\":true}"]).unwrap();
    log.hand_over(next, &rotation).unwrap();
    rotation
}

#[test]
fn a_key_made_by_openssl_signs_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = pem(folder.path(), "log.pem");
    let key = SigningKey::load_named(&path, ORIGIN).unwrap();
    // The public half that openssl sees is the one that verifies.
    let public = run(Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(&path));
    let hex: String = public.split("pub:").nth(1).unwrap().chars().filter(char::is_ascii_hexdigit).collect();
    assert_eq!(data_encoding::HEXLOWER.encode(key.verifier_key().as_bytes()), hex);
    let mut log = FileLog::create_with(&folder.path().join("log"), Box::new(key), super::at_once()).unwrap();
    log.append(&["{}"]).unwrap();
    let key = log.verifier_key();
    drop(log);
    assert!(verify_log(&folder.path().join("log"), &key).unwrap().is_sound());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(SigningKey::load_named(&path, ORIGIN).unwrap_err().to_string().contains("chmod 600"));
    let rsa = folder.path().join("rsa.pem");
    run(Command::new("openssl").args(["genpkey", "-algorithm", "rsa", "-out"]).arg(&rsa));
    fs::set_permissions(&rsa, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(SigningKey::load_named(&rsa, ORIGIN).unwrap_err().to_string().contains("Ed25519"));
}

/// OpenSSH's agent, killed when it goes out of scope.
struct Agent {
    child: Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent.sock");
        let _ = fs::remove_file(&socket);
        let child =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "ssh-agent did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, socket }
    }

    fn add(&self, key: &Path) {
        run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_key_in_an_ssh_agent_signs_the_log_and_never_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path));
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    let blob = data_encoding::BASE64.decode(public.split(' ').nth(1).unwrap().as_bytes()).unwrap();
    let bytes: [u8; 32] = blob[blob.len() - 32..].try_into().unwrap();
    let key = VerifierKey::from_bytes(ORIGIN, &bytes).unwrap();

    let agent = Agent::start(folder.path());
    let refused = AgentSigner::connect(&agent.socket, key.clone()).unwrap_err();
    assert!(refused.to_string().contains("is it loaded"), "{refused}");
    agent.add(&path);
    let signer = AgentSigner::connect(&agent.socket, key.clone()).unwrap();
    let dir = folder.path().join("log");
    let mut log = FileLog::create_with(&dir, Box::new(signer), super::at_once()).unwrap();
    log.append(&["{}"]).unwrap();
    // While the agent is away nothing is shown; once it is back, what was stored is.
    let socket = agent.socket.clone();
    drop(agent);
    let failed = log.append(&["{}"]).unwrap_err();
    assert!(failed.to_string().contains("the ssh-agent at"), "{failed}");
    assert_eq!(log.reader().size(), 1);
    let agent = Agent::start(folder.path());
    assert_eq!(agent.socket, socket);
    agent.add(&path);
    assert_eq!(log.lead().unwrap(), 2);
    log.append(&["{}"]).unwrap();
    drop(log);
    assert!(verify_log(&dir, &key).unwrap().is_sound());
    let missing = AgentSigner::connect(Path::new("/nonexistent"), key).unwrap_err();
    assert!(matches!(missing, SignError::Unavailable(_)));
}

#[test]
fn a_log_whose_key_changed_twice_is_verified_from_the_first_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(folder.path(), signer(), super::at_once()).unwrap();
    log.append(&["{\"n\":0}", "{\"n\":1}"]).unwrap();
    let before = log.reader().checkpoint();
    rotate(&mut log, other(8));
    // At the size of the change both sign.
    let both = log.reader().checkpoint();
    assert!(SignedCheckpoint::open(both.text(), &key()).is_ok());
    log.append(&["{\"n\":3}"]).unwrap();
    rotate(&mut log, other(9));
    log.append(&["{\"n\":5}"]).unwrap();
    drop(log);
    for trusted in [key(), other(8).verifier_key(), other(9).verifier_key()] {
        let report = verify_log(folder.path(), &trusted).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let reader = FileLog::open_read_only(folder.path(), &trusted).unwrap();
        assert_eq!(reader.checkpoint().key(), &other(9).verifier_key());
    }
    let keys = LogKeys::load(folder.path(), key()).unwrap();
    assert!(keys.open(before.text()).is_ok());
    // Only the newest key can go on with it.
    assert!(matches!(FileLog::open(folder.path(), signer()), Err(OpenError::Checkpoint { .. })));
    assert!(FileLog::open(folder.path(), other(9)).is_ok());
}

#[test]
fn the_thief_of_a_former_key_signs_nothing_that_is_newer_than_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(folder.path(), signer(), super::at_once()).unwrap();
    log.append(&["{\"n\":0}"]).unwrap();
    rotate(&mut log, other(8));
    log.append(&["{\"n\":2}"]).unwrap();
    let stolen = log.reader().checkpoint().checkpoint().sign(signer().as_ref()).unwrap();
    drop(log);
    let keys = LogKeys::load(folder.path(), key()).unwrap();
    assert!(matches!(keys.open(stolen.text()), Err(CheckpointError::FormerKey { size: 3, until: 2, .. })));
    fs::write(folder.path().join("checkpoint"), stolen.text()).unwrap();
    assert!(!verify_log(folder.path(), &key()).unwrap().is_sound());
}

#[test]
fn the_thief_of_the_present_key_cannot_rewrite_what_the_former_one_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (honest, forged) = (folder.path().join("honest"), folder.path().join("forged"));
    let mut log = FileLog::create_with(&honest, signer(), super::at_once()).unwrap();
    log.append(&["{\"n\":0}"]).unwrap();
    let rotation = rotate(&mut log, other(8));
    log.append(&["{\"n\":2}"]).unwrap();
    drop(log);
    // Another first record, the same rotation, all signed by the present key.
    let mut log = FileLog::create_with(&forged, other(8), super::at_once()).unwrap();
    log.append(&["{\"n\":9}"]).unwrap();
    log.append(&["{\"rotated\":true}"]).unwrap();
    log.keep_rotation(&rotation).unwrap();
    log.append(&["{\"n\":2}"]).unwrap();
    drop(log);
    assert!(verify_log(&honest, &key()).unwrap().is_sound());
    let report = verify_log(&forged, &key()).unwrap();
    assert_eq!(report.findings, [Finding::FormerTree { size: 1 }]);
    // Nor does it help to publish it.
    let reader = FileLog::open_read_only(&forged, &key()).unwrap();
    let former: Vec<_> = LogKeys::load(&forged, key()).unwrap().commitments().collect();
    let signed = reader.checkpoint();
    let report = audit_tiles(&reader, signed.checkpoint(), None, &former, |_, _, _| ()).unwrap();
    assert_eq!(report.findings, [TileFinding::FormerTree { size: 1 }]);
}

#[test]
fn a_change_that_was_cut_off_is_carried_out_by_asking_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(folder.path(), signer(), super::at_once()).unwrap();
    log.append(&["{\"n\":0}"]).unwrap();
    let rotation = log.rotation_to(other(8).as_ref()).unwrap();
    log.append(&["{\"rotated\":true}"]).unwrap();
    drop(log);
    let mut log = FileLog::open(folder.path(), signer()).unwrap();
    assert!(log.hand_over(other(9), &rotation).is_err());
    log.hand_over(other(8), &rotation).unwrap();
    log.hand_over(other(8), &rotation).unwrap();
    log.append(&["{\"n\":2}"]).unwrap();
    drop(log);
    assert!(verify_log(folder.path(), &key()).unwrap().is_sound());
    assert_eq!(LogKeys::kept(folder.path()).unwrap(), [rotation]);
}

#[test]
fn a_copy_that_was_made_in_the_midst_of_a_change_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = FileLog::create_with(folder.path(), signer(), super::at_once()).unwrap();
    log.append(&["{\"n\":0}"]).unwrap();
    let rotation = log.rotation_to(other(8).as_ref()).unwrap();
    // The checkpoint was copied before the record of the change, or before the new key signed it.
    for record in [None, Some("{\"rotated\":true}")] {
        if let Some(record) = record {
            log.append(&[record]).unwrap();
        }
        log.keep_rotation(&rotation).unwrap();
        assert!(verify_log(folder.path(), &key()).unwrap().is_sound());
        let reader = FileLog::open_read_only(folder.path(), &key()).unwrap();
        assert_eq!(reader.checkpoint().key(), &key());
    }
}

#[test]
fn backups_and_exports_go_on_under_a_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (copy, dir) = (path("copy"), path("out"));
    let mut log = FileLog::create_with(&path("log"), signer(), super::at_once()).unwrap();
    log.append(&["{\"n\":0}"]).unwrap();
    back_up(&path("log"), &copy, &key()).unwrap();
    export(log.reader(), &log.reader().checkpoint(), &[], &dir).unwrap();
    let rotation = rotate(&mut log, other(8));
    log.append(&["{\"n\":2}"]).unwrap();

    back_up(&path("log"), &copy, &key()).unwrap();
    restore(&copy, &path("restored"), &key()).unwrap();
    assert_eq!(FileLog::open(&path("restored"), other(8)).unwrap().size(), 3);

    // Without the change it is another log; with it, the directory goes on, also where the last run was cut off.
    let signed = log.reader().checkpoint();
    assert!(export(log.reader(), &signed, &[], &dir).unwrap_err().to_string().contains("holds the log of"));
    let rotations = [rotation];
    for _ in 0..2 {
        export(log.reader(), &signed, &rotations, &dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("log.vkey")).unwrap().trim(), signed.key().to_string());
        fs::write(dir.join("log.vkey"), format!("{}\n", key())).unwrap();
    }
    log.append(&["{\"n\":3}"]).unwrap();
    let exported = export(log.reader(), &log.reader().checkpoint(), &rotations, &dir).unwrap();
    assert_eq!((exported.before, exported.size), (3, 4));
    let published = TilesDirectory::at(&dir).unwrap();
    for trusted in [key(), other(8).verifier_key()] {
        let keys = LogKeys::load(&dir, trusted).unwrap();
        let signed = keys.open(&published.checkpoint().unwrap()).unwrap();
        let former: Vec<_> = keys.commitments().collect();
        let report = audit_tiles(&published, signed.checkpoint(), None, &former, |_, _, _| ()).unwrap();
        assert!(report.is_sound() && report.records_read == 4, "{report:?}");
    }
}

#[test]
fn a_flipped_bit_in_a_key_file_is_refused_by_the_file_or_by_the_log_and_signs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (note, pem) = (folder.path().join("log.key"), pem(folder.path(), "log.pem"));
    SigningKey::create(&note, ORIGIN).unwrap();
    let load = |path: &Path| SigningKey::load_named(path, ORIGIN);
    for path in [note, pem] {
        let dir = path.with_extension(format!("{}.d", path.extension().unwrap().display()));
        let mut log = FileLog::create_with(&dir, Box::new(load(&path).unwrap()), super::at_once()).unwrap();
        log.append(&["{}"]).unwrap();
        let own = log.verifier_key();
        drop(log);
        let (good, checkpoint) = (fs::read(&path).unwrap(), fs::read(dir.join("checkpoint")).unwrap());
        for at in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            // It may be a bit that says nothing, such as one of the space at the end.
            let Ok(key) = load(&path) else { continue };
            let is_same = key.verifier_key() == own;
            match FileLog::open(&dir, Box::new(key)) {
                Ok(_) => assert!(is_same, "{} bit {at} makes another key", path.display()),
                Err(error) => assert!(error.to_string().contains("give the key"), "{error}"),
            }
            assert_eq!(fs::read(dir.join("checkpoint")).unwrap(), checkpoint, "bit {at}: nothing was signed");
        }
    }
}
