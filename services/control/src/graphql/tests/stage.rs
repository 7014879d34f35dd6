//! A control plane without its server: log, vault, sequencer and views in a folder, and the schema over them.

use std::sync::{Arc, Mutex};

use async_graphql::{Request, Response, Variables};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use writ_ledger::{FileLog, SigningKey};
use writ_schema::event::{AcknowledgedAction, CloseReason, Event, NodeOwner, Role};
use writ_schema::keys::Statement;
use writ_schema::net::Protocol;
use writ_schema::seal::{KeyRef, OpeningKey, OpeningKeys, Place};
use writ_schema::{AdminId, AuthorizationId, Seq};

use crate::config::Config;
use crate::config::Panel;
use crate::core::Command;
use crate::cosigners::Cosigners;
use crate::fixtures::{self, Endpoint};
use crate::graphql::{Caller, Deps, Door, Schema, schema};
use crate::log_key::LogKeyChanges;
use crate::sequencer::{Options, Outcome, Sequencer, SequencerGuard, SequencerHandle};
use crate::vault::Vault;
use crate::views::{LogSource, Projector, Source};

/// What `production-database` (node 2) lets in: the machines of persons 1.
pub(super) const POLICY: &str = r#"{
    // Only those on call.
    "groups": { "group:oncall": ["person-1@example.com"] },
    "tagOwners": { "tag:db": [] },
    "acls": [ { "action": "accept", "proto": "tcp", "src": ["group:oncall"], "dst": ["tag:db:5432"] } ],
}"#;

/// The same people, and nothing allowed.
pub(super) const NOTHING: &str = r#"{ "tagOwners": { "tag:db": [] }, "acls": [] }"#;

/// The person's machine.
pub(super) const LAPTOP: u8 = 1;

/// The database.
pub(super) const DATABASE: u8 = 2;

pub(super) struct Stage {
    pub(super) schema: Schema,
    pub(super) sequencer: SequencerHandle,
    // Kept for their end: the views before the log, the log before its folder.
    projector: Option<Projector>,
    guard: Option<SequencerGuard>,
    folder: tempfile::TempDir,
    /// How far the sequencer's clock is ahead.
    ahead: Arc<Mutex<SignedDuration>>,
}

fn source(sequencer: &SequencerHandle) -> impl Source + use<> {
    LogSource::new(sequencer.log().clone(), Keys(sequencer.clone()))
}

struct Keys(SequencerHandle);

impl OpeningKeys for Keys {
    fn opening_key(&self, key_ref: KeyRef, place: Place) -> Option<OpeningKey> {
        self.0.vault().opening_key(key_ref, place)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.projector.take();
        if let Some(guard) = self.guard.take() {
            guard.stop();
        }
    }
}

