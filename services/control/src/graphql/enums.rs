//! Enums of the schema crate in the API.

use async_graphql::Enum;
use writ_schema::event;

/// What an administrator may do. Each may do what the ones after it may.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::Role")]
pub enum Role {
    /// Everything, administrators included.
    Owner,
    /// Users, nodes, keys and policy.
    Admin,
    /// Nodes, keys and policy.
    NetworkAdmin,
    /// Reads everything, the persons behind pseudonyms included; changes nothing.
    Auditor,
    /// Reads the present state.
    Viewer,
}

/// Where a person stands.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::views::users::UserStatus")]
pub enum UserStatus {
    /// Can own nodes.
    Active,
    /// The news of leaving has arrived.
    Leaving,
    /// May do nothing any more.
    Disabled,
}

/// Why a node no longer belongs to the network.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::NodeRemoval")]
pub enum NodeRemoval {
    /// An administrator removed it.
    Removed,
    /// Its owner left.
    OwnerDisabled,
}

/// Why a session ended.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::SessionEnd")]
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

/// Why a connection was refused.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::DenialReason")]
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

/// Why a permission was withdrawn.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::RevocationReason")]
pub enum RevocationReason {
    /// The policy no longer allows it.
    PolicyChanged,
    /// The owner of an end has left.
    UserDisabled,
    /// An end was removed.
    NodeRemoved,
    /// The destination no longer offers the route, or it is no longer approved.
    RouteWithdrawn,
    /// The destination was not connected any more, and another node carries packets for the route.
    RouterReplaced,
}

/// Which end of a connection.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::Side")]
pub enum Side {
    /// The end that asked.
    Source,
    /// The end that was asked for.
    Destination,
}

/// What an agent has carried out.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::AcknowledgedAction")]
pub enum AcknowledgedAction {
    /// The authorization was verified, and the peer admitted.
    Established,
    /// The peer or the permission is gone, and live flows with it.
    Withdrawn,
}

/// Why a connection ended.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::CloseReason")]
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
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "event::PathKind")]
pub enum PathKind {
    /// From one to the other.
    Direct,
    /// Over the relay.
    Relayed,
}
