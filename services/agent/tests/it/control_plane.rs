//! A control plane in memory: a real log with real records, proofs and signatures, and no policy.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use boringtun::x25519::{PublicKey, StaticSecret};
use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use writ_agent::trust::{JoiningKeys, Membership, Trust};
use writ_ledger::tree::{MemoryTree, root_at};
use writ_ledger::{
    Checkpoint, ConsistencyProof, CosigningKey, InclusionProof, Rotation, VerifierKey, leaf_hash,
};
use writ_schema::event::*;
use writ_schema::keys::{IdentityKey, Statement, WireGuardKey};
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::protocol::*;
use writ_schema::seal::*;
use writ_schema::{
    Actor, AuthorizationId, CommandId, CommandRef, EnrolmentKeyId, Event, NetworkId, NodeId, PolicyVersion,
    Record, RequestId, Seq, UserId,
};

pub const ORIGIN: &str = "writ.example/log";
pub const LIFE: Duration = Duration::from_secs(600);

/// The control plane.
pub struct ControlPlane {
    pub network: NetworkId,
    pub now: Timestamp,
    key: writ_ledger::SigningKey,
    /// What its witness cosigned last.
    cosigned: Option<(u64, String)>,
    /// The records that changed the log's key.
    rotations: Vec<Seq>,
    subject_key: SubjectKey,
    tree: MemoryTree,
    records: Vec<(String, Vec<HeldKey>)>,
    nodes: u8,
    authorizations: u8,
}

/// A node that has joined.
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub identity: SigningKey,
    pub secret: StaticSecret,
    pub join: Seq,
    pub rotation: Option<Seq>,
    pub membership: Membership,
    pub trust: Trust,
}

/// What an authorization is to say.
#[derive(Clone)]
pub struct Permit {
    pub route: Option<Prefix>,
    pub protocol: Protocol,
    pub ports: PortRange,
    pub renews: Option<AuthorizationId>,
    pub life: Duration,
}

impl Permit {
    pub fn tcp(port: u16) -> Self {
        let ports = PortRange::single(port);
        Self { route: None, protocol: Protocol::Tcp, ports, renews: None, life: LIFE }
    }
}

struct OneKey<'a>(&'a SubjectKey);

impl SealingKeys for OneKey<'_> {
    fn sealing_key(&self, _: &(Subject, Retention), place: Place) -> Option<HeldKey> {
        let key_ref = IndexKey::from_bytes([8; 32]).key_ref(KeyId::from_bytes([7; 8]), place);
        Some(HeldKey { key_ref, key: self.0.field_key(place) })
    }
}

impl OpeningKeys for OneKey<'_> {
    fn opening_key(&self, _: KeyRef, place: Place) -> Option<OpeningKey> {
        let of = (Subject::User(UserId::from_bytes([1; 16])), Retention::Identity);
        Some(OpeningKey { key: self.0.field_key(place), of: Some(of) })
    }
}

impl ControlPlane {
    pub fn new() -> Self {
        Self::with_key(7)
    }

    /// Another control plane, with a log key of its own.
    pub fn with_key(seed: u8) -> Self {
        let key = writ_ledger::SigningKey::from_seed(ORIGIN, [seed; 32]).unwrap();
        let mut control = Self {
            network: NetworkId::from_bytes([1; 16]),
            now: "2026-11-23T10:00:00Z".parse().unwrap(),
            key,
            cosigned: None,
            rotations: Vec::new(),
            subject_key: SubjectKey::from_bytes([9; 32]),
            tree: MemoryTree::new(),
            records: Vec::new(),
            nodes: 0,
            authorizations: 0,
        };
        let created = NetworkCreated {
            v: Version,
            network: control.network.clone(),
            name: "example".to_owned(),
            prefix_v4: "100.64.0.0/10".to_owned(),
            prefix_v6: "fd00:1:2::/48".to_owned(),
            origin: ORIGIN.to_owned(),
            log_key: control.log_key().to_string(),
        };
        control.append(created);
        control
    }

    pub fn log_key(&self) -> VerifierKey {
        self.key.verifier_key()
    }

    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The same log up to now, which goes on by itself from here. Its key is the same.
    pub fn fork(&self) -> Self {
        let (records, rotations) = (self.records.clone(), self.rotations.clone());
        let mut fork = Self { records, rotations, now: self.now, ..Self::new() };
        fork.tree = MemoryTree::new();
        fork.records.iter().for_each(|(text, _)| fork.tree.push(leaf_hash(text.as_bytes())));
        (fork.nodes, fork.authorizations) = (self.nodes, self.authorizations);
        fork
    }

