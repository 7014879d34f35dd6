//! The control plane with its log in a Kafka topic, on a real broker.

use std::path::Path;
use std::process::{Command as Process, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use writ_control::config::Config;
use writ_control::core::{Command, Submission};
use writ_control::sequencer::SubmitError;
use writ_control::server::Running;
use writ_ledger::{FileLog, Hash};
use writ_schema::event::Event;
use writ_schema::{Actor, CommandId, UserId};
use writ_test_kafka::Broker;

use crate::plane::{Plane, random};

/// The broker of the tests that leave it in peace. It ends with this process.
async fn shared() -> String {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    tokio::task::spawn_blocking(|| BROKER.get_or_init(|| Broker::start().unwrap()).address()).await.unwrap()
}

/// Writes into a configuration where the log is.
fn keep_log(config: &Path, store: &str, broker: &str, topic: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    let rest = text.split("[log]").next().unwrap();
    let log = format!(
        "[log]\nstore = \"{store}\"\n[log.kafka]\nbrokers = [\"{broker}\"]\ntopic = \"{topic}\"\npatience_seconds = 20\n"
    );
    std::fs::write(config, format!("{rest}{log}")).unwrap();
}

fn writd(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Process::new(env!("CARGO_BIN_EXE_writd"));
    command.args(arguments).arg("--config").arg(config).output().unwrap()
}

fn moved(config: &Path, to: &str) -> String {
    let output = writd(config, &["log", "move", "--to", to]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn root(plane: &Plane) -> (u64, Hash) {
    let signed = plane.running.sequencer().log().checkpoint();
    (signed.checkpoint().size, signed.checkpoint().root)
}

async fn refused(config: &Path) -> String {
    match Running::start(Config::load(config).unwrap()).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

async fn readiness(plane: &Plane) -> (u16, Value) {
    let answer = plane.http.get(plane.url("/readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// A control plane whose log was moved into a topic.
async fn on_kafka(broker: &str, topic: &str) -> Plane {
    let mut plane = Plane::start().await;
    plane.user().await;
    plane.running.stop().await;
    keep_log(&plane.made.config, "files", broker, topic);
    let config = plane.made.config.clone();
    tokio::task::spawn_blocking(move || moved(&config, "kafka")).await.unwrap();
    keep_log(&plane.made.config, "kafka", broker, topic);
    plane.running = Running::start(Config::load(&plane.made.config).unwrap()).await.unwrap();
    plane
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_moves_to_kafka_and_back_with_its_root_unchanged() {
    let broker = shared().await;
    let mut plane = Plane::start().await;
    plane.user().await;
    let (config, data) = (plane.made.config.clone(), plane.made.data.clone());
    let (key, topic) = (plane.log_key(), "moves");
    for (from, to) in [("files", "kafka"), ("kafka", "files")] {
        plane.user().await;
        plane.running.stop().await;
        keep_log(&config, from, &broker, topic);
        let before = FileLog::open_read_only(&data.join("log"), &key).unwrap().checkpoint();
        let said = moved(&config, to);
        assert!(said.contains(&before.checkpoint().root.to_string()), "{said}");
        let after = FileLog::open_read_only(&data.join("log"), &key).unwrap().checkpoint();
        assert_eq!(after, before, "to the byte");
        let again = writd(&config, &["log", "move", "--to", to]);
        assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");
        let refusal = refused(&config).await;
        assert!(refusal.contains("log.store") && refusal.contains("log move --to"), "{refusal}");
        keep_log(&config, to, &broker, topic);
        plane.running = Running::start(Config::load(&config).unwrap()).await.unwrap();
        assert_eq!(readiness(&plane).await.0, 200);
        plane.user().await;
        let live = root(&plane);
        let verified = writd(&config, &["log", "verify"]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success() && said.contains(&format!("covers {} records", live.0)), "{said}");
        std::fs::remove_dir_all(data.join("log.left")).unwrap();
    }
    // There once more, into a topic that holds the beginning of the log: the move goes on from there.
    plane.running.stop().await;
    moved(&config, "kafka");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_shuts_the_first_one_out_which_says_so_and_follows() {
    let broker = shared().await;
    let first = on_kafka(&broker, "two-writers").await;
    // Another machine, with the same keys and vault.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for name in ["log.key", "relay.key", "vault.db"] {
        std::fs::copy(first.made.data.join(name), data.join(name)).unwrap();
    }
    let mut config = Config::load(&first.made.config).unwrap();
    config.data = data;
    let second = Running::start(config).await.unwrap();
    let user = UserId::from_bytes(random());
    let provision = |user: &UserId| Command::ProvisionUser {
        user: user.clone(),
        login: format!("{user}@example.com"),
        display_name: "Somebody".to_owned(),
    };
    let submission = |command| {
        let id = CommandId::from_bytes(random());
        Submission { id, actor: Actor::System, command, trace: None }
    };
    let refusal = first.submit(provision(&user)).await.unwrap_err();
    assert!(matches!(refusal, SubmitError::Unavailable { .. } | SubmitError::Undecided { .. }), "{refusal}");
    second.sequencer().submit(submission(provision(&user))).await.unwrap();
    let size = second.sequencer().log().size();
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.running.sequencer().log().size() < size {
        assert!(Instant::now() < deadline, "it does not follow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (status, readiness) = readiness(&first).await;
    assert_eq!(status, 503);
    let problem = readiness["log_problem"].as_str().unwrap();
    assert!(problem.contains("writes this log now") && problem.contains("writd"), "{problem}");
    assert_eq!(root(&first).1, second.sequencer().log().checkpoint().checkpoint().root);
    // What is personal about the user is in the other's vault; that there is one is in both.
    let has_user = |event: &Event| matches!(event, Event::UserProvisioned(body) if body.user == user);
    assert_eq!(first.count(has_user), 1);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_and_writing_goes_on_by_itself_when_it_is_back() {
    let broker = Arc::new(tokio::task::spawn_blocking(|| Broker::start().unwrap()).await.unwrap());
    let plane = on_kafka(&broker.address(), "outage").await;
    let other = broker.clone();
    tokio::task::spawn_blocking(move || other.kill().unwrap()).await.unwrap();
    let (id, user) = (CommandId::from_bytes(random()), UserId::from_bytes(random()));
    let submit = || {
        let (login, display_name) = (format!("{user}@example.com"), "Somebody".to_owned());
        let command = Command::ProvisionUser { user: user.clone(), login, display_name };
        let submission = Submission { id: id.clone(), actor: Actor::System, command, trace: None };
        plane.running.sequencer().submit(submission)
    };
    let before = plane.running.sequencer().log().size();
    let failure = submit().await.unwrap_err();
    assert!(matches!(failure, SubmitError::Unavailable { .. } | SubmitError::Undecided { .. }), "{failure}");
    let (status, told) = readiness(&plane).await;
    assert_eq!((status, &told["log_is_writable"]), (503, &Value::Bool(false)));
    assert!(told["log_problem"].as_str().unwrap().contains(&broker.address()), "{told}");
    assert_eq!(plane.running.sequencer().log().size(), before);
    let other = broker.clone();
    tokio::task::spawn_blocking(move || other.restart().unwrap()).await.unwrap();
    // Nobody asks for anything: it is ready by itself.
    let deadline = Instant::now() + Duration::from_secs(120);
    while readiness(&plane).await.0 != 200 {
        assert!(Instant::now() < deadline, "{:?}", readiness(&plane).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The same command under its id takes effect once, whether it was stored before or not.
    submit().await.unwrap();
    submit().await.unwrap();
    let users = plane.count(|event| matches!(event, Event::UserProvisioned(body) if body.user == user));
    assert_eq!(users, 1);
    plane.stop().await;
}
