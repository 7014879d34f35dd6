//! What this node believes, and why.
//!
//! The enrolment key named the network and the log's key. From there on nothing the control plane says is taken on its
//! word when it would *permit* something: every authorization and every key comes as a record with a proof that it stands
//! in the log, under a checkpoint that continues the one verified before; a WireGuard key counts only if the identity key
//! that the node is named by has signed it. What passed has a type of its own ([`Verified`]), the only one that the engine
//! takes. Pure: time comes in as an argument.

mod chain;
mod refusal;
mod verified;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use writ_ledger::VerifierKey;
use writ_relay::RelayKey;
use writ_schema::event::{KeyRotated, NodeJoined, Side};
use writ_schema::keys::{IdentityKey, Statement, WireGuardKey};
use writ_schema::protocol::{
    Authorized, Candidate, JoinResponse, MAX_CANDIDATES, Peer, ProvenRecord, RelayAccess, ServerFrame,
    ServerMessage, Snapshot,
};
use writ_schema::{AuthorizationId, Event, NetworkId, NodeId, Seq};

use chain::expect_event;

pub use chain::Chain;
pub use refusal::Refusal;
pub use verified::*;

/// Most STUN servers that are asked.
const MAX_STUN_SERVERS: usize = 8;

/// Newest key of a node that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenKey {
    /// The identity key that signed it.
    pub identity: IdentityKey,
    /// Its number.
    pub generation: u64,
    /// The key.
    pub key: WireGuardKey,
}

/// What the join proved about this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The node.
    pub node: NodeId,
    /// The network.
    pub network: NetworkId,
    /// Name of the network.
    pub network_name: String,
    /// The node's IPv4 address.
    pub address_v4: Ipv4Addr,
    /// The node's IPv6 address.
    pub address_v6: Ipv6Addr,
}

/// The keys that this node has asked to join with.
#[derive(Debug, Clone, Copy)]
pub struct JoiningKeys {
    /// Public half of the identity key.
    pub identity: IdentityKey,
    /// Public half of the first WireGuard key.
    pub wireguard: WireGuardKey,
}

/// This node's view of the log, and the newest key it has seen of each node.
#[derive(Debug, Clone)]
pub struct Trust {
    network: NetworkId,
    node: NodeId,
    identity: IdentityKey,
    chain: Chain,
    seen: BTreeMap<NodeId, SeenKey>,
}

impl Trust {
    /// Checks the answer to a join against what the enrolment key named.
    pub fn join(
        network: &NetworkId,
        log_key: VerifierKey,
        ours: JoiningKeys,
        response: &JoinResponse,
    ) -> Result<(Self, Membership), Refusal> {
        let mut chain = Chain::new(log_key);
        chain.advance(&response.checkpoint)?;
        let network_name = check_genesis(&chain, network, &response.genesis)?;
        let node = NodeId::of_identity_key(ours.identity.as_bytes());
        let joined = check_join(&chain, network, &node, &response.join)?;
        for (differs, what) in [
            (joined.identity_key != ours.identity, "identity key"),
            (joined.wireguard_key != ours.wireguard, "WireGuard key"),
            (response.node != node, "node"),
            (joined.address_v4 != response.address_v4, "IPv4 address"),
            (joined.address_v6 != response.address_v6, "IPv6 address"),
            (network_name != response.network_name, "network name"),
        ] {
            if differs {
                return Err(Refusal::OtherJoin(what));
            }
        }
        let membership = Membership {
            node,
            network: network.clone(),
            network_name,
            address_v4: joined.address_v4,
            address_v6: joined.address_v6,
        };
        let trust = Self::resume(&membership, ours.identity, chain, BTreeMap::new());
        Ok((trust, membership))
    }

    /// Goes on from what was verified before this process began.
    pub fn resume(
        membership: &Membership,
        identity: IdentityKey,
        chain: Chain,
        seen: BTreeMap<NodeId, SeenKey>,
    ) -> Self {
        let (network, node) = (membership.network.clone(), membership.node.clone());
        Self { network, node, identity, chain, seen }
    }

    /// The log as it is verified.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The newest key that was seen of each node.
    pub fn seen(&self) -> &BTreeMap<NodeId, SeenKey> {
        &self.seen
    }

