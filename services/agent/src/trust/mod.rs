//! What this node believes, and why.
//!
//! The enrolment key named the network and the log's key. From there on nothing the control plane says is taken on its
//! word when it would *permit* something: every authorization and every key comes as a record with a proof that it stands
//! in the log, under a checkpoint that continues the one verified before; a WireGuard key counts only if the identity key
//! that the node is named by has signed it. What passed has a type of its own ([`Verified`]), the only one that the engine
//! takes. Since a control plane could show each node a history of its own, nodes compare their checkpoints with those of
//! their peers. Pure: time comes in as an argument.

mod chain;
mod checks;
mod kept;
mod peers;
mod quorum;
mod refusal;
mod stored;
mod verified;
mod witness;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use writ_ledger::{TrustPolicy, VerifierKey};
use writ_schema::event::Side;
use writ_schema::keys::{IdentityKey, WireGuardKey};
use writ_schema::net::Prefix;
use writ_schema::protocol::{
    Authorized, CheckpointUpdate, JoinResponse, Peer, ProvenRecord, ServerFrame, ServerMessage, Snapshot,
};
use writ_schema::{AuthorizationId, Event, NetworkId, NodeId, Seq};

use chain::{expect_event, hashes};
use checks::{bounded, check_genesis, check_join, check_rotation, expect_node, read_relay};
use kept::Live;
use quorum::Quorum;
use witness::Witness;

pub use chain::Chain;
pub use kept::*;
pub use quorum::{MAX_AGE, PolicyRefusal, QuorumStatus};
pub use refusal::Refusal;
pub use stored::*;
pub use verified::*;
pub use witness::{FoundSplitView, Heard, UnprovenCheckpoint};

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

/// Lengths of the prefixes that nodes' addresses are taken from.
pub const OVERLAY_BITS_V4: u8 = 10;
/// The same for IPv6.
pub const OVERLAY_BITS_V6: u8 = 48;

impl Membership {
    /// Where the addresses of the network's nodes are taken from: inside 100.64.0.0/10 (RFC 6598), and the /48 that this node
    /// is in.
    pub fn overlay(&self) -> [Prefix; 2] {
        overlay(Ipv4Addr::new(100, 64, 0, 0), self.address_v6)
    }
}

/// The prefixes of a network's nodes that these addresses are in.
fn overlay(v4: Ipv4Addr, v6: Ipv6Addr) -> [Prefix; 2] {
    [(IpAddr::from(v4), OVERLAY_BITS_V4), (v6.into(), OVERLAY_BITS_V6)]
        .map(|(address, length)| IpNet::new(address, length).map_or(Prefix::single(address), Prefix::of))
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
    seen: Arc<BTreeMap<NodeId, SeenKey>>,
    live: Live,
    witness: Witness,
    /// What this node's own policy demands, if it has one.
    quorum: Option<Quorum>,
    /// What satisfied it when this process began.
    cosigned_before: Option<String>,
    changes: Changes,
}

/// Where the proofs about an authorization lead to.
struct Anchors<'a> {
    record: &'a Chain,
    join: &'a Chain,
    rotation: &'a Chain,
}

impl<'a> Anchors<'a> {
    fn all(chain: &'a Chain) -> Self {
        Self { record: chain, join: chain, rotation: chain }
    }
}

