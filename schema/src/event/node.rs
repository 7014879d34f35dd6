//! Nodes, their keys and their sessions.

use std::net::{Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NodeOwner, Source, Version, sealed_fields};
use crate::keys::{IdentityKey, Signature, WireGuardKey};
use crate::net::Prefix;
use crate::seal::{Sealable, Sealed};
use crate::{EnrolmentKeyId, NodeId, PolicyVersion};

/// A node belongs to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeJoined {
    /// Version of this kind.
    pub v: Version<1>,
    /// The node: named by its identity key.
    pub node: NodeId,
    /// Its identity key.
    pub identity_key: IdentityKey,
    /// Its first WireGuard key, of generation 0.
    pub wireguard_key: WireGuardKey,
    /// The identity key's signature over [`Rotation`](crate::keys::Statement::Rotation) of generation 0.
    pub key_signature: Signature,
    /// To whom it belongs.
    pub owner: NodeOwner,
    /// Its name, a DNS label. Sealed: people name machines after themselves.
    pub name: Sealed<String>,
    /// Its IPv4 address in the network.
    pub address_v4: Ipv4Addr,
    /// Its IPv6 address in the network.
    pub address_v6: Ipv6Addr,
    /// The key it joined with.
    pub enrolment_key: EnrolmentKeyId,
}

impl NodeJoined {
    /// Both addresses.
    pub fn addresses(&self) -> [std::net::IpAddr; 2] {
        [self.address_v4.into(), self.address_v6.into()]
    }
}

/// A node was not let in. Repeats within a window are one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeJoinRefused {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which node asked, by the key it showed.
    pub node: NodeId,
    /// The enrolment key, if it was one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_key: Option<EnrolmentKeyId>,
    /// Why.
    pub reason: JoinRefusal,
    /// How often since the last such record.
    pub count: u32,
}

/// Why a node was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JoinRefusal {
    /// No such enrolment key.
    UnknownKey,
    /// The enrolment key is used up.
    UsedKey,
    /// The enrolment key has expired.
    ExpiredKey,
    /// The enrolment key was revoked.
    RevokedKey,
    /// The owner of the enrolment key has left.
    OwnerDisabled,
    /// The signature is not by the identity key that was shown: somebody used another node's public key.
    BadProof,
    /// This identity key, or this WireGuard key, already belongs to a node.
    KeyInUse,
    /// The name is not a DNS label.
    BadName,
    /// Another node has this name.
    NameInUse,
    /// No address is left.
    NoAddress,
}

/// A node no longer belongs to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRemoved {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which.
    pub node: NodeId,
    /// Why.
    pub reason: NodeRemoval,
}

/// Why a node no longer belongs to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRemoval {
    /// An administrator removed it.
    Removed,
    /// Its owner left.
    OwnerDisabled,
}

/// A node offers to carry packets for what lies behind it. Takes the place of what it offered before; nothing is carried
/// that is not approved as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRoutesAdvertised {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which node.
    pub node: NodeId,
    /// All that it offers, in order and without repeats: at most [`MAX_ROUTES`](crate::protocol::MAX_ROUTES).
    pub routes: Vec<Prefix>,
}

/// What a node may carry packets for has changed. Takes the place of what was approved before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRoutesApproved {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which node.
    pub node: NodeId,
    /// All that is approved, offered at the moment or not, in order and without repeats.
    pub routes: Vec<Prefix>,
    /// The policy whose `autoApprovers` did it; absent where an administrator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyVersion>,
}

/// A node has a new WireGuard key, signed by its identity key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRotated {
    /// Version of this kind.
    pub v: Version<1>,
    /// Whose.
    pub node: NodeId,
    /// Number of the key: one more than the one before.
    pub generation: u64,
    /// The new key.
    pub wireguard_key: WireGuardKey,
    /// The identity key's signature over [`Rotation`](crate::keys::Statement::Rotation).
    pub signature: Signature,
}

/// A node's agent is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStarted {
    /// Version of this kind.
    pub v: Version<1>,
    /// Whose.
    pub node: NodeId,
    /// Version of the agent, as it says.
    pub agent: String,
}

/// A node's agent is no longer connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionTerminated {
    /// Version of this kind.
    pub v: Version<1>,
    /// Whose.
    pub node: NodeId,
    /// Why.
    pub reason: SessionEnd,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The agent went away in order.
    Closed,
    /// Nothing was heard of it.
    TimedOut,
    /// A newer session of the same node took its place.
    Replaced,
    /// The node was removed.
    NodeRemoved,
    /// It broke the protocol.
    ProtocolViolation,
    /// The control plane was stopped.
    ControlPlaneStopped,
}

/// An agent did not accept what the control plane sent it: a record, a proof or a checkpoint did not verify. Repeats
/// within a window are one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionFrameRejected {
    /// Version of this kind.
    pub v: Version<1>,
    /// Whose agent. Sealed: the record before it is often one of that node's connections.
    pub source: Sealed<Source>,
    /// What was rejected, as the agent has signed it.
    pub rejection: Sealed<FrameRejection>,
    /// How often since the last such record.
    pub count: u32,
}

/// What an agent did not accept, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameRejection {
    /// Number of the control plane's frame in that node's session.
    pub frame: u64,
    /// What did not verify: one line of at most [`MAX_REASON_CHARS`](crate::protocol::MAX_REASON_CHARS).
    pub reason: String,
    /// The identity key's signature over [`Rejection`](crate::keys::Statement::Rejection).
    pub signature: Signature,
}

/// Most reasons are shorter than this with what stands around them.
impl Sealable for FrameRejection {
    const PAD_BYTES: usize = 256;
}

sealed_fields! {
    NodeJoined { name }
    NodeJoinRefused {}
    NodeRemoved {}
    NodeRoutesAdvertised {}
    NodeRoutesApproved {}
    KeyRotated {}
    SessionStarted {}
    SessionTerminated {}
    SessionFrameRejected { source, rejection }
}
