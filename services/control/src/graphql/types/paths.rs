//! Ways through the network over a period, and over several hops.

use async_graphql::SimpleObject;

use super::{AsOf, NodeRef, PolicyRef, Record};
use crate::graphql::scalars::{Time, UInt};

/// The ways between two ends during a period: what policies permitted, whether or not anybody went them.
#[derive(SimpleObject)]
pub struct Paths {
    /// The end of the period.
    pub as_of: AsOf,
    /// The ways, in order of when they opened. One that closed and opened again is there twice.
    pub paths: Vec<Path>,
    /// Up to when everything was looked at: the end of the period, unless the answer was cut.
    pub looked_until: Time,
    /// Whether the answer was cut because it is too long: ask about a shorter period, or about fewer nodes.
    pub truncated: bool,
}

/// A way from one node to another that was open for a time.
#[derive(SimpleObject)]
pub struct Path {
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
    /// What the rule asked for besides, connection by connection, in words.
    pub conditions: Option<String>,
    /// The rule that opened it, by its place in the policy.
    pub rule: String,
    /// That rule as it stood there, as plain JSON, people by their pseudonyms.
    pub rule_text: Option<String>,
    /// The version of the policy that opened it.
    pub policy: UInt,
    /// Since when it was open; the beginning of the period if it was open before.
    pub since: Time,
    /// The record that opened it; absent if it was open before the period.
    pub opened: Option<Record>,
    /// Until when; absent if it was open at the end of the period.
    pub until: Option<Time>,
    /// The record that closed it.
    pub closed: Option<Record>,
}

/// What can be reached from a node over several hops: what somebody who has taken it over could go on to.
#[derive(SimpleObject)]
pub struct BlastRadius {
    /// The moment asked about.
    pub as_of: AsOf,
    /// The node asked about.
    pub node: NodeRef,
    /// The policy of that moment.
    pub policy: Option<PolicyRef>,
    /// The nodes that can be reached, nearest first, each once.
    pub reached: Vec<Hop>,
    /// Whether the list was cut because it is too long.
    pub truncated: bool,
}

/// A node that can be reached, by the fewest hops.
#[derive(SimpleObject)]
pub struct Hop {
    /// How many hops away it is.
    pub hop: i32,
    /// The node.
    pub node: NodeRef,
    /// The node before it on the way.
    pub through: NodeRef,
    /// By which protocol.
    pub protocol: String,
    /// On which ports.
    pub ports: String,
    /// What the rule asks for besides, connection by connection, in words.
    pub conditions: Option<String>,
    /// The rule, by its place in the policy.
    pub rule: String,
    /// The rule as it stands there, as plain JSON, people by their pseudonyms.
    pub rule_text: Option<String>,
}