/// A peer's key, from a record that its identity key has signed.
struct SignedKey {
    record: Seq,
    identity: IdentityKey,
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
        Ok((Self::begin(&membership, ours.identity, chain), membership))
    }

    fn begin(membership: &Membership, identity: IdentityKey, chain: Chain) -> Self {
        Self {
            network: membership.network.clone(),
            node: membership.node.clone(),
            identity,
            chain,
            seen: Arc::default(),
            live: Live::default(),
            witness: Witness::default(),
            quorum: None,
            cosigned_before: None,
            changes: Changes::default(),
        }
    }

    /// The log as it is verified.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Believes new authorizations only while the quorum of this policy has cosigned the log a short while ago.
    ///
    /// # Errors
    /// When the policy is of another log, or demands nothing.
    pub fn demand(&mut self, policy: TrustPolicy) -> Result<(), PolicyRefusal> {
        self.quorum = Some(Quorum::new(policy, &self.chain, self.cosigned_before.as_deref())?);
        Ok(())
    }

    /// How this node's own policy is met; `None` without one.
    pub fn quorum(&self, now: Timestamp) -> Option<QuorumStatus> {
        self.quorum.as_ref().map(|quorum| quorum.status(now))
    }

    /// An authorization is over, by itself or before its time.
    pub fn end(&mut self, now: Timestamp, authorization: &AuthorizationId) {
        if self.live.end(now, authorization) {
            self.changes.trust += 1;
            self.changes.live += 1;
        }
    }

    fn advance(&mut self, now: Timestamp, update: &CheckpointUpdate) -> Result<(), Refusal> {
        let advanced = self.chain.advance(update);
        if let Err(refusal) = &advanced
            && let Some(evidence) = self.chain.contradiction(update)
        {
            self.witness.find(now, None, refusal.to_string(), &evidence, &self.chain);
        }
        self.note_checkpoint();
        self.changes.trust += 1;
        advanced
    }

    fn note_checkpoint(&mut self) {
        if let Some(held) = self.chain.held() {
            self.witness.verified(held);
        }
    }

    /// Verifies a frame. A snapshot keeps what verifies and names the rest.
    pub fn verify(&mut self, now: Timestamp, frame: ServerFrame) -> Result<Verified, Refusal> {
        if let Some(update) = &frame.checkpoint {
            self.advance(now, update)?;
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
                let candidates = bounded(&candidates);
                if let Some(peer) = self.live.kept.peers.get_mut(&node) {
                    peer.candidates.clone_from(&candidates);
                    self.changes.live += 1;
                }
                Verified::Candidates { node, candidates }
            }
            ServerMessage::Consistency { request, size, root, proof } => {
                let answer = (size, root.parse().ok(), hashes(&proof));
                self.witness.answered(now, &self.chain, &request, answer);
                self.changes.trust += u64::from(self.witness.found().is_some());
                Verified::Consistency
            }
            ServerMessage::Explained(explained) => Verified::Explained(explained),
            ServerMessage::Cosigned { request, note, proof } => {
                Verified::Cosigned { frees: self.hear_cosigned(now, &request, &note, hashes(&proof)) }
            }
            ServerMessage::Refused { request, error, message, retry_after_ms } => {
                if let Some(request) = &request {
                    self.witness.refused(request, &message);
                    if let Some(quorum) = &mut self.quorum {
                        quorum.refused(request, &message);
                    }
                }
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
        let named = |id: &AuthorizationId| authorizations.iter().any(|live| live.authorization() == id);
        self.live.end_unless(now, named);
        self.changes.trust += 1;
        self.changes.live += 1;
        Ok(VerifiedSnapshot { netmap: snapshot.netmap, authorizations, refused, relay })
    }

    fn verify_authorized(
        &mut self,
        now: Timestamp,
        sent: &Authorized,
    ) -> Result<VerifiedAuthorization, Refusal> {
        let (verified, key) = self.check_authorized(now, &Anchors::all(&self.chain), sent)?;
        if self.witness.found().is_some() && !self.live.knows(verified.authorization()) {
            return Err(Refusal::SplitView(verified.record()));
        }
        if let Some(quorum) = &mut self.quorum
            && !self.live.knows(verified.authorization())
            && let Some(why) = quorum.unmet(now)
        {
            quorum.has_refused();
            return Err(Refusal::Unwitnessed { seq: verified.record(), why });
        }
        // From here on the identity key is known, so that a later rotation can be checked against it.
        self.remember(key.record, key.identity, &verified.peer().key)?;
        self.live.add(&self.chain.shared_note()?, &verified, sent);
        self.changes.live += 1;
        Ok(verified)
    }

    fn check_authorized(
        &self,
        now: Timestamp,
        at: &Anchors<'_>,
        sent: &Authorized,
    ) -> Result<(VerifiedAuthorization, SignedKey), Refusal> {
        let included = at.record.included(&sent.record)?;
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
        let (peer, key) = self.check_peer(at, &sent.peer)?;
        // A route for everything leads to the Internet, where no node's address is.
        let is_route = |route: Prefix| {
            let overlay = overlay(peer.address_v4, peer.address_v6);
            route.is_everything() || !overlay.iter().any(|own| own.overlaps(route))
        };
        if !body.is_consistent() || !body.route.is_none_or(is_route) {
            return Err(Refusal::BadRoute(seq));
        }
        let verified = VerifiedAuthorization {
            request: sent.request.clone(),
            authorization: body.authorization.clone(),
            record: seq,
            leaf: included.leaf.to_string(),
            side: sent.side,
            peer,
            route: body.route,
            protocol: body.protocol,
            ports: body.ports,
            rule: body.rule.clone(),
            policy: body.policy,
            issued_at: included.record.time,
            expires_at: body.expires_at,
            renews: body.renews.clone(),
        };
        Ok((verified, key))
    }

    fn check_peer(&self, at: &Anchors<'_>, sent: &Peer) -> Result<(VerifiedPeer, SignedKey), Refusal> {
        let joined = check_join(at.join, &self.network, &sent.node, &sent.join)?;
        let identity = joined.identity_key;
        let (record, key) = match &sent.rotation {
            None => {
                let first = VerifiedKey { node: sent.node.clone(), generation: 0, key: joined.wireguard_key };
                (sent.join.seq, first)
            }
            Some(rotation) => {
                let rotated = check_rotation(at.rotation, &self.network, &sent.node, &identity, rotation)?;
                (rotation.seq, rotated)
            }
        };
        let peer = VerifiedPeer {
            key,
            name: joined.name.value().cloned(),
            address_v4: joined.address_v4,
            address_v6: joined.address_v6,
            candidates: bounded(&sent.candidates),
        };
        Ok((peer, SignedKey { record, identity }))
    }

    fn verify_key(&mut self, node: &NodeId, sent: &ProvenRecord) -> Result<VerifiedKey, Refusal> {
        let identity = if *node == self.node {
            self.identity
        } else {
            self.seen.get(node).ok_or_else(|| Refusal::UnknownNode(node.clone()))?.identity
        };
        let key = check_rotation(&self.chain, &self.network, node, &identity, sent)?;
        self.remember(sent.seq, identity, &key)?;
        let checkpoint = self.chain.shared_note()?;
        if let Some(peer) = self.live.kept.peers.get_mut(node) {
            peer.rotation = Some(Arc::new(KeptRecord { checkpoint, record: sent.clone() }));
        }
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
        if self.seen.get(&key.node) != Some(&seen) {
            Arc::make_mut(&mut self.seen).insert(key.node.clone(), seen);
            self.changes.live += 1;
        }
        Ok(())
    }
}
