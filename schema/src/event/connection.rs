//! Connections: what was asked, decided, withdrawn, carried out and reported.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Version, VersionUpTo, sealed_fields};
use crate::keys::Signature;
use crate::net::{PortRange, Prefix, Protocol};
use crate::seal::{Sealable, Sealed};
use crate::{AuthorizationId, ID_CHARS, NodeId, PolicyVersion, Seq, UserId};

/// Where a connection comes from. Sealed in every record: it says whom a person talked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The node.
    pub node: NodeId,
    /// Its owner, if that is a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// Identifiers have one length each, so this is the length of every source, whether a person owns the node or not.
impl Sealable for Source {
    const PAD_BYTES: usize = r#"{"node":"","user":""}"#.len() + 2 * ID_CHARS;
}

/// One node may reach another, or what lies behind it, on these ports until a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionAuthorized {
    /// Version of this kind: the second where a route is named.
    pub v: VersionUpTo<2>,
    /// Name of the permission.
    pub authorization: AuthorizationId,
    /// Who may.
    pub source: Sealed<Source>,
    /// Whom it may reach.
    pub destination: NodeId,
    /// The addresses behind the destination that are meant, and not the destination itself, which carries packets for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Prefix>,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which destination ports; `0` alone where the protocol has none.
    pub ports: PortRange,
    /// The rule that allows it, by its place in the file: `acls[0]`, `grants[2]`.
    pub rule: String,
    /// The policy that holds the rule.
    pub policy: PolicyVersion,
    /// How the source's owner was known at this moment.
    pub sign_in: SignIn,
    /// The permission that this one continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<AuthorizationId>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl ConnectionAuthorized {
    /// The version that can say where this leads.
    pub fn version(route: Option<Prefix>) -> VersionUpTo<2> {
        if route.is_some() { VersionUpTo::NEWEST } else { VersionUpTo::FIRST }
    }

    /// Whether the version is the one that can say where this leads.
    pub fn is_consistent(&self) -> bool {
        self.v == Self::version(self.route)
    }
}

/// How the owner of a node was known when a connection was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    /// By the enrolment key that the node joined with, and its identity key since.
    EnrolmentKey,
}

/// A connection was refused. Repeats within a window are one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionDenied {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who asked.
    pub source: Sealed<Source>,
    /// The address asked for.
    pub address: IpAddr,
    /// The node that has the address, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<NodeId>,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which port.
    pub port: u16,
    /// Why.
    pub reason: DenialReason,
    /// The rule that allows it but for a condition that is not met, by its place in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The policy that was asked; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyVersion>,
    /// How often since the last such record.
    pub count: u32,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenialReason {
    /// No policy is in force.
    NoPolicy,
    /// No rule of the policy allows it.
    NoRule,
    /// No node has this address.
    UnknownDestination,
    /// The destination's agent is not connected.
    DestinationOffline,
    /// The source has too many live authorizations.
    TooManyAuthorizations,
    /// The rule asks for a fresher sign-in.
    SignInTooOld,
    /// The rule asks for a sign-in with a second factor.
    MfaRequired,
    /// The rule asks for a posture that the source's device does not meet.
    PostureNotMet,
    /// The rule does not hold yet, or no longer.
    OutsideValidity,
}

/// A permission was withdrawn before its time. The record that brought it about is named as its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionRevoked {
    /// Version of this kind: the second for the reasons that came with routes.
    pub v: VersionUpTo<2>,
    /// Which.
    pub authorization: AuthorizationId,
    /// Why.
    pub reason: RevocationReason,
}

impl ConnectionRevoked {
    /// A withdrawal for a reason.
    pub fn new(authorization: AuthorizationId, reason: RevocationReason) -> Self {
        let v = match reason {
            RevocationReason::PolicyChanged
            | RevocationReason::UserDisabled
            | RevocationReason::NodeRemoved => VersionUpTo::FIRST,
            RevocationReason::RouteWithdrawn | RevocationReason::RouterReplaced => VersionUpTo::NEWEST,
        };
        Self { v, authorization, reason }
    }
}

/// Why a permission was withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// The policy no longer allows it.
    PolicyChanged,
    /// The owner of an end has left.
    UserDisabled,
    /// An end was removed.
    NodeRemoved,
    /// The destination no longer offers the route, or it is no longer approved.
    RouteWithdrawn,
    /// The destination is not connected any more, and another node carries packets for the route.
    RouterReplaced,
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The end that asked.
    Source,
    /// The end that was asked for.
    Destination,
}

/// What an agent has carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgedAction {
    /// The authorization was verified, and the peer admitted.
    Established,
    /// The peer or the permission is gone, and live flows with it.
    Withdrawn,
}

impl fmt::Display for AcknowledgedAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Established => "established",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// An agent says, signed by its identity key, that it has carried out a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionAcknowledged {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which authorization.
    pub authorization: AuthorizationId,
    /// The record that was carried out.
    pub record: Seq,
    /// At which end.
    pub side: Side,
    /// What was done.
    pub action: AcknowledgedAction,
    /// The identity key's signature over [`Acknowledgement`](crate::keys::Statement::Acknowledgement). Sealed: identity keys
    /// are in the log, so anybody could try whose signature it is.
    pub signature: Sealed<Signature>,
}

/// A connection ended, as one of its agents reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionClosed {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which authorization.
    pub authorization: AuthorizationId,
    /// Which agent says so.
    pub side: Side,
    /// Why it ended.
    pub reason: CloseReason,
    /// Bytes of IP packets that this end sent to the other.
    pub bytes_sent: u64,
    /// Bytes of IP packets that this end received.
    pub bytes_received: u64,
    /// The way packets went last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathKind>,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Nothing was sent for a while.
    Idle,
    /// It expired and was not renewed.
    Expired,
    /// It was revoked.
    Revoked,
    /// The agent stopped.
    AgentStopped,
}

/// How packets go between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// From one to the other.
    Direct,
    /// Over the relay.
    Relayed,
}

sealed_fields! {
    ConnectionAuthorized { source }
    ConnectionDenied { source }
    ConnectionRevoked {}
    ConnectionAcknowledged { signature }
    ConnectionClosed {}
}
