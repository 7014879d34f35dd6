//! Who could, who was allowed, who did.

use async_graphql::SimpleObject;

use super::{AsOf, Authorization, CloseReport, NodeRef, Record, SourceRef};
use crate::graphql::scalars::UInt;

/// Three levels of access, never mixed. What was done inside a connection is never visible to Writ.
#[derive(SimpleObject)]
pub struct Access {
    /// The moment asked about.
    pub as_of: AsOf,
    /// Up to which record reports of connections are considered: they come after the fact.
    pub known_by: AsOf,
    /// The node asked about.
    pub node: NodeRef,
    /// The policy of that moment.
    pub policy: Option<PolicyRef>,
    /// *Could reach*: what the policy of that moment permitted.
    pub could_reach: Vec<Reach>,
    /// *Was authorised*: the permissions that were in force at that moment.
    pub authorized: Vec<Authorization>,
    /// *Did talk*: what agents reported of these connections.
    pub talked: Vec<Talk>,
    /// Whether lists were cut because they are too long.
    pub truncated: bool,
    /// What this answer does not say.
    pub limits: Vec<String>,
}

/// The policy that was in force.
#[derive(SimpleObject)]
pub struct PolicyRef {
    /// Its number.
    pub version: UInt,
    /// Who proposed it.
    pub proposed_by: String,
    /// Who put it in force.
    pub activated_by: String,
    /// The record of the proposal.
    pub proposed: Record,
    /// The record that put it in force.
    pub record: Record,
}

/// A permission that a rule of the policy gave.
#[derive(SimpleObject)]
pub struct Reach {
    /// From.
    pub source: NodeRef,
    /// To.
    pub destination: NodeRef,
    /// The addresses behind the destination that are meant instead of its own: packets go through it. Everything is the
    /// Internet, whose addresses are public.
    pub route: Option<String>,
    /// By which protocol.
    pub protocol: String,
    /// On which ports.
    pub ports: String,
    /// The rule, by its place in the policy.
    pub rule: String,
    /// The rule as it stands there, as plain JSON, people by their pseudonyms.
    pub rule_text: Option<String>,
    /// What the rule asks for besides, connection by connection, in words.
    pub conditions: Option<String>,
    /// The version of the policy.
    pub policy: UInt,
    /// The record that put the policy in force.
    pub record: Record,
}

/// A report of a connection that had been permitted.
#[derive(SimpleObject)]
pub struct Talk {
    /// Who.
    pub source: Option<SourceRef>,
    /// Whom.
    pub destination: NodeRef,
    /// What one of the agents reported.
    pub report: CloseReport,
}