    /// Answers whether the log begins with the tree of a size.
    pub fn consistency(&self, request: RequestId, size: u64) -> ServerMessage {
        if size > self.size() {
            let (error, message) = ("beyond_log".to_owned(), "this log is shorter".to_owned());
            return ServerMessage::Refused { request: Some(request), error, message, retry_after_ms: None };
        }
        let root = root_at(&self.tree, size).unwrap().to_string();
        let proof = ConsistencyProof::build(&self.tree, size, self.size()).unwrap().unwrap();
        let proof = proof.hashes.iter().map(ToString::to_string).collect();
        ServerMessage::Consistency { request, size, root, proof }
    }

    /// The key of its witness.
    pub fn witness() -> CosigningKey {
        CosigningKey::from_seed("witness.example", [5; 32]).unwrap()
    }

    /// The witness cosigns the log as it is now.
    pub fn be_cosigned(&mut self) {
        let note = self.checkpoint(0).note;
        let seconds = u64::try_from(self.now.as_second()).unwrap();
        let line = Self::witness().cosign(&note.parse().unwrap(), seconds);
        self.cosigned = Some((self.size(), format!("{note}{line}\n")));
    }

    /// Shows what the witness has cosigned of another history.
    pub fn boast_of(&mut self, other: &Self) {
        self.cosigned.clone_from(&other.cosigned);
    }

    /// Answers what the witness has cosigned.
    pub fn cosigned(&self, request: RequestId) -> ServerMessage {
        let Some((size, note)) = self.cosigned.clone() else {
            let (error, message) = ("not_cosigned".to_owned(), "there are no witnesses".to_owned());
            return ServerMessage::Refused { request: Some(request), error, message, retry_after_ms: None };
        };
        let proof = ConsistencyProof::build(&self.tree, size, self.size()).unwrap().unwrap();
        let proof = proof.hashes.iter().map(ToString::to_string).collect();
        ServerMessage::Cosigned { request, note, proof }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += SignedDuration::try_from(time).unwrap();
    }

    pub fn append(&mut self, event: impl Into<Event>) -> Seq {
        let seq = Seq(self.tree.size());
        let salt = Salt::from_bytes([u8::try_from(seq.0 % 251).unwrap(); Salt::BYTES]);
        let mut record = Record {
            seq,
            time: self.now,
            actor: Actor::System,
            command: CommandRef { id: CommandId::from_bytes([3; 16]), digest: "00".repeat(8) },
            cause: None,
            salt: Some(salt),
            event: event.into(),
        };
        let keys = OneKey(&self.subject_key);
        record.close(&keys).unwrap();
        let keys = record.held_keys(&keys, |_| true);
        let text = record.encode().unwrap();
        self.tree.push(leaf_hash(text.as_bytes()));
        self.records.push((text, keys));
        seq
    }

    /// A record as it travels, proven in the tree of this moment.
    pub fn proven(&self, seq: Seq) -> ProvenRecord {
        let (record, keys) = self.records[usize::try_from(seq.0).unwrap()].clone();
        let proof = InclusionProof::build(&self.tree, seq.0, self.size()).unwrap().unwrap();
        ProvenRecord { seq, record, proof: proof.hashes.iter().map(ToString::to_string).collect(), keys }
    }