impl Stage {
    /// A network with an owner, and nobody else.
    pub(super) async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead: Arc<Mutex<SignedDuration>> = Arc::default();
        let key = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap();
        let log = FileLog::create(&folder.path().join("log"), Box::new(key)).unwrap();
        let vault = Vault::open(&folder.path().join("vault.db")).unwrap();
        let (sequencer, guard) = {
            let ahead = ahead.clone();
            let clock = move || Timestamp::now() + *ahead.lock().unwrap();
            let options = Options { clock: Arc::new(clock), ..Options::default() };
            Sequencer::start(log, vault, options).unwrap()
        };
        let log = sequencer.log().clone();
        let source = source(&sequencer);
        let (views, projector) = Projector::start(&folder.path().join("views.db"), source).unwrap();
        let waker = projector.waker();
        let mut commits = sequencer.subscribe();
        tokio::spawn(async move {
            while commits.recv().await.is_ok() {
                waker.wake();
            }
        });
        let door = Door { url: "https://writ.example".to_owned(), certificate_sha256: None };
        let cosigners =
            Cosigners::new(log.clone(), Panel::default(), folder.path().join("checkpoint.cosigned"));
        let settings = folder.path().join("writ.toml");
        let text = format!("data = {:?}\nurl = {:?}\n", folder.path(), door.url);
        std::fs::write(&settings, text).unwrap();
        let log_key = LogKeyChanges::new(Config::load(&settings).unwrap(), sequencer.clone());
        let schema = schema(Deps { sequencer: sequencer.clone(), log, cosigners, views, log_key, door });
        let stage = Self { schema, sequencer, projector: Some(projector), guard: Some(guard), folder, ahead };
        stage.submit(1, fixtures::create_network()).await;
        for role in [Role::Owner, Role::Admin, Role::NetworkAdmin, Role::Auditor, Role::Viewer] {
            let number = 10 + role as u64;
            stage.submit(number, fixtures::grant(&admin(role), role, "a secret of an administrator")).await;
        }
        stage
    }

    /// A network where person 1 may reach the database from a laptop. Both agents are connected.
    pub(super) async fn new() -> Self {
        let stage = Self::empty().await;
        stage.submit(20, fixtures::provision(1)).await;
        stage.submit(21, fixtures::provision(2)).await;
        stage.join(LAPTOP, NodeOwner::User(fixtures::user(1)), 30).await;
        stage.join(DATABASE, fixtures::tags(&["tag:db"]), 40).await;
        stage.ask_as(Role::Owner, SET_POLICY, json!({ "text": POLICY })).await.expect("the policy is set");
        stage
    }

    /// Time passes, by the sequencer's clock.
    pub(super) fn pass(&self, time: SignedDuration) {
        *self.ahead.lock().unwrap() += time;
    }

    /// The log with the vault's keys, for views of one's own.
    pub(super) fn source(&self) -> impl Source + use<> {
        source(&self.sequencer)
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(super) async fn submit(&self, number: u64, command: Command) -> Outcome {
        self.sequencer.submit(fixtures::submission(number, command)).await.unwrap()
    }

    pub(super) async fn join(&self, node: u8, owner: NodeOwner, number: u64) {
        let now = Timestamp::now();
        self.submit(number, fixtures::enrolment_key(number, owner, 1, now)).await;
        let request = Endpoint::new(node).join_request(number + 1, number);
        self.submit(number + 1, Command::Join { request }).await;
        self.submit(number + 2, Endpoint::new(node).start_session()).await;
    }

    /// The laptop asks for the database's port.
    pub(super) async fn connect(&self, number: u64) -> AuthorizationId {
        let address = self.sequencer.state().node(&Endpoint::new(DATABASE).id()).unwrap().addresses()[0];
        let (node, protocol) = (Endpoint::new(LAPTOP).id(), Protocol::Tcp);
        let request =
            Command::RequestConnection { node, address, exit: None, protocol, port: 5432, renews: None };
        let outcome = self.submit(number, request).await;
        match &outcome.records[0].record.event {
            Event::ConnectionAuthorized(event) => event.authorization.clone(),
            other => panic!("{other}"),
        }
    }

    /// One end says, signed, that it has carried out a record.
    pub(super) async fn acknowledge(
        &self,
        number: u64,
        end: u8,
        authorization: &AuthorizationId,
        record: Seq,
        action: AcknowledgedAction,
    ) {
        let leaf = writ_ledger::leaf_hash(&self.sequencer.log().read(record.0).unwrap()).to_string();
        let network = self.sequencer.state().network().unwrap().created.network.clone();
        let statement = Statement::Acknowledgement { network: &network, leaf: &leaf, action };
        let signature = Endpoint::new(end).sign(&statement);
        let (node, authorization) = (Endpoint::new(end).id(), authorization.clone());
        let command = Command::Acknowledge { node, authorization, record, leaf, action, signature };
        self.submit(number, command).await;
    }

    /// One end reports what went over a connection.
    pub(super) async fn close(&self, number: u64, end: u8, authorization: &AuthorizationId) {
        let command = Command::ReportClosed {
            node: Endpoint::new(end).id(),
            authorization: authorization.clone(),
            reason: CloseReason::Idle,
            bytes_sent: 1_234,
            bytes_received: 5_678,
            path: None,
        };
        self.submit(number, command).await;
    }

    pub(super) async fn execute(&self, role: Role, query: &str, variables: Value) -> Response {
        let caller = Caller { admin: admin(role), role };
        let request = Request::new(query).variables(Variables::from_json(variables)).data(caller);
        self.schema.execute(request).await
    }

    /// Asks; an error is given as its code and message.
    pub(super) async fn ask_as(
        &self,
        role: Role,
        query: &str,
        variables: Value,
    ) -> Result<Value, (String, String)> {
        let response = self.execute(role, query, variables).await;
        match response.errors.first() {
            None => Ok(response.data.into_json().unwrap()),
            Some(error) => {
                let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
                let code = code.map(|code| code.clone().into_json().unwrap());
                let code = code.as_ref().and_then(Value::as_str).unwrap_or("no code").to_owned();
                Err((code, error.message.clone()))
            }
        }
    }

    /// Asks as the owner and expects an answer.
    pub(super) async fn ask(&self, query: &str, variables: Value) -> Value {
        self.ask_as(Role::Owner, query, variables).await.unwrap()
    }

    /// The kinds of all records.
    pub(super) fn kinds(&self) -> Vec<String> {
        let log = self.sequencer.log().read_range(0..u64::MAX);
        log.map(|entry| {
            let record: Value = serde_json::from_slice(&entry.unwrap().1).unwrap();
            record["event"].as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect()
    }

    pub(super) fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|known| *known == kind).count()
    }
}

pub(super) const SET_POLICY: &str = "mutation($text: String!, $base: UInt) { setPolicy(text: $text, base: $base) { recordCount records { seq kind } } }";

pub(super) fn admin(role: Role) -> AdminId {
    AdminId::from_bytes([role as u8 + 1; 16])
}

/// Whether the code is this one, and the message says what was wrong.
pub(super) fn refused(answer: Result<Value, (String, String)>, code: &str, word: &str) {
    let (found, message) = answer.expect_err("it must be refused");
    assert_eq!(found, code, "{message}");
    assert!(message.contains(word), "{message}");
}
