//! A story in which every kind of record comes about, for golden records.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use writ_ledger::tree::MemoryTree;
use writ_ledger::{Rotation, SigningKey};
use writ_schema::event::{AcknowledgedAction, CloseReason, NodeOwner, PathKind, Role, SessionEnd};
use writ_schema::keys::SecretHash;
use writ_schema::seal::{
    HeldKey, OpeningKey, OpeningKeys, Place, Quarter, Retention, Salt, SealVisitor, Sealable, Sealed, Subject,
};
use writ_schema::{Actor, AdminId, AuthorizationId, EnrolmentKeyId, Record, Seq, TokenId};

use super::world::{World, id, request};
use crate::core::{Command, Secret};
use crate::fixtures::{self, Endpoint, bytes, user};
use crate::sequencer::OpenRecord;
use crate::vault::Vault;

/// Person 1, by the pseudonym as in every policy of the log, may reach the database.
fn policy() -> String {
    let person = user(1);
    format!(
        r#"{{
    // Only those on call.
    "groups": {{ "group:oncall": ["{person}"] }},
    "tagOwners": {{ "tag:db": [] }},
    "acls": [ {{ "action": "accept", "proto": "tcp", "src": ["group:oncall"], "dst": ["tag:db:5432", "10.20.0.0/24:443"] }} ],
    "autoApprovers": {{ "routes": {{ "10.20.0.0/16": ["tag:db"] }} }},
}}"#
    )
}

/// What came of it.
pub(super) struct Played {
    /// The records.
    pub(super) log: Vec<Arc<OpenRecord>>,
    /// The keys of all their sealed fields, taken before any was destroyed.
    pub(super) keys: Vec<(HeldKey, (Subject, Retention))>,
}

struct Scene {
    world: World,
    keys: Vec<(HeldKey, (Subject, Retention))>,
    kept: usize,
}

/// Plays it.
pub(super) fn play() -> Played {
    let mut scene = Scene { world: World::new(), keys: Vec::new(), kept: 0 };
    scene.administrators();
    scene.people();
    let held = scene.connections();
    scene.readers();
    scene.ends(&held);
    Played { log: scene.world.log, keys: scene.keys }
}

impl Scene {
    /// Submits a command that may be refused; a refusal is recorded.
    fn submit_as(&mut self, actor: Actor, command: Command) {
        let name = command.name();
        if let Err(rejection) = self.world.submit_as(actor, command) {
            assert!(self.world.last_refusal.is_some(), "{name}: {rejection}");
            self.world.record_refusal();
        }
        self.keep_keys();
    }

    fn submit(&mut self, command: Command) {
        self.submit_as(Actor::System, command);
    }

    /// Keeps the keys of the new records.
    fn keep_keys(&mut self) {
        for record in &self.world.log[self.kept..] {
            let closed = Record::decode(record.bytes.as_bytes()).unwrap();
            let Some(salt) = closed.salt else { continue };
            let mut taking = Taking { salt, vault: &self.world.vault, keys: &mut self.keys };
            closed.event.clone().visit_sealed(&mut taking);
        }
        self.kept = self.world.log.len();
    }

    /// Changes the log's key, by a record that names its place and the tree before it.
    fn rotate_log_key(&mut self) {
        let key = |byte| SigningKey::from_seed("writ.example/log", [byte; 32]).unwrap();
        let mut tree = MemoryTree::new();
        self.world.log.iter().for_each(|record| tree.push(record.leaf));
        let rotation = Rotation::sign(&key(7), &key(8), tree.size(), &tree.root()).unwrap();
        let new_key = key(8).verifier_key().to_string();
        self.submit(Command::RotateLogKey { new_key, rotation: rotation.statement });
    }

    fn administrators(&mut self) {
        let (owner, viewer) = (admin(1), admin(2));
        self.submit(Command::OpenLog { program: "0.1.0".to_owned() });
        self.submit(fixtures::grant(&owner, Role::Owner, "the owner's secret"));
        self.submit(fixtures::grant(&viewer, Role::Viewer, "the viewer's secret"));
        for (secret, token) in [("the owner's secret", 1), ("a wrong secret", 2)] {
            self.submit_as(
                Actor::Anonymous,
                Command::LogIn {
                    admin: owner.clone(),
                    secret: Secret::new(secret.to_owned()),
                    token: TokenId::from_bytes(bytes(token)),
                    token_hash: SecretHash::of("the token's secret"),
                },
            );
        }
        self.submit_as(Actor::Admin(viewer), fixtures::provision(1));
    }

