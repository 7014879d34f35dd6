//! The session: one WebSocket per agent, JSON text frames both ways.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CheckpointUpdate, ProvenRecord};
use crate::event::{AcknowledgedAction, CloseReason, DenialReason, PathKind, RevocationReason, Side};
use crate::keys::{Signature, WireGuardKey};
use crate::net::{PortRange, Prefix, Protocol};
use crate::{AuthorizationId, CommandId, NodeId, PolicyVersion, RequestId, Seq};

/// Longest frame that an agent may send, in bytes.
pub const MAX_AGENT_FRAME_BYTES: usize = 64 * 1024;

/// Longest frame that an agent accepts, in bytes.
pub const MAX_SERVER_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// Most candidates that a node may announce.
pub const MAX_CANDIDATES: usize = 16;

/// Most prefixes that a node may offer to carry packets for.
pub const MAX_ROUTES: usize = 64;

/// Longest reason of a rejection, in characters.
pub const MAX_REASON_CHARS: usize = 200;

/// What an agent sends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentFrame {
    /// W3C traceparent of what brought the message about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The message.
    pub message: AgentMessage,
}

/// A message of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AgentMessage {
    /// Always the first.
    Hello {
        /// Version of the agent.
        agent: String,
        /// Size of the newest checkpoint that the agent has verified; 0 if none.
        checkpoint_size: u64,
        /// Number of the last server frame that was handled, to go on from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_frame: Option<u64>,
    },
    /// "May I reach this address on this protocol and port?"
    Connect {
        /// Named by the agent; the answer carries it.
        request: RequestId,
        /// The address, of a node or behind one.
        address: IpAddr,
        /// The exit node that this node has chosen to carry its packets, if the address is on the Internet and no nearer
        /// route leads there. Without it no exit node is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<NodeId>,
        /// The protocol.
        protocol: Protocol,
        /// The destination port; 0 where the protocol has none.
        port: u16,
        /// The live authorization that this one is to continue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renews: Option<AuthorizationId>,
    },
    /// The addresses under which this node may be reached now. Replaces what was announced before.
    Candidates {
        /// At most [`MAX_CANDIDATES`].
        candidates: Vec<Candidate>,
    },
    /// "I carry packets for these." Sent once a session has begun, and again when it changes; replaces what was offered before.
    /// What is not approved is not carried.
    Routes {
        /// At most [`MAX_ROUTES`].
        routes: Vec<Prefix>,
    },
    /// "I have carried out this record."
    Acknowledge {
        /// Which authorization.
        authorization: AuthorizationId,
        /// The record.
        record: Seq,
        /// What was done.
        action: AcknowledgedAction,
        /// Signature over [`Acknowledgement`](crate::keys::Statement::Acknowledgement).
        signature: Signature,
    },
    /// "I have a new WireGuard key."
    Rotate {
        /// Chosen by the agent and kept until answered.
        command: CommandId,
        /// Number of the key.
        generation: u64,
        /// The key.
        wireguard_key: WireGuardKey,
        /// Signature over [`Rotation`](crate::keys::Statement::Rotation).
        signature: Signature,
    },
    /// "This connection has ended here."
    Closed {
        /// Which authorization.
        authorization: AuthorizationId,
        /// Why.
        reason: CloseReason,
        /// Bytes of IP packets sent to the peer.
        bytes_sent: u64,
        /// Bytes of IP packets received from the peer.
        bytes_received: u64,
        /// The way packets went last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathKind>,
    },
    /// "A peer holds a checkpoint of this size: does your log begin with it?"
    Consistency {
        /// Named by the agent; the answer carries it.
        request: RequestId,
        /// How many records the peer's checkpoint covers.
        size: u64,
    },
    /// "May I reach this, and which rule says so?" Nothing is permitted by the answer, and nothing recorded. A node asks
    /// about itself as the source only, and no more than a few times a second.
    Explain {
        /// Named by the agent; the answer carries it.
        request: RequestId,
        /// Whom.
        destination: Destination,
        /// The exit node that would carry the packets, as in a request to connect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<NodeId>,
        /// The protocol.
        protocol: Protocol,
        /// The destination port; 0 where the protocol has none.
        port: u16,
    },
    /// "Which checkpoint have witnesses cosigned last?"
    Cosigned {
        /// Named by the agent; the answer carries it.
        request: RequestId,
    },
    /// "I do not accept what you sent": a record, proof or checkpoint did not verify.
    Reject {
        /// Number of the server's frame.
        frame: u64,
        /// What did not verify: one line of at most [`MAX_REASON_CHARS`].
        reason: String,
        /// Signature over [`Rejection`](crate::keys::Statement::Rejection).
        signature: Signature,
    },
}