    /// Verifies a frame. A snapshot keeps what verifies and names the rest.
    pub fn verify(&mut self, now: Timestamp, frame: ServerFrame) -> Result<Verified, Refusal> {
        if let Some(update) = &frame.checkpoint {
            self.chain.advance(update)?;
        }
        Ok(match frame.message {
            ServerMessage::Snapshot(snapshot) => {
                Verified::Snapshot(Box::new(self.verify_snapshot(now, snapshot)?))
            }
            ServerMessage::NetmapChanged(delta) => Verified::NetmapChanged(delta),
            ServerMessage::Authorized(authorized) => {
                Verified::Authorized(Box::new(self.verify_authorized(now, &authorized)?))
            }
            ServerMessage::Denied { request, reason, explanation, record } => {
                Verified::Denied { request, reason, explanation, record }
            }
            ServerMessage::Revoked { authorization, reason: _, record } => {
                Verified::Revoked(self.verify_revoked(&authorization, &record)?)
            }
            ServerMessage::PeerKey { node, record } => Verified::Key(self.verify_key(&node, &record)?),
            ServerMessage::Candidates { node, candidates } => {
                Verified::Candidates { node, candidates: bounded(&candidates) }
            }
            ServerMessage::Refused { request, error, message, retry_after_ms } => {
                Verified::Refused { request, error, message, retry_after_ms }
            }
            ServerMessage::Removed { record } => {
                self.verify_removed(&record)?;
                Verified::Removed
            }
        })
    }

    fn verify_snapshot(&mut self, now: Timestamp, snapshot: Snapshot) -> Result<VerifiedSnapshot, Refusal> {
        let relay = read_relay(&snapshot.relay)?;
        let (mut authorizations, mut refused) = (Vec::new(), Vec::new());
        for authorized in &snapshot.authorizations {
            match self.verify_authorized(now, authorized) {
                Ok(verified) => authorizations.push(verified),
                Err(refusal) => refused.push(refusal),
            }
        }
        Ok(VerifiedSnapshot { netmap: snapshot.netmap, authorizations, refused, relay })
    }

    fn verify_authorized(
        &mut self,
        now: Timestamp,
        sent: &Authorized,
    ) -> Result<VerifiedAuthorization, Refusal> {
        let included = self.chain.included(&sent.record)?;
        let seq = included.record.seq;
        let body = expect_event!(included, ConnectionAuthorized, "connection.authorized")?;
        let source = body.source.value().ok_or(Refusal::SourceSealed(seq))?;
        if source.node == body.destination {
            return Err(Refusal::Itself(seq));
        }
        let (ours, theirs) = match sent.side {
            Side::Source => (&source.node, &body.destination),
            Side::Destination => (&body.destination, &source.node),
        };
        for (found, expected) in [(ours, &self.node), (theirs, &sent.peer.node)] {
            if found != expected {
                return Err(Refusal::OtherNode { seq, found: found.clone(), expected: expected.clone() });
            }
        }
        if body.expires_at <= now {
            return Err(Refusal::Expired(seq));
        }
        let peer = self.verify_peer(&sent.peer)?;
        Ok(VerifiedAuthorization {
            request: sent.request.clone(),
            authorization: body.authorization.clone(),
            record: seq,
            leaf: included.leaf.to_string(),
            side: sent.side,
            peer,
            protocol: body.protocol,
            ports: body.ports,
            rule: body.rule.clone(),
            policy: body.policy,
            issued_at: included.record.time,
            expires_at: body.expires_at,
            renews: body.renews.clone(),
        })
    }

    fn verify_peer(&mut self, sent: &Peer) -> Result<VerifiedPeer, Refusal> {
        let joined = check_join(&self.chain, &self.network, &sent.node, &sent.join)?;
        let identity = joined.identity_key;
        let (seq, key) = match &sent.rotation {
            None => {
                let first = VerifiedKey { node: sent.node.clone(), generation: 0, key: joined.wireguard_key };
                (sent.join.seq, first)
            }
            Some(rotation) => {
                let rotated = check_rotation(&self.chain, &self.network, &sent.node, &identity, rotation)?;
                (rotation.seq, rotated)
            }
        };
        // From here on the identity key is known, so that a later rotation can be checked against it.
        self.remember(seq, identity, &key)?;
        Ok(VerifiedPeer {
            key,
            name: joined.name.value().cloned(),
            address_v4: joined.address_v4,
            address_v6: joined.address_v6,
            candidates: bounded(&sent.candidates),
        })
    }

    fn verify_key(&mut self, node: &NodeId, sent: &ProvenRecord) -> Result<VerifiedKey, Refusal> {
        let identity = if *node == self.node {
            self.identity
        } else {
            self.seen.get(node).ok_or_else(|| Refusal::UnknownNode(node.clone()))?.identity
        };
        let key = check_rotation(&self.chain, &self.network, node, &identity, sent)?;
        self.remember(sent.seq, identity, &key)?;
        Ok(key)
    }

