//! The log's key changes, and everybody follows.

use std::fs;
use std::path::Path;
use std::process::Command;

use writ_control::config::Config;
use writ_control::server::Running;
use writ_ledger::rotation::read_rotations;
use writ_ledger::{Bundle, LogKeys, Rotation, VerifierKey, verify_log};
use writ_schema::Record;
use writ_schema::event::Event;

use crate::agent::Agent;
use crate::plane::Plane;

fn writd(arguments: &[&str], data: &Path) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_writd")).args(arguments).arg("--data").arg(data).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn rotate(data: &Path) {
    let (changed, told) = writd(&["log", "rotate-key"], data);
    assert!(changed && told.contains("The log's key is changed"), "{told}");
}

async fn text(plane: &Plane, path: &str) -> String {
    plane.http.get(plane.url(path)).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_under_new_keys_and_is_followed_from_the_first() {
    let plane = Plane::start().await;
    let first = plane.log_key();
    plane.user().await;
    let (running, told) = writd(&["log", "rotate-key"], &plane.made.data);
    assert!(!running && told.contains("open for writing elsewhere"), "{told}");
    let plane = plane.between(rotate).await;
    plane.user().await;
    let plane = plane.between(rotate).await;
    plane.user().await;

    let current: VerifierKey = text(&plane, "/log/vkey").await.trim().parse().unwrap();
    assert_ne!(current, first);
    let rotations = read_rotations(&text(&plane, "/log/rotations").await).unwrap();
    let keys = LogKeys::trace(first.clone(), &rotations).unwrap();
    assert_eq!((keys.rotations(), keys.current()), (2, &current));
    assert_eq!(keys.open(&text(&plane, "/log/checkpoint").await).unwrap().key(), &current);
    assert_eq!(plane.count(|event| matches!(event, Event::LogKeyRotated(_))), 2);

    // A bundle brings the changes with it.
    let token = plane.login().await;
    let query = serde_json::json!({ "query": "{ evidenceBundle(seqs: [0]) { text } network { logKey } }" });
    let answer =
        plane.http.post(plane.url("/graphql")).bearer_auth(&token).json(&query).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["data"]["network"]["logKey"], current.to_string());
    let bundle =
        Bundle::parse(answer["data"]["evidenceBundle"]["text"].as_str().unwrap().as_bytes()).unwrap();
    let within = bundle.entries().iter().filter_map(|entry| {
        let statement = Record::log_key_rotation(entry.record.as_bytes())?;
        Some(Rotation { index: entry.index, statement })
    });
    let followed = LogKeys::trace(first.clone(), &within.collect::<Vec<_>>()).unwrap();
    assert!(bundle.verify_under(&followed).is_ok());
    assert!(bundle.verify(&first).is_err());

    // The changes come with the first checkpoint that a node gets.
    let secret = plane.tagged_key("tag:a", 1).await;
    let agent = Agent::new(&plane);
    let (status, joined) = plane.post("/agent/v1/join", &agent.join_request(&secret)).await;
    assert!(status.is_success(), "{joined}");
    assert_eq!(joined["checkpoint"]["rotations"].as_array().unwrap().len(), 2);

    let data = plane.made.data.clone();
    let _folder = plane.stop().await;
    assert!(verify_log(&data.join("log"), &first).unwrap().is_sound());
    assert!(!data.join("log.key.next").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_cut_off_before_the_file_was_replaced_is_finished_by_the_next_start() {
    let plane = Plane::start().await;
    let plane = plane
        .between(|data| {
            let old = fs::read(data.join("log.key")).unwrap();
            rotate(data);
            fs::rename(data.join("log.key"), data.join("log.key.next")).unwrap();
            fs::write(data.join("log.key"), old).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(data.join("log.key"), mode).unwrap();
        })
        .await;
    plane.user().await;
    assert!(!plane.made.data.join("log.key.next").exists());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_key_alone_does_not_go_on_with_the_log() {
    let plane = Plane::start().await;
    let (made, config) = (plane.made.data.clone(), plane.made.config.clone());
    let _folder = plane.stop().await;
    let old = fs::read(made.join("log.key")).unwrap();
    rotate(&made);
    fs::write(made.join("log.key"), old).unwrap();
    let refused =
        Running::start(Config::load(&config).unwrap()).await.err().map(|error| format!("{error:#}"));
    assert!(refused.as_ref().is_some_and(|error| error.contains("checkpoint")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_before_the_change_is_not_gone_on_with_by_the_new_key_and_that_is_said() {
    let plane = Plane::start().await;
    let first = plane.log_key();
    let (data, config) = (plane.made.data.clone(), plane.made.config.clone());
    let folder = plane.stop().await;
    let (log, copy) = (data.join("log"), folder.path().join("copy"));
    assert!(writ_ledger::back_up(&log, &copy, &first).is_ok());
    rotate(&data);
    fs::remove_dir_all(&log).unwrap();
    assert!(writ_ledger::restore(&copy, &log, &first).is_ok());
    let refused = Running::start(Config::load(&config).unwrap()).await.err().unwrap();
    let refused = format!("{refused:#}");
    assert!(refused.contains("A copy from before the log's key was changed"), "{refused}");
    assert!(verify_log(&log, &first).unwrap().is_sound(), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_can_move_to_a_pem_file() {
    let plane = Plane::start().await;
    let first = plane.log_key();
    let plane = plane
        .between(|data| {
            let pem = data.join("next.pem");
            let made =
                Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&pem).status();
            assert!(made.unwrap().success());
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&pem, mode).unwrap();
            let (changed, told) = writd(&["log", "rotate-key", "--to-file", pem.to_str().unwrap()], data);
            assert!(changed && told.contains("Set `log_key`"), "{told}");
            let config = data.join("writ.toml");
            let text = fs::read_to_string(&config).unwrap();
            fs::write(config, format!("{text}\n[log_key]\nfile = \"{}\"\n", pem.display())).unwrap();
        })
        .await;
    plane.user().await;
    let rotations = read_rotations(&text(&plane, "/log/rotations").await).unwrap();
    let keys = LogKeys::trace(first, &rotations).unwrap();
    assert!(keys.open(&text(&plane, "/log/checkpoint").await).is_ok());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_changes_while_everything_runs_and_whoever_is_connected_follows() {
    let plane = Plane::start().await;
    plane.policy(r#"{ "acls": [ { "action": "accept", "src": ["*"], "dst": ["*:*"] } ] }"#).await;
    let secret = plane.tagged_key("tag:a", 2).await;
    let (mut one, _) = Agent::joined(&plane, &secret).await;
    let (mut other, response) = Agent::joined(&plane, &secret).await;
    let mut other = other.connected(&plane).await;
    let mut session = one.connected(&plane).await;
    let first = plane.log_key();

    // A key that was made elsewhere is laid beside the present one, and its public half told to witnesses.
    let data = plane.made.data.clone();
    let pem = data.join("made-elsewhere.pem");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&pem).status();
    assert!(made.unwrap().success());
    fs::set_permissions(&pem, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (prepared, told) = writd(&["log", "next-key", "--from-file", pem.to_str().unwrap()], &data);
    assert!(prepared, "{told}");
    let next: VerifierKey =
        told.lines().find_map(|line| line.trim().parse().ok()).expect("the public key is told");
    let (again, told) = writd(&["log", "next-key", "--from-file", pem.to_str().unwrap()], &data);
    assert!(!again && told.contains("prepared already"), "{told}");

    let token = plane.login().await;
    let change = |named: VerifierKey, command: &str| {
        let (http, url, token, command) =
            (plane.http.clone(), plane.url("/graphql"), token.clone(), command.to_owned());
        async move {
            let document = "mutation ($key: String, $command: ID) {
                rotateLogKey(newKey: $key, commandId: $command) { oldKey newKey done { repeated records { seq actor } } } }";
            let variables = serde_json::json!({ "key": named.to_string(), "command": command });
            let body = serde_json::json!({ "query": document, "variables": variables });
            let answer = http.post(url).bearer_auth(&token).json(&body).send().await.unwrap();
            answer.json::<serde_json::Value>().await.unwrap()
        }
    };
    let command = writ_schema::CommandId::from_bytes(crate::plane::random()).to_string();
    let refused = change(first.clone(), &command).await;
    assert!(
        refused["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("the key that is prepared on the server is"),
        "{refused}"
    );
    let changed = change(next.clone(), &command).await;
    assert_eq!(changed["data"]["rotateLogKey"]["oldKey"], first.to_string(), "{changed}");
    assert_eq!(changed["data"]["rotateLogKey"]["newKey"], next.to_string());
    let record = &changed["data"]["rotateLogKey"]["done"]["records"][0];
    assert_eq!(record["actor"], plane.made.admin.to_string(), "whoever did it is in the record");
    let repeated = change(next.clone(), &command).await;
    assert_eq!(repeated["data"]["rotateLogKey"]["done"]["repeated"], true, "{repeated}");
    assert_eq!(repeated["data"]["rotateLogKey"]["newKey"], next.to_string());
    assert_eq!(plane.count(|event| matches!(event, Event::LogKeyRotated(_))), 1);

    // Both ends of a new connection are told under the new key, and have the change with it.
    session.connect(response.address_v4.into(), 443).await;
    let (at_one, at_other) = (session.authorized().await, other.authorized().await);
    assert_eq!(session.check_authorized(&at_one), other.check_authorized(&at_other));
    drop((session, other));
    assert_eq!(
        (one.log_key(), fs::read(data.join("log.key")).unwrap()),
        (next.clone(), fs::read(&pem).unwrap())
    );
    assert!(!data.join("log.key.next").exists());

    // So does who comes back later, and the next start needs nothing else.
    let plane = plane.again().await;
    plane.user().await;
    drop(one.connected(&plane).await);
    let keys = read_rotations(&text(&plane, "/log/rotations").await).unwrap();
    let keys = LogKeys::trace(first.clone(), &keys).unwrap();
    assert_eq!(keys.open(&text(&plane, "/log/checkpoint").await).unwrap().key(), &next);
    let _folder = plane.stop().await;
    assert!(verify_log(&data.join("log"), &first).unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_owner_changes_the_logs_key_and_an_attempt_is_recorded() {
    let plane = Plane::start().await;
    let (admin, secret) = (writ_schema::AdminId::from_bytes([9; 16]), "another-secret");
    let grant = writ_control::core::Command::GrantRole {
        admin: admin.clone(),
        name: "second".to_owned(),
        role: writ_schema::event::Role::Admin,
        secret_hash: writ_schema::keys::SecretHash::of(secret),
    };
    plane.submit(grant).await.unwrap();
    let (_, answer) =
        plane.post("/api/v1/login", &serde_json::json!({ "admin": admin, "secret": secret })).await;
    let token = answer["token"].as_str().unwrap();
    let body = serde_json::json!({ "query": "mutation { rotateLogKey { newKey } }" });
    let answer = plane.http.post(plane.url("/graphql")).bearer_auth(token).json(&body).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
    assert_eq!(plane.count(|event| matches!(event, Event::AdminActDenied(_))), 1);
    assert!(!plane.made.data.join("log.key.next").exists());
    plane.stop().await;
}