/// Whom a node asks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Who has this overlay address.
    Address(IpAddr),
    /// The node of this name, a DNS label.
    Name(String),
}

/// What the control plane sends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerFrame {
    /// Numbered per node without gaps, through reconnects.
    pub frame: u64,
    /// W3C traceparent of what brought the message about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The checkpoint that proofs in the message lead to, if it is newer than the last one sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointUpdate>,
    /// The message.
    pub message: ServerMessage,
}

/// A message of the control plane.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerMessage {
    /// Everything anew: what the agent holds beyond it is to be dropped. Follows `Hello` unless the agent could be
    /// resumed from its last frame.
    Snapshot(Snapshot),
    /// The netmap has changed.
    NetmapChanged(NetmapDelta),
    /// A connection may be made. Sent to both ends.
    Authorized(Box<Authorized>),
    /// A connection may not be made. Sent to the end that asked.
    Denied {
        /// The request that is answered.
        request: RequestId,
        /// Why.
        reason: DenialReason,
        /// The same for people, with the rule that came nearest.
        explanation: String,
        /// The record of the denial (the first of its window).
        record: Seq,
    },
    /// An authorization has ended before its time. Drop live flows at once, then verify, then acknowledge.
    Revoked {
        /// Which.
        authorization: AuthorizationId,
        /// Why.
        reason: RevocationReason,
        /// The `connection.revoked` record.
        record: ProvenRecord,
    },
    /// A peer with a live authorization has a new WireGuard key. Also the answer to the agent's own `Rotate`.
    PeerKey {
        /// Whose.
        node: NodeId,
        /// The `key.rotated` record.
        record: ProvenRecord,
    },
    /// A peer with a live authorization can be tried at these addresses.
    Candidates {
        /// Whose.
        node: NodeId,
        /// Replaces what was known before.
        candidates: Vec<Candidate>,
    },
    /// The answer to `Consistency`. The frame's checkpoint, or the newest one told before, begins with the tree of that size.
    Consistency {
        /// The request that is answered.
        request: RequestId,
        /// The size that was asked about.
        size: u64,
        /// The root, base64, that the first `size` records have.
        root: String,
        /// RFC 6962 consistency proof from there to the checkpoint: base64 hashes.
        proof: Vec<String>,
    },
    /// The answer to `Explain`: how the policy of this moment decides, and why.
    Explained(Explained),
    /// The answer to `Cosigned`. The frame's checkpoint, or the newest one told before, goes on from this one.
    Cosigned {
        /// The request that is answered.
        request: RequestId,
        /// C2SP signed note with the cosignatures of witnesses.
        note: String,
        /// RFC 6962 consistency proof from there to the checkpoint: base64 hashes.
        proof: Vec<String>,
    },
    /// A request of the agent could not be taken.
    Refused {
        /// The request, if it was one with a name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
        /// A stable word: `busy`, `bad_signature`, `wrong_generation`, `beyond_log`, `not_cosigned`, ….
        error: String,
        /// What was wrong, and what to do.
        message: String,
        /// When it is worth trying again, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The node does not belong to the network any more: stop everything and do not come back.
    Removed {
        /// The `node.removed` record.
        record: ProvenRecord,
    },
}

