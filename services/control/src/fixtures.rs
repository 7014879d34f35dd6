//! What tests of the control plane are made of: endpoints that can sign, and commands with defaults.

use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{NodeOwner, Role};
use writ_schema::keys::{IdentityKey, SecretHash, Signature, Statement, WireGuardKey};
use writ_schema::protocol::JoinRequest;
use writ_schema::{
    Actor, AdminId, CommandId, EnrolmentKeyId, NetworkId, NodeId, PolicyVersion, ProposalId, UserId,
};

use crate::core::{Command, Submission};

/// The network of every test.
pub(crate) fn network() -> NetworkId {
    NetworkId::from_bytes([1; 16])
}

/// When every test begins.
pub(crate) fn start() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

/// A number as an identifier.
pub(crate) fn bytes(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub(crate) fn user(number: u64) -> UserId {
    UserId::from_bytes(bytes(number))
}

pub(crate) fn login(number: u64) -> String {
    format!("person-{number}@example.com")
}

/// A command of the control plane itself, under an id of this number.
pub(crate) fn submission(number: u64, command: Command) -> Submission {
    Submission { id: CommandId::from_bytes(bytes(number)), actor: Actor::System, command, trace: None }
}

pub(crate) fn create_network() -> Command {
    Command::CreateNetwork {
        network: network(),
        name: "acme".to_owned(),
        prefix_v4: "100.64.0.0/10".to_owned(),
        prefix_v6: "fd7a:115c:a1e0::/48".to_owned(),
        origin: "writ.example/log".to_owned(),
        log_key: "writ.example/log+00000000+AA==".to_owned(),
    }
}

pub(crate) fn provision(number: u64) -> Command {
    let display_name = format!("Person Number {number}");
    Command::ProvisionUser { user: user(number), login: login(number), display_name }
}

pub(crate) fn secret(key: u64) -> String {
    format!("secret-of-enrolment-key-{key}")
}

pub(crate) fn enrolment_key(key: u64, owner: NodeOwner, max_uses: u32, now: Timestamp) -> Command {
    Command::CreateEnrolmentKey {
        key: EnrolmentKeyId::from_bytes(bytes(key)),
        secret_hash: SecretHash::of(&secret(key)),
        owner,
        max_uses,
        expires_at: now + SignedDuration::from_hours(24),
    }
}

pub(crate) fn tags(names: &[&str]) -> NodeOwner {
    NodeOwner::Tags(names.iter().map(|name| name.parse().unwrap()).collect())
}

pub(crate) fn set_policy(number: u64, text: &str, base: Option<PolicyVersion>) -> Command {
    let proposal = ProposalId::from_bytes(bytes(number));
    Command::SetPolicy { text: text.to_owned(), proposal, base, allow_everything: false }
}

pub(crate) fn grant(admin: &AdminId, role: Role, secret: &str) -> Command {
    let (admin, secret_hash) = (admin.clone(), SecretHash::of(secret));
    Command::GrantRole { admin, name: "Olga Operator".to_owned(), role, secret_hash }
}

/// A node with its keys.
pub(crate) struct Endpoint {
    private: SigningKey,
    number: u8,
}

impl Endpoint {
    pub(crate) fn new(number: u8) -> Self {
        Self { private: SigningKey::from_bytes(&[number.wrapping_add(1); 32]), number }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId::of_identity_key(IdentityKey::of(&self.private).as_bytes())
    }

    pub(crate) fn wireguard_key(&self, generation: u64) -> WireGuardKey {
        let mut key = [self.number; 32];
        key[..8].copy_from_slice(&generation.to_le_bytes());
        WireGuardKey::from_bytes(key)
    }

    pub(crate) fn sign(&self, statement: &Statement<'_>) -> Signature {
        statement.sign(&self.private)
    }

    pub(crate) fn join_request(&self, command: u64, key: u64) -> JoinRequest {
        let (network, wireguard_key) = (network(), self.wireguard_key(0));
        let (secret_hash, secret) = (SecretHash::of(&secret(key)), secret(key));
        let join =
            Statement::Join { network: &network, secret_hash: &secret_hash, wireguard_key: &wireguard_key };
        JoinRequest {
            command: CommandId::from_bytes(bytes(command)),
            secret,
            identity_key: IdentityKey::of(&self.private),
            wireguard_key,
            join_signature: self.sign(&join),
            key_signature: self.rotation_signature(0),
            name: format!("node-{}", self.number),
        }
    }

    pub(crate) fn rotation_signature(&self, generation: u64) -> Signature {
        let (network, wireguard_key) = (network(), self.wireguard_key(generation));
        self.sign(&Statement::Rotation { network: &network, generation, wireguard_key: &wireguard_key })
    }

    pub(crate) fn rotate(&self, generation: u64) -> Command {
        let (wireguard_key, signature) =
            (self.wireguard_key(generation), self.rotation_signature(generation));
        Command::RotateKey { node: self.id(), generation, wireguard_key, signature }
    }

    pub(crate) fn reject(&self, frame: u64, reason: &str) -> Command {
        let signature = self.sign(&Statement::Rejection { network: &network(), frame, reason });
        Command::RecordFrameRejected { node: self.id(), frame, reason: reason.to_owned(), signature }
    }

    pub(crate) fn start_session(&self) -> Command {
        Command::StartSession { node: self.id(), agent: "0.1.0".to_owned() }
    }
}