    fn people(&mut self) {
        let owner = Actor::Admin(admin(1));
        for number in [1, 2] {
            self.submit_as(owner.clone(), fixtures::provision(number));
        }
        for (number, owner_of) in
            [(1, NodeOwner::User(user(1))), (2, fixtures::tags(&["tag:db"])), (3, NodeOwner::User(user(2)))]
        {
            let key = fixtures::enrolment_key(number, owner_of, 1, self.world.now);
            self.submit_as(owner.clone(), key);
        }
        for (node, key) in [(1, 1), (2, 2), (3, 1)] {
            let request = Endpoint::new(node).join_request(u64::from(node), key);
            self.submit_as(Actor::Node(id(node)), Command::Join { request });
        }
        for node in [1, 2] {
            self.submit_as(Actor::Node(id(node)), Endpoint::new(node).start_session());
        }
        self.submit_as(owner.clone(), fixtures::set_policy(1, &policy(), None));
        self.submit_as(owner, Command::RevokeEnrolmentKey { key: EnrolmentKeyId::from_bytes(bytes(3)) });
    }

    fn connections(&mut self) -> AuthorizationId {
        let address = self.world.address(2);
        self.submit_as(Actor::Agent, request(1, address, 22, None));
        let held = self.world.connect(1, 2, 5432).unwrap();
        self.keep_keys();
        let renewed = request(1, address, 5432, Some(held.clone()));
        self.world.pass(300);
        self.submit_as(Actor::Agent, renewed);
        let record = self.world.state.authorization(&held).unwrap().record;
        for node in [1, 2] {
            self.world.acknowledge(node, &held, record, AcknowledgedAction::Established).unwrap();
        }
        self.submit_as(Actor::Node(id(1)), Endpoint::new(1).rotate(1));
        self.submit_as(
            Actor::Agent,
            Command::ReportClosed {
                node: id(1),
                authorization: held.clone(),
                reason: CloseReason::Idle,
                bytes_sent: 1_234,
                bytes_received: 5_678,
                path: Some(PathKind::Direct),
            },
        );
        self.routes();
        let reason = "the inclusion proof does not lead to the checkpoint";
        self.submit_as(Actor::Agent, Endpoint::new(1).reject(7, reason));
        held
    }

    /// What lies behind node 2 is reached through it, until it offers that no longer.
    fn routes(&mut self) {
        let advertise = |routes: &[&str]| Command::AdvertiseRoutes {
            node: id(2),
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
        };
        self.submit_as(Actor::Node(id(2)), advertise(&["10.20.0.0/16"]));
        self.submit_as(Actor::Agent, request(1, "10.20.0.5".parse().unwrap(), 443, None));
        self.submit_as(Actor::Node(id(2)), advertise(&[]));
        let approve = Command::ApproveRoutes { node: id(2), routes: Vec::new() };
        self.submit_as(Actor::Admin(admin(1)), approve);
    }

    fn readers(&mut self) {
        let owner = Actor::Admin(admin(1));
        let (fields, digest) = (vec!["connections".to_owned()], "ab".repeat(32));
        self.submit_as(owner.clone(), Command::RecordQuery { fields, digest: digest.clone() });
        let purpose = "incident 42".to_owned();
        self.submit_as(owner.clone(), Command::RecordDeanonymised { users: vec![user(1)], purpose });
        let framework = "nis2/2026.1".to_owned();
        self.submit_as(owner, Command::RecordReport { framework, bundle_digest: digest, as_of: Seq(10) });
    }

    fn ends(&mut self, held: &AuthorizationId) {
        let owner = Actor::Admin(admin(1));
        self.submit_as(
            owner.clone(),
            Command::ReceiveLeaver { user: user(1), decided_at: Some(self.world.now) },
        );
        let revoked = self.world.state.authorization(held).unwrap().revoked.unwrap().record;
        self.world.acknowledge(2, held, revoked, AcknowledgedAction::Withdrawn).unwrap();
        self.keep_keys();
        self.submit_as(owner.clone(), Command::EraseUser { user: user(1) });
        self.submit(Command::EndSession { node: id(2), reason: SessionEnd::TimedOut });
        self.submit_as(owner.clone(), Command::RevokeRole { admin: admin(2) });
        let quarter = Quarter::of(self.world.now);
        let later: Timestamp = self.world.now + SignedDuration::from_hours(24 * 100);
        self.world.now = later;
        self.submit_as(owner, Command::LapseRetention { quarter });
        self.rotate_log_key();
        self.submit(Command::CloseLog);
    }
}

fn admin(number: u64) -> AdminId {
    AdminId::from_bytes(bytes(number))
}

struct Taking<'a> {
    salt: Salt,
    vault: &'a Vault,
    keys: &'a mut Vec<(HeldKey, (Subject, Retention))>,
}

impl SealVisitor for Taking<'_> {
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>) {
        let key_ref = sealed.key_ref().unwrap();
        let place = Place { salt: self.salt, field };
        let OpeningKey { key, of } = self.vault.opening_key(key_ref, place).unwrap();
        self.keys.push((HeldKey { key_ref, key }, of.unwrap()));
    }
}