/// How a connection would be decided now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explained {
    /// The request that is answered.
    pub request: RequestId,
    /// The node that was asked about, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<NetmapNode>,
    /// Why it would be denied; nothing if it would be authorized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<DenialReason>,
    /// The rule that allows it, or that allows it but for a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The policy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyVersion>,
    /// The same for people: what allows it, or which rules came nearest and what they lack.
    pub explanation: String,
}

/// All that an agent runs on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// What it may reach.
    pub netmap: Netmap,
    /// Its live authorizations.
    pub authorizations: Vec<Authorized>,
    /// Where to learn its public address and to relay.
    pub relay: RelayAccess,
}

/// What a node is and may reach: names and services, but nobody's keys or addresses on the Internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Netmap {
    /// SHA-256 over the canonical JSON of the other fields, hex.
    pub hash: String,
    /// The node itself.
    pub node: NetmapNode,
    /// Name of the network: nodes are `<name>.<network>`.
    pub network_name: String,
    /// What it may reach, ordered by node.
    pub reachable: Vec<Reachable>,
    /// What it may reach behind other nodes, in part at least, in order, exit nodes apart: packets for these belong into the
    /// tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Prefix>,
    /// The exit nodes that it may choose one of, ordered by node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitNode>,
    /// What of the node's own offer is approved, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved: Vec<Prefix>,
}

/// A node that carries packets to the Internet for whoever chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitNode {
    /// Which.
    pub node: NetmapNode,
    /// Everything, of the families that it carries and that the policy lets this node send there, in part at least.
    pub routes: Vec<Prefix>,
}

/// A node in a netmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetmapNode {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its overlay addresses.
    pub addresses: Vec<IpAddr>,
}

/// A node that may be reached, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reachable {
    /// Whom.
    pub node: NetmapNode,
    /// On what.
    pub services: Vec<Service>,
}

/// A protocol and ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The protocol.
    pub protocol: Protocol,
    /// The destination ports.
    pub ports: PortRange,
}

/// The difference between two netmaps. An agent whose netmap has another hash asks anew by reconnecting.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetmapDelta {
    /// Hash of the netmap that it changes.
    pub from: String,
    /// Hash of the netmap that results.
    pub to: String,
    /// Nodes that are new or changed.
    pub upsert: Vec<Reachable>,
    /// Nodes that are out of reach now.
    pub remove: Vec<NodeId>,
}

/// An authorization with everything that is needed to check and use it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authorized {
    /// The request that is answered, at the end that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Which end the receiver is.
    pub side: Side,
    /// The `connection.authorized` record, with the key of its source.
    pub record: ProvenRecord,
    /// The other end.
    pub peer: Peer,
}

/// The other end of an authorization.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its `node.joined` record: identity key, addresses, first WireGuard key.
    pub join: ProvenRecord,
    /// Its newest `key.rotated` record, if it has rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<ProvenRecord>,
    /// Where it can be tried.
    pub candidates: Vec<Candidate>,
}

/// An address under which a node may be reached from outside the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Address and UDP port.
    pub address: SocketAddr,
    /// How it was found.
    pub kind: CandidateKind,
}

/// How a candidate was found (RFC 8445).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKind {
    /// On an interface.
    Host,
    /// Seen by a STUN server.
    ServerReflexive,
}

/// Where the relay and STUN servers are, and this node's key to the relay.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayAccess {
    /// UDP address of the relay, which also answers STUN.
    pub address: SocketAddr,
    /// Base64 of the 32-byte key for this node's relay hellos.
    pub key: String,
    /// Further STUN servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stun: Vec<SocketAddr>,
}

impl std::fmt::Debug for RelayAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayAccess({}, key)", self.address)
    }
}

/// How long an authorization lasts before it must be renewed.
pub const AUTHORIZATION_SECONDS: i64 = 600;

/// Whether a moment is late enough in an authorization's life to renew it: after three quarters.
pub fn is_due_for_renewal(now: Timestamp, expires_at: Timestamp) -> bool {
    expires_at.as_second() - now.as_second() <= AUTHORIZATION_SECONDS / 4
}