    pub fn checkpoint(&self, from_size: u64) -> CheckpointUpdate {
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: self.size(), root: self.tree.root() };
        let proof = ConsistencyProof::build(&self.tree, from_size, self.size()).unwrap();
        CheckpointUpdate {
            note: checkpoint.sign(&self.key).unwrap().text().to_owned(),
            from_size,
            consistency: proof.map_or(Vec::new(), |p| p.hashes.iter().map(ToString::to_string).collect()),
            rotations: self
                .rotations
                .iter()
                .filter(|seq| seq.0 >= from_size)
                .map(|seq| self.proven(*seq))
                .collect(),
        }
    }

    /// Changes the log's key to the one of this seed.
    pub fn rotate_log_key(&mut self, seed: u8) {
        let next = writ_ledger::SigningKey::from_seed(ORIGIN, [seed; 32]).unwrap();
        let rotation = Rotation::sign(&self.key, &next, self.size(), &self.tree.root()).unwrap();
        self.rotate_log_key_by(rotation.statement, next);
    }

    /// Records a change of the log's key as it is given, and signs with that key from here on.
    pub fn rotate_log_key_by(&mut self, rotation: String, next: writ_ledger::SigningKey) {
        let (old_key, new_key) = (self.log_key().to_string(), next.verifier_key().to_string());
        let seq = self.append(LogKeyRotated { v: Version, old_key, new_key, rotation });
        self.rotations.push(seq);
        self.key = next;
    }

    /// Lets a node join; `seed` makes its keys.
    pub fn join(&mut self, name: &str, seed: u8) -> Node {
        let (response, identity, secret) = self.join_response(name, seed);
        let ours = JoiningKeys { identity: IdentityKey::of(&identity), wireguard: public(&secret) };
        let (trust, membership) = Trust::join(&self.network, self.log_key(), ours, &response).unwrap();
        Node {
            id: membership.node.clone(),
            name: name.to_owned(),
            identity,
            secret,
            join: response.join.seq,
            rotation: None,
            membership,
            trust,
        }
    }

    pub fn join_response(&mut self, name: &str, seed: u8) -> (JoinResponse, SigningKey, StaticSecret) {
        let identity = SigningKey::from_bytes(&[seed; 32]);
        let secret = StaticSecret::from([seed.wrapping_add(100); 32]);
        let wireguard_key = public(&secret);
        let node = NodeId::of_identity_key(IdentityKey::of(&identity).as_bytes());
        self.nodes += 1;
        let (address_v4, address_v6) = (
            Ipv4Addr::new(100, 64, 0, self.nodes),
            Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, self.nodes.into()),
        );
        let statement =
            Statement::Rotation { network: &self.network, generation: 0, wireguard_key: &wireguard_key };
        let owner = UserId::from_bytes([seed; 16]);
        let joined = NodeJoined {
            v: Version,
            node: node.clone(),
            identity_key: IdentityKey::of(&identity),
            wireguard_key,
            key_signature: statement.sign(&identity),
            name: Sealed::new(Subject::User(owner.clone()), Retention::Identity, name.to_owned()),
            owner: NodeOwner::User(owner),
            address_v4,
            address_v6,
            enrolment_key: EnrolmentKeyId::from_bytes([2; 16]),
        };
        let join = self.append(joined);
        let response = JoinResponse {
            node,
            address_v4,
            address_v6,
            network_name: "example".to_owned(),
            genesis: self.proven(Seq(0)),
            join: self.proven(join),
            checkpoint: self.checkpoint(0),
        };
        (response, identity, secret)
    }

    /// Puts an authorization into the log.
    pub fn authorize(
        &mut self,
        source: &Node,
        destination: &Node,
        permit: &Permit,
    ) -> (AuthorizationId, Seq) {
        self.authorizations += 1;
        let authorization = AuthorizationId::from_bytes([self.authorizations; 16]);
        let user = UserId::from_bytes([42; 16]);
        let quarter = Retention::Connections(Quarter::of(self.now));
        let event = ConnectionAuthorized {
            v: ConnectionAuthorized::version(permit.route),
            authorization: authorization.clone(),
            source: Sealed::new(
                Subject::User(user.clone()),
                quarter,
                Source { node: source.id.clone(), user: Some(user) },
            ),
            destination: destination.id.clone(),
            route: permit.route,
            protocol: permit.protocol,
            ports: permit.ports,
            rule: "acls[0]".to_owned(),
            policy: PolicyVersion(1),
            sign_in: SignIn::EnrolmentKey,
            renews: permit.renews.clone(),
            expires_at: self.now + SignedDuration::try_from(permit.life).unwrap(),
        };
        let seq = self.append(event);
        (authorization, seq)
    }

    /// The message about an authorization for one end.
    pub fn authorized(
        &self,
        record: Seq,
        side: Side,
        peer: &Node,
        candidates: Vec<Candidate>,
        request: Option<RequestId>,
    ) -> Authorized {
        Authorized {
            request,
            side,
            record: self.proven(record),
            peer: Peer {
                node: peer.id.clone(),
                join: self.proven(peer.join),
                rotation: peer.rotation.map(|rotation| self.proven(rotation)),
                candidates,
            },
        }
    }

    pub fn revoke(&mut self, authorization: &AuthorizationId) -> Seq {
        let authorization = authorization.clone();
        self.append(ConnectionRevoked::new(authorization, RevocationReason::PolicyChanged))
    }

    pub fn rotate(&mut self, node: &Node, generation: u64, wireguard_key: WireGuardKey) -> Seq {
        let statement =
            Statement::Rotation { network: &self.network, generation, wireguard_key: &wireguard_key };
        let signature = statement.sign(&node.identity);
        self.append(KeyRotated { v: Version, node: node.id.clone(), generation, wireguard_key, signature })
    }

    /// A frame whose proofs lead to the checkpoint of this moment, for a node that has verified `held` records.
    pub fn frame(&self, held: u64, message: ServerMessage) -> ServerFrame {
        ServerFrame { frame: 1, trace: None, checkpoint: Some(self.checkpoint(held)), message }
    }

    pub fn netmap(&self, node: &Node) -> Netmap {
        let addresses = vec![node.membership.address_v4.into(), node.membership.address_v6.into()];
        Netmap {
            hash: "00".to_owned(),
            node: NetmapNode { node: node.id.clone(), name: node.name.clone(), addresses },
            network_name: "example".to_owned(),
            reachable: Vec::new(),
            routes: Vec::new(),
            exits: Vec::new(),
            approved: Vec::new(),
        }
    }
}

pub fn public(secret: &StaticSecret) -> WireGuardKey {
    WireGuardKey::from_bytes(*PublicKey::from(secret).as_bytes())
}
