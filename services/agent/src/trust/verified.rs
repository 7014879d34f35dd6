//! What has been verified. The fields are private and set in this room only, so nothing else can reach the engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;
use jiff::Timestamp;
use writ_relay::RelayKey;
use writ_schema::event::{DenialReason, RevocationReason, Side};
use writ_schema::keys::WireGuardKey;
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::protocol::{Candidate, Explained, Netmap, NetmapDelta, RelayAccess};
use writ_schema::{AuthorizationId, NodeId, PolicyVersion, RequestId, Seq};

use super::Refusal;

/// A WireGuard key that the identity key of its node has signed, from a record in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedKey {
    pub(super) node: NodeId,
    pub(super) generation: u64,
    pub(super) key: WireGuardKey,
}

impl VerifiedKey {
    /// Whose.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Its number; the key of the join is number 0.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The key.
    pub fn key(&self) -> &WireGuardKey {
        &self.key
    }
}

/// The other end of an authorization, from its own records in the log.
#[derive(Debug, Clone)]
pub struct VerifiedPeer {
    pub(super) key: VerifiedKey,
    pub(super) name: Option<String>,
    pub(super) address_v4: Ipv4Addr,
    pub(super) address_v6: Ipv6Addr,
    pub(super) candidates: Vec<Candidate>,
}

impl VerifiedPeer {
    /// The node.
    pub fn node(&self) -> &NodeId {
        &self.key.node
    }

    /// Its newest WireGuard key.
    pub fn key(&self) -> &VerifiedKey {
        &self.key
    }

    /// Its name, where the record's key was handed over.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its overlay addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.address_v4.into(), self.address_v6.into()]
    }

    /// Its overlay IPv4 address.
    pub fn address_v4(&self) -> Ipv4Addr {
        self.address_v4
    }

    /// Where it can be tried. Hints: only a packet that WireGuard accepts proves an address.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
}

/// A live authorization of this node, proven in the log.
#[derive(Debug, Clone)]
pub struct VerifiedAuthorization {
    pub(super) request: Option<RequestId>,
    pub(super) authorization: AuthorizationId,
    pub(super) record: Seq,
    pub(super) leaf: String,
    pub(super) side: Side,
    pub(super) peer: VerifiedPeer,
    pub(super) route: Option<Prefix>,
    pub(super) protocol: Protocol,
    pub(super) ports: PortRange,
    pub(super) rule: String,
    pub(super) policy: PolicyVersion,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) renews: Option<AuthorizationId>,
}

macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident: $kind:ty;)*) => {
        $($(#[$doc])* pub fn $name(&self) -> &$kind { &self.$name })*
    };
}

impl VerifiedAuthorization {
    reads! {
        /// The request that it answers.
        request: Option<RequestId>;
        /// Its name.
        authorization: AuthorizationId;
        /// The record's RFC 6962 leaf hash, base64.
        leaf: String;
        /// The other end.
        peer: VerifiedPeer;
        /// The rule that allows it.
        rule: String;
        /// The authorization that it continues.
        renews: Option<AuthorizationId>;
    }

    /// The record.
    pub fn record(&self) -> Seq {
        self.record
    }

    /// Which end this node is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The addresses behind the destination that are meant instead of its own.
    pub fn route(&self) -> Option<Prefix> {
        self.route
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The destination ports.
    pub fn ports(&self) -> PortRange {
        self.ports
    }

    /// The policy that holds the rule.
    pub fn policy(&self) -> PolicyVersion {
        self.policy
    }

    /// When it was decided.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When it ends by itself.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// A revocation, proven in the log.
#[derive(Debug, Clone)]
pub struct VerifiedRevocation {
    pub(super) authorization: AuthorizationId,
    pub(super) record: Seq,
    pub(super) leaf: String,
    pub(super) reason: RevocationReason,
}

impl VerifiedRevocation {
    reads! {
        /// Which authorization.
        authorization: AuthorizationId;
        /// The record's RFC 6962 leaf hash, base64.
        leaf: String;
    }

    /// The record.
    pub fn record(&self) -> Seq {
        self.record
    }

    /// Why.
    pub fn reason(&self) -> RevocationReason {
        self.reason
    }
}

/// Where the relay is, with this node's key to it. It need not be proven: a relay sees ciphertext only.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Its UDP address, which also answers STUN.
    pub address: std::net::SocketAddr,
    /// This node's key to it.
    pub key: RelayKey,
    /// Further STUN servers.
    pub stun: Vec<std::net::SocketAddr>,
}

impl Relay {
    /// The same as it is kept for the next start.
    pub fn access(&self) -> RelayAccess {
        let key = BASE64.encode(self.key.expose_bytes());
        RelayAccess { address: self.address, key, stun: self.stun.clone() }
    }
}

/// All that an agent runs on.
#[derive(Debug, Clone)]
pub struct VerifiedSnapshot {
    /// Names and services: for people, nothing depends on it.
    pub netmap: Netmap,
    /// The live authorizations that verified.
    pub authorizations: Vec<VerifiedAuthorization>,
    /// Those that did not, and why.
    pub refused: Vec<Refusal>,
    /// The relay.
    pub relay: Relay,
}

/// A message of the control plane after verification.
///
/// What it permits (an authorization, a key) is proven. What it only takes away or hints at need not be.
#[derive(Debug, Clone)]
pub enum Verified {
    /// Everything anew.
    Snapshot(Box<VerifiedSnapshot>),
    /// The netmap has changed.
    NetmapChanged(NetmapDelta),
    /// A connection may be made.
    Authorized(Box<VerifiedAuthorization>),
    /// A connection may not be made.
    Denied {
        /// The request.
        request: RequestId,
        /// Why.
        reason: DenialReason,
        /// The same for people.
        explanation: String,
        /// The record of the denial.
        record: Seq,
    },
    /// An authorization has ended before its time.
    Revoked(VerifiedRevocation),
    /// A node has a new WireGuard key.
    Key(VerifiedKey),
    /// A peer can be tried at these addresses.
    Candidates {
        /// Whose.
        node: NodeId,
        /// Replaces what was known before.
        candidates: Vec<Candidate>,
    },
    /// A request could not be taken.
    Refused {
        /// The request, if it had a name.
        request: Option<RequestId>,
        /// A stable word.
        error: String,
        /// What was wrong.
        message: String,
        /// When it is worth trying again, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// A question about a peer's checkpoint was answered: see [`Trust::split_view`](super::Trust::split_view).
    Consistency,
    /// How a connection would be decided. For people: nothing is permitted by it.
    Explained(Explained),
    /// Witnesses have cosigned: see [`Trust::quorum`](super::Trust::quorum).
    Cosigned {
        /// What was refused for want of witnesses may be believed now, and has to be told anew.
        frees: bool,
    },
    /// The node does not belong to the network any more.
    Removed,
}
