//! The log and its witnesses: ours, and one that others wrote (PyPI `aics-witness`).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::{Value, json};
use tempfile::TempDir;
use writ_control::config::Config;
use writ_control::init::{Made, init};
use writ_control::server::Running;
use writ_ledger::{
    Bundle, Checkpoint, ConsistencyProof, CosignedHistory, CosignerKey, Note, SigningKey, TrustPolicy,
};

use writ_schema::RequestId;
use writ_schema::event::NodeOwner;
use writ_schema::protocol::{AgentMessage, ServerMessage};

use crate::agent::Agent;
use crate::plane::{Plane, wishes};
use crate::witness::{self, WitnessProcess};

const PATIENCE: Duration = Duration::from_secs(20);

/// Python with the others' witness, installed once.
fn python() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("witness-python");
        let requirements =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/witness-requirements.txt");
        let stamp = folder.join("requirements.txt");
        let python = folder.join("bin/python");
        let wanted = fs::read_to_string(requirements).unwrap();
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return python;
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--ignore-requires-python",
            ])
            .args(["--only-binary", ":all:", "-r", requirements]));
        fs::write(stamp, wanted).unwrap();
        python
    })
}

fn run(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{error}: tests/run installs Python: run it once"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The witness that others wrote.
struct TheirWitness {
    child: Child,
    url: String,
    key: CosignerKey,
}

impl TheirWitness {
    fn start(folder: &Path, log_key: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("their-witness.json");
        let command = |arguments: &[&str]| {
            let mut command = Command::new(python());
            command.args(["-m", "aics_witness"]).args(arguments).env("AICS_WITNESS_CONFIG", &config);
            command
        };
        let made = run(&mut command(&["init", "--name", "their.example/w"]));
        let key = made.split_whitespace().find(|word| word.starts_with("their.example/w+")).unwrap();
        let key = key.trim_matches(['"', '\'', ',']).parse().unwrap();
        let origin = log_key.split('+').next().unwrap();
        run(&mut command(&["add-log", "--origin", origin, "--vkey", log_key]));
        let address = format!("127.0.0.1:{port}");
        let child = command(&["serve", "--listen", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{address}"), key }
    }
}

impl Drop for TheirWitness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network whose log has witnesses.
struct Stage {
    folder: TempDir,
    made: Made,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wishes = wishes(&folder.path().join("data"));
        let made = tokio::task::spawn_blocking(move || init(&wishes)).await.unwrap().unwrap();
        Self { folder, made }
    }

    fn witnessed_by(&self, witnesses: &[(&CosignerKey, String)], quorum: usize) {
        let mut text = fs::read_to_string(&self.made.config).unwrap();
        text.insert_str(0, &format!("witness_quorum = {quorum}\n"));
        for (key, url) in witnesses {
            text.push_str(&format!("\n[[witness]]\nvkey = \"{key}\"\nurl = \"{url}\"\n"));
        }
        fs::write(&self.made.config, text).unwrap();
    }

    async fn start(self) -> Plane {
        let running = Running::start(Config::load(&self.made.config).unwrap()).await.unwrap();
        Plane::of(self.made, running, self.folder)
    }
}

async fn published(plane: &Plane) -> Note {
    let text = plane.http.get(plane.url("/log/checkpoint")).send().await.unwrap().text().await.unwrap();
    text.parse().unwrap()
}

/// Waits until the published checkpoint is as large as the log and cosigned by all of these.
async fn cosigned(plane: &Plane, keys: &[&CosignerKey]) -> Note {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let note = published(plane).await;
        let is_newest =
            Checkpoint::parse(note.text()).unwrap().size == plane.running.sequencer().log().size();
        if is_newest && keys.iter().all(|key| key.cosigned(&note).unwrap().is_some()) {
            return note;
        }
        assert!(Instant::now() < deadline, "not cosigned in time: {note}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ask(plane: &Plane, token: &str, query: &str) -> Value {
    let request = plane.http.post(plane.url("/graphql")).bearer_auth(token).json(&json!({ "query": query }));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

/// Waits until a witness is in this state of trouble.
async fn problem(plane: &Plane, token: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = ask(plane, token, "{ witnesses { witnesses { problem failures } } }").await;
        let problem = state["witnesses"]["witnesses"][0]["problem"].as_str().unwrap_or_default().to_owned();
        if problem.contains(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "no {wanted:?} in time: {state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_witness_and_one_that_others_wrote_cosign_what_is_published() {
    let stage = Stage::new().await;
    let ours_data = stage.folder.path().join("witness");
    let ours_key = witness::init(&ours_data, &stage.made.log_key);
    let ours = WitnessProcess::start(&ours_data);
    let theirs = TheirWitness::start(stage.folder.path(), &stage.made.log_key);
    stage.witnessed_by(&[(&ours_key, ours.url("/")), (&theirs.key, theirs.url.clone())], 2);
    let plane = stage.start().await;
    let keys = [&ours_key, &theirs.key];
    cosigned(&plane, &keys).await;
    let token = plane.login().await;
    let note = cosigned(&plane, &keys).await;

    let policy = format!(
        "log {}\nwitness ours {ours_key}\nwitness theirs {}\ngroup both all ours theirs\nquorum both\n",
        plane.made.log_key, theirs.key
    );
    let standing = TrustPolicy::parse(policy.as_bytes()).unwrap().check(&note.to_string()).unwrap();
    assert_eq!(standing.cosigned.len(), 2);

    let state = ask(
        &plane,
        &token,
        "{ witnesses { quorum cosigned { size } witnesses { name vkey cosignedSize problem } } }",
    );
    let state = state.await;
    assert_eq!(state["witnesses"]["quorum"], 2);
    assert_eq!(state["witnesses"]["witnesses"][1]["name"], "their.example/w");
    assert_eq!(state["witnesses"]["witnesses"][1]["problem"], Value::Null, "{state}");
    let metrics = plane.http.get(plane.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("writ_witness_cosigned_records{witness=\"their.example/w\""), "{metrics}");

    // The query itself is recorded and may not be cosigned yet; record 0 has long been.
    let bundle = ask(&plane, &token, "{ evidenceBundle(seqs: [0]) { text } }").await;
    let bundle = Bundle::parse(bundle["evidenceBundle"]["text"].as_str().unwrap().as_bytes()).unwrap();
    let proven: Note = bundle.checkpoint().parse().unwrap();
    assert!(keys.iter().all(|key| key.cosigned(&proven).unwrap().is_some()), "{proven}");
    assert!(bundle.verify(&plane.log_key()).is_ok());

    // A node is shown it over its session, with the proof that the log goes on from there.
    let user = plane.user().await;
    let owner = NodeOwner::User(user);
    let secret = plane.enrolment_key(owner, 1, SignedDuration::from_hours(1)).await;
    let (mut agent, _) = Agent::joined(&plane, &secret).await;
    let mut session = agent.connected(&plane).await;
    let request = RequestId::from_bytes([9; 16]);
    session.say(AgentMessage::Cosigned { request: request.clone() }).await;
    let frame = session.next().await;
    let ServerMessage::Cosigned { request: answered, note, proof } = frame.message else {
        panic!("{frame:?}")
    };
    let shown: Note = note.parse().unwrap();
    assert!(answered == request && keys.iter().all(|key| key.cosigned(&shown).unwrap().is_some()));
    let shown = Checkpoint::parse(shown.text()).unwrap();
    let hashes = proof.iter().map(|hash| hash.parse().unwrap()).collect();
    let proof = ConsistencyProof { old_size: shown.size, new_size: session.agent.size, hashes };
    assert!(shown.size > 0 && proof.verify(&shown.root, &session.agent.root).is_ok());
    drop(session);

    // The first of the hour is kept, published and found again.
    let history = || async {
        let answer = plane.http.get(plane.url("/log/checkpoints.cosigned")).send().await.unwrap();
        CosignedHistory::parse(&answer.text().await.unwrap()).unwrap()
    };
    let kept = history().await;
    assert!(
        kept.notes().next().is_some_and(|note| ours_key.cosigned(&note.parse().unwrap()).unwrap().is_some())
    );
    assert_eq!(CosignedHistory::load(&plane.made.data.join("log")).unwrap(), kept);

    // After a restart the cosigned checkpoint is there at once.
    let plane = plane.again().await;
    assert!(theirs.key.cosigned(&published(&plane).await).unwrap().is_some());
    let again = plane.http.get(plane.url("/log/checkpoints.cosigned")).send().await.unwrap();
    assert!(again.text().await.unwrap().starts_with(&kept.to_text()));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_away_delays_nothing_and_is_caught_up_with() {
    let stage = Stage::new().await;
    let data = stage.folder.path().join("witness");
    let key = witness::init(&data, &stage.made.log_key);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen =
        fs::read_to_string(data.join("witness.toml")).unwrap().replace("127.0.0.1:0", &address.to_string());
    fs::write(data.join("witness.toml"), listen).unwrap();
    let mut running = WitnessProcess::start(&data);
    stage.witnessed_by(&[(&key, format!("http://{address}"))], 1);
    let plane = stage.start().await;
    let token = plane.login().await;
    let before = cosigned(&plane, &[&key]).await;
    running.kill();
    for _ in 0..20 {
        plane.user().await;
    }
    problem(&plane, &token, "cannot be reached").await;
    // Twenty records further on, the witness's last word is still what is published: it is not late yet.
    assert_eq!(published(&plane).await.text(), before.text());
    let _running = WitnessProcess::start(&data);
    cosigned(&plane, &[&key]).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rolled_back_is_contradicted_by_its_witness() {
    let stage = Stage::new().await;
    let data = stage.folder.path().join("witness");
    let key = witness::init(&data, &stage.made.log_key);
    let running = WitnessProcess::start(&data);
    stage.witnessed_by(&[(&key, running.url(""))], 1);
    let older = stage.folder.path().join("older");
    run(Command::new("cp").arg("-a").arg(&stage.made.data).arg(&older));
    let plane = stage.start().await;
    for _ in 0..20 {
        plane.user().await;
    }
    cosigned(&plane, &[&key]).await;
    let (made_data, config) = (plane.made.data.clone(), plane.made.config.clone());
    let made = Made { ..plane.made };
    plane.running.stop().await;
    fs::remove_dir_all(&made_data).unwrap();
    let text = fs::read_to_string(older.join("writ.toml")).unwrap();
    run(Command::new("cp").arg("-a").arg(&older).arg(&made_data));
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
    let folder = tempfile::tempdir().unwrap();
    let running_again = Running::start(Config::load(&config).unwrap()).await.unwrap();
    let plane = Plane::of(made, running_again, folder);
    let token = plane.login().await;
    problem(&plane, &token, "rolled back").await;
    assert_eq!(key.cosigned(&published(&plane).await).unwrap(), None);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_witness_serves_a_client_that_others_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("witness");
    let log = SigningKey::from_seed("other.example/log", [5; 32]).unwrap().verifier_key();
    let key = witness::init(&data, &log.to_string());
    let running = WitnessProcess::start(&data);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/feed_witness.py");
    let told = run(Command::new(python()).arg(script).arg(running.url("")).arg(key.to_string()));
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(
        told,
        [
            "cosigned 1",
            "cosigned 7",
            "cosigned 7",
            "cosigned 256",
            "cosigned 300",
            "refused 300 422",
            "refused 400 422"
        ]
    );
}
