//! `writd witness`, as logs meet it: over HTTP, killed at any moment, and beside clients and witnesses that others wrote.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use tempfile::TempDir;
use writ_ledger::tree::MemoryTree;
use writ_ledger::witness::{AddCheckpoint, LogId, MAX_REQUEST_BYTES};
use writ_ledger::{Checkpoint, ConsistencyProof, CosignerKey, Note, SigningKey, leaf_hash};

const ORIGIN: &str = "writ.example/log";

pub fn log_key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [1; 32]).unwrap()
}

/// A real `writd witness run`, killed when it goes out of scope.
pub struct WitnessProcess {
    child: Child,
    address: SocketAddr,
}

/// Makes a witness of one log, and answers its public key.
pub fn init(data: &Path, log_key: &str) -> CosignerKey {
    let made = Command::new(env!("CARGO_BIN_EXE_writd"))
        .args(["witness", "init", "--name", "witness.example/w", "--listen", "127.0.0.1:0", "--log", log_key])
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success(), "{text}{}", String::from_utf8_lossy(&made.stderr));
    let key = text.lines().find_map(|line| line.trim().strip_prefix("public key  ")).unwrap();
    key.parse().unwrap()
}

impl WitnessProcess {
    pub fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_writd"))
            .args(["witness", "run", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once(" on ").unwrap_or_else(|| panic!("not ready: {line}"));
        let address = rest.split(',').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tree(size: u64, branch: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    (0..size).for_each(|leaf| tree.push(leaf_hash(format!("{branch} {leaf}").as_bytes())));
    tree
}

/// A request of the log's key holder, who keeps as many histories as there are branches.
fn request(old: u64, size: u64, branch: u64) -> String {
    let tree = tree(size, branch);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: tree.root() };
    let Ok(proof) = ConsistencyProof::build(&tree, old, size);
    let hashes = proof.map(|proof| proof.hashes).unwrap_or_default();
    AddCheckpoint::new(old, hashes, checkpoint.sign(&log_key()).unwrap().text()).unwrap().to_string()
}

struct Stage {
    _folder: TempDir,
    data: std::path::PathBuf,
    key: CosignerKey,
    http: reqwest::Client,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("witness");
        let key = init(&data, &log_key().verifier_key().to_string());
        Self { _folder: folder, data, key, http: reqwest::Client::new() }
    }

    async fn ask(&self, witness: &WitnessProcess, body: String) -> Option<(StatusCode, String)> {
        let answer = self.http.post(witness.url("/add-checkpoint")).body(body).send().await.ok()?;
        let status = answer.status();
        Some((status, answer.text().await.ok()?))
    }
}

fn checkpoint_url() -> String {
    format!("/{}/checkpoint", LogId::of(ORIGIN))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_cosigns_what_continues_and_shows_it() {
    let stage = Stage::new();
    let witness = WitnessProcess::start(&stage.data);
    let nothing = stage.http.get(witness.url(&checkpoint_url())).send().await.unwrap();
    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    let (status, lines) = stage.ask(&witness, request(0, 5, 0)).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{lines}");
    let (status, _) = stage.ask(&witness, request(5, 9, 0)).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let shown = stage.http.get(witness.url(&checkpoint_url())).send().await.unwrap().text().await.unwrap();
    let shown: Note = shown.parse().unwrap();
    assert_eq!(Checkpoint::parse(shown.text()).unwrap().size, 9);
    assert!(stage.key.cosigned(&shown).unwrap().is_some());
    assert_eq!(shown.verify(&[&log_key().verifier_key()]), Ok(1));

    let conflict =
        stage.http.post(witness.url("/add-checkpoint")).body(request(0, 9, 0)).send().await.unwrap();
    assert_eq!(conflict.status(), StatusCode::CONFLICT);
    assert_eq!(conflict.headers()["content-type"], "text/x.tlog.size");
    assert_eq!(conflict.text().await.unwrap(), "9\n");
    let (status, _) = stage.ask(&witness, "x".repeat(MAX_REQUEST_BYTES + 1)).await.unwrap();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = stage.ask(&witness, request(9, 12, 1)).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = stage.ask(&witness, request(9, 9, 1)).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let kept: Vec<String> = std::fs::read_dir(stage.data.join("cosigned"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(kept.contains(&format!("{}.fork-1", LogId::of(ORIGIN))), "{kept:?}");
    let unknown = SigningKey::from_seed("other.example/log", [1; 32]).unwrap();
    let other =
        Checkpoint { origin: "other.example/log".to_owned(), size: 0, root: MemoryTree::new().root() };
    let other = AddCheckpoint::new(0, Vec::new(), other.sign(&unknown).unwrap().text()).unwrap();
    assert_eq!(stage.ask(&witness, other.to_string()).await.unwrap().0, StatusCode::NOT_FOUND);
}

/// The holder of the log's key feeds two histories at once, while the witness is killed again and again. Whatever was
/// cosigned, then or later, has to be one history.
#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_killed_at_any_moment_never_cosigns_two_histories() {
    let stage = Stage::new();
    let mut answered: Vec<(u64, u64)> = Vec::new();
    let mut newest = 0;
    for round in 0..12_u64 {
        let mut witness = WitnessProcess::start(&stage.data);
        let mut lanes = Vec::new();
        for branch in 0..2 {
            let (http, url) = (stage.http.clone(), witness.url("/add-checkpoint"));
            let start = newest;
            lanes.push(tokio::spawn(async move {
                let (mut held, mut cosigned) = (start, Vec::new());
                for _ in 0..400 {
                    let size = held + 1;
                    let Ok(answer) = http.post(&url).body(request(held, size, branch)).send().await else {
                        break;
                    };
                    let status = answer.status();
                    let Ok(text) = answer.text().await else { break };
                    match status {
                        StatusCode::OK => {
                            cosigned.push((size, branch));
                            held = size;
                        }
                        StatusCode::CONFLICT => held = text.trim().parse().unwrap(),
                        // The other history is ahead for good.
                        StatusCode::UNPROCESSABLE_ENTITY => held += 1,
                        other => panic!("{other}: {text}"),
                    }
                }
                cosigned
            }));
        }
        tokio::time::sleep(Duration::from_millis(40 + 17 * round)).await;
        witness.kill();
        for lane in lanes {
            answered.extend(lane.await.unwrap());
        }
        // What was answered is never forgotten.
        let stored = std::fs::read_to_string(
            stage.data.join("cosigned").join(format!("{}.checkpoint", LogId::of(ORIGIN))),
        );
        let Ok(stored) = stored else {
            assert!(answered.is_empty());
            continue;
        };
        let note: Note = stored.parse().unwrap();
        newest = Checkpoint::parse(note.text()).unwrap().size;
        assert!(answered.iter().all(|(size, _)| *size <= newest), "{answered:?} but {newest}");
    }
    assert!(answered.len() > 20, "the load came to nothing: {answered:?}");
    let branch = answered[0].1;
    assert!(answered.iter().all(|(_, of)| *of == branch), "two histories were cosigned: {answered:?}");
}

#[test]
fn a_witness_is_made_once_and_run_once() {
    let stage = Stage::new();
    let writd = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_writd")).args(args).arg("--data").arg(&stage.data).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (made, told) = writd(&["witness", "init", "--name", "witness.example/other"]);
    assert!(!made && told.contains("this folder has a witness"), "{told}");
    let running = WitnessProcess::start(&stage.data);
    let (second, told) = writd(&["witness", "run"]);
    assert!(!second && told.contains("in use by another witness"), "{told}");
    drop(running);
    let (shown, told) = writd(&["witness", "status"]);
    assert!(shown && told.contains(&stage.key.to_string()) && told.contains("not cosigned yet"), "{told}");
    let config = stage.data.join("witness.toml");
    std::fs::write(&config, "logs = [\"nonsense\"]\n").unwrap();
    let (started, told) = writd(&["witness", "run"]);
    assert!(!started && told.contains("no log key"), "{told}");
    std::fs::write(&config, "log = []\n").unwrap();
    let (started, told) = writd(&["witness", "run"]);
    assert!(!started && told.contains("unknown field `log`"), "{told}");
}
