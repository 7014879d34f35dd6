//! A control plane on loopback, in a folder that goes away.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use writ_control::config::{Config, TlsConfig};
use writ_control::core::{Command, Submission};
use writ_control::init::{Made, Wishes, init};
use writ_control::sequencer::{Outcome, SubmitError};
use writ_control::server::Running;
use writ_ledger::VerifierKey;
use writ_schema::event::{Event, NodeOwner};
use writ_schema::keys::SecretHash;
use writ_schema::{Actor, CommandId, EnrolmentKeyId, ProposalId, UserId};

/// A running control plane.
pub struct Plane {
    pub made: Made,
    pub running: Running,
    pub http: reqwest::Client,
    folder: TempDir,
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub fn wishes(data: &Path) -> Wishes {
    let any_port = "127.0.0.1:0".parse().unwrap();
    Wishes {
        data: data.to_owned(),
        name: "corp".to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        config_out: None,
        listen: Some(any_port),
        relay_listen: Some(any_port),
        relay_address: None,
        tls: TlsConfig::default(),
        prefix_v4: "100.64.0.0/10".to_owned(),
        authorization_seconds: None,
        admin_name: "owner".to_owned(),
    }
}

impl Plane {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wishes = wishes(&folder.path().join("data"));
        let made = tokio::task::spawn_blocking(move || init(&wishes)).await.unwrap().unwrap();
        let running = Running::start(Config::load(&made.config).unwrap()).await.unwrap();
        Self { made, running, http: reqwest::Client::new(), folder }
    }

    /// One that runs already.
    pub fn of(made: Made, running: Running, folder: TempDir) -> Self {
        Self { made, running, http: reqwest::Client::new(), folder }
    }

    /// Stops in order, and starts again on the same folder.
    pub async fn again(self) -> Self {
        self.running.stop().await;
        let running = Running::start(Config::load(&self.made.config).unwrap()).await.unwrap();
        Self { running, ..self }
    }

    /// Stops in order, lets something be done to the data folder, and starts again.
    pub async fn between(self, act: impl FnOnce(&Path)) -> Self {
        self.running.stop().await;
        act(&self.made.data);
        let running = Running::start(Config::load(&self.made.config).unwrap()).await.unwrap();
        Self { running, ..self }
    }

    /// Stops in order; the folder stays as long as what is answered.
    pub async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.folder
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.http_address())
    }

    pub fn log_key(&self) -> VerifierKey {
        self.made.log_key.parse().unwrap()
    }

    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        let id = CommandId::from_bytes(random());
        let submission = Submission { id, actor: Actor::System, command, trace: None };
        self.running.sequencer().submit(submission).await
    }

    /// Makes an enrolment key and answers its secret.
    pub async fn enrolment_key(&self, owner: NodeOwner, max_uses: u32, life: SignedDuration) -> String {
        let secret = data_encoding::HEXLOWER.encode(&random::<16>());
        let command = Command::CreateEnrolmentKey {
            key: EnrolmentKeyId::from_bytes(random()),
            secret_hash: SecretHash::of(&secret),
            owner,
            max_uses,
            expires_at: Timestamp::now() + life,
        };
        self.submit(command).await.unwrap();
        secret
    }

    pub async fn tagged_key(&self, tag: &str, max_uses: u32) -> String {
        let owner = NodeOwner::Tags(vec![tag.parse().unwrap()]);
        self.enrolment_key(owner, max_uses, SignedDuration::from_hours(1)).await
    }

    pub async fn user(&self) -> UserId {
        let user = UserId::from_bytes(random());
        let (login, display_name) = (format!("{user}@example.com"), "Somebody".to_owned());
        self.submit(Command::ProvisionUser { user: user.clone(), login, display_name }).await.unwrap();
        user
    }

    pub async fn policy(&self, text: &str) {
        let proposal = ProposalId::from_bytes(random());
        self.submit(Command::SetPolicy {
            text: text.to_owned(),
            proposal,
            base: None,
            allow_everything: false,
        })
        .await
        .unwrap();
    }

    /// Signs the first owner in.
    pub async fn login(&self) -> String {
        let body = serde_json::json!({ "admin": self.made.admin, "secret": self.made.secret });
        let (status, answer) = self.post("/api/v1/login", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let answer = self.http.post(self.url(path)).json(body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Every event of the log so far.
    pub fn events(&self) -> Vec<Event> {
        let log = self.running.sequencer().log();
        let records = log.read_range(0..log.size());
        records.map(|read| writ_schema::Record::decode(&read.unwrap().1).unwrap().event).collect()
    }

    pub fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events().iter().filter(|event| is_it(event)).count()
    }
}