    fn verify_revoked(
        &self,
        authorization: &AuthorizationId,
        sent: &ProvenRecord,
    ) -> Result<VerifiedRevocation, Refusal> {
        let included = self.chain.included(sent)?;
        let revoked = expect_event!(included, ConnectionRevoked, "connection.revoked")?;
        if revoked.authorization != *authorization {
            return Err(Refusal::OtherAuthorization(sent.seq));
        }
        Ok(VerifiedRevocation {
            authorization: authorization.clone(),
            record: sent.seq,
            leaf: included.leaf.to_string(),
            reason: revoked.reason,
        })
    }

    fn verify_removed(&self, sent: &ProvenRecord) -> Result<(), Refusal> {
        let included = self.chain.included(sent)?;
        let removed = expect_event!(included, NodeRemoved, "node.removed")?;
        expect_node(sent.seq, &removed.node, &self.node)
    }

    /// Refuses a key that is older than one seen before, and remembers it otherwise.
    fn remember(&mut self, seq: Seq, identity: IdentityKey, key: &VerifiedKey) -> Result<(), Refusal> {
        if let Some(seen) = self.seen.get(&key.node) {
            if key.generation < seen.generation {
                let (node, seen) = (key.node.clone(), seen.generation);
                return Err(Refusal::OldGeneration { seq, node, generation: key.generation, seen });
            }
            if key.generation == seen.generation && key.key != seen.key {
                return Err(Refusal::SecondKey { seq, node: key.node.clone(), generation: key.generation });
            }
        }
        let seen = SeenKey { identity, generation: key.generation, key: key.key };
        self.seen.insert(key.node.clone(), seen);
        Ok(())
    }
}

/// Record 0 must be that of the network and log that the enrolment key named. Gives the network's name.
fn check_genesis(chain: &Chain, network: &NetworkId, sent: &ProvenRecord) -> Result<String, Refusal> {
    let included = chain.included(sent)?;
    let created = expect_event!(included, NetworkCreated, "network.created")?;
    for (differs, what) in [
        (sent.seq != Seq(0), "position"),
        (created.network != *network, "network"),
        (created.origin != chain.key().name(), "log origin"),
        (created.log_key != chain.key().to_string(), "log key"),
    ] {
        if differs {
            return Err(Refusal::OtherNetwork(what));
        }
    }
    Ok(created.name.clone())
}

/// A join must be of this node, whose name is the hash of the identity key, which has signed the first WireGuard key.
fn check_join(
    chain: &Chain,
    network: &NetworkId,
    node: &NodeId,
    sent: &ProvenRecord,
) -> Result<NodeJoined, Refusal> {
    let included = chain.included(sent)?;
    let joined = expect_event!(included, NodeJoined, "node.joined")?;
    expect_node(sent.seq, &joined.node, node)?;
    if NodeId::of_identity_key(joined.identity_key.as_bytes()) != *node {
        return Err(Refusal::ForeignIdentity(sent.seq));
    }
    let statement = Statement::Rotation { network, generation: 0, wireguard_key: &joined.wireguard_key };
    joined
        .identity_key
        .verify(&statement, &joined.key_signature)
        .map_err(|_| Refusal::UnsignedKey(sent.seq))?;
    Ok(joined.clone())
}

/// A rotation must be of this node and signed by its identity key.
fn check_rotation(
    chain: &Chain,
    network: &NetworkId,
    node: &NodeId,
    identity: &IdentityKey,
    sent: &ProvenRecord,
) -> Result<VerifiedKey, Refusal> {
    let included = chain.included(sent)?;
    let rotated = expect_event!(included, KeyRotated, "key.rotated")?;
    expect_node(sent.seq, &rotated.node, node)?;
    let KeyRotated { generation, wireguard_key, .. } = *rotated;
    let statement = Statement::Rotation { network, generation, wireguard_key: &wireguard_key };
    identity.verify(&statement, &rotated.signature).map_err(|_| Refusal::UnsignedKey(sent.seq))?;
    Ok(VerifiedKey { node: node.clone(), generation, key: wireguard_key })
}

fn expect_node(seq: Seq, found: &NodeId, expected: &NodeId) -> Result<(), Refusal> {
    if found == expected {
        return Ok(());
    }
    Err(Refusal::OtherNode { seq, found: found.clone(), expected: expected.clone() })
}

fn read_relay(access: &RelayAccess) -> Result<Relay, Refusal> {
    let key = BASE64.decode(access.key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let key = RelayKey::from_bytes(key.ok_or(Refusal::RelayKey)?);
    let stun = access.stun.iter().take(MAX_STUN_SERVERS).copied().collect();
    Ok(Relay { address: access.address, key, stun })
}

fn bounded(candidates: &[Candidate]) -> Vec<Candidate> {
    candidates.iter().take(MAX_CANDIDATES).copied().collect()
}
