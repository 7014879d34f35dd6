//! Authorizations, denials, withdrawals.

use async_graphql::{ID, SimpleObject};

use super::{NodeRef, Record};
use crate::graphql::enums::{
    AcknowledgedAction, CloseReason, DenialReason, PathKind, RevocationReason, Side,
};
use crate::graphql::scalars::{Time, UInt};

/// Where a connection comes from.
#[derive(SimpleObject, Debug, Clone)]
pub struct SourceRef {
    /// The node.
    pub node: NodeRef,
    /// Its owner at that time, if a person.
    pub user: Option<ID>,
}

/// The recorded permission for one node to reach another.
#[derive(SimpleObject, Debug, Clone)]
pub struct Authorization {
    /// Its name.
    pub authorization: ID,
    /// The first of the permissions that this one continues; itself if it continues none.
    pub chain: ID,
    /// The permission that this one continues.
    pub renews: Option<ID>,
    /// Who might; absent once erased or lapsed.
    pub source: Option<SourceRef>,
    /// Whom it might reach.
    pub destination: NodeRef,
    /// The addresses behind the destination that were meant instead of its own.
    pub route: Option<String>,
    /// By which protocol.
    pub protocol: String,
    /// On which destination ports.
    pub ports: String,
    /// The rule that allowed it, by its place in the policy.
    pub rule: String,
    /// The version of the policy that holds the rule.
    pub policy: UInt,
    /// When it was to end by itself.
    pub expires_at: Time,
    /// Whether it was in force at the moment asked about.
    pub live: bool,
    /// Why it was withdrawn.
    pub revocation: Option<RevocationReason>,
    /// What agents have carried out, signed by their identity keys.
    pub acknowledgements: Vec<Acknowledgement>,
    /// What agents reported at its end.
    pub reports: Vec<CloseReport>,
    /// The record.
    pub record: Record,
    /// The record that withdrew it.
    pub revoked: Option<Record>,
}

/// An agent's signed word that it has carried out a record.
#[derive(SimpleObject, Debug, Clone)]
pub struct Acknowledgement {
    /// At which end.
    pub side: Side,
    /// What was done.
    pub action: AcknowledgedAction,
    /// The record that was carried out.
    pub carried_out: Record,
    /// The record of the acknowledgement.
    pub record: Record,
}

/// An agent's report of an ended connection: that it did talk, not what was said.
#[derive(SimpleObject, Debug, Clone)]
pub struct CloseReport {
    /// Which authorization.
    pub authorization: ID,
    /// Which agent says so.
    pub side: Side,
    /// Why it ended.
    pub reason: CloseReason,
    /// Bytes of IP packets that this end sent to the other.
    pub bytes_sent: UInt,
    /// Bytes of IP packets that this end received.
    pub bytes_received: UInt,
    /// The way packets went last.
    pub path: Option<PathKind>,
    /// The record.
    pub record: Record,
}

/// A refused connection.
#[derive(SimpleObject)]
pub struct Denial {
    /// Who asked; absent once erased or lapsed.
    pub source: Option<SourceRef>,
    /// The address asked for.
    pub address: String,
    /// The node that had it.
    pub destination: Option<NodeRef>,
    /// By which protocol.
    pub protocol: String,
    /// On which port.
    pub port: u16,
    /// Why.
    pub reason: DenialReason,
    /// The version of the policy that was asked.
    pub policy: Option<UInt>,
    /// How often since the last such record.
    pub count: u32,
    /// The record.
    pub record: Record,
}

/// How long it took from a cause (a leaver, a removed node, a policy change) until every agent had carried it out.
#[derive(SimpleObject)]
pub struct Withdrawal {
    /// What brought it about.
    pub cause: Record,
    /// Authorizations that were revoked.
    pub revoked: UInt,
    /// Their ends: two each.
    pub ends: UInt,
    /// Ends that have acknowledged.
    pub ends_acknowledged: UInt,
    /// The last acknowledgement.
    pub last_acknowledgement: Option<Record>,
    /// From the cause to the last acknowledgement. Final only when all ends have acknowledged.
    pub took_milliseconds: Option<UInt>,
    /// Where an end is missing: when the last of its permissions ends by itself.
    pub open_until: Option<Time>,
    /// Each revoked authorization.
    pub revocations: Vec<Revocation>,
}

/// One permission that a cause took away, and which ends acknowledged.
#[derive(SimpleObject)]
pub struct Revocation {
    /// Which.
    pub authorization: ID,
    /// Why.
    pub reason: RevocationReason,
    /// When it would have ended by itself.
    pub expires_at: Time,
    /// The record.
    pub record: Record,
    /// The source's acknowledgement.
    pub source_acknowledgement: Option<Record>,
    /// The destination's acknowledgement.
    pub destination_acknowledgement: Option<Record>,
}
