//! Nodes, sessions, enrolment keys.

use async_graphql::{ID, SimpleObject};

use super::Record;
use crate::graphql::enums::{NodeRemoval, SessionEnd};
use crate::graphql::scalars::{Time, UInt};

/// To whom a node belongs: a person, or a service that its tags name.
#[derive(SimpleObject, Debug, Clone)]
pub struct Owner {
    /// The person's pseudonym.
    pub user: Option<ID>,
    /// The service's tags.
    pub tags: Vec<String>,
}

/// A node.
#[derive(SimpleObject)]
pub struct Node {
    /// The node: named by its identity key.
    pub node: ID,
    /// Its name. That of a person's machine is shown to those who run the network only.
    pub name: Option<String>,
    /// To whom it belongs.
    pub owner: Owner,
    /// Its addresses in the network.
    pub addresses: Vec<String>,
    /// Its Ed25519 identity key, base64.
    pub identity_key: String,
    /// Its WireGuard key, base64.
    pub wireguard_key: String,
    /// How often the WireGuard key was changed.
    pub key_generation: UInt,
    /// Since when the WireGuard key is in use.
    pub key_since: Time,
    /// The key it joined with.
    pub enrolment_key: ID,
    /// What it carries packets for, and what it offers to.
    pub routes: Vec<Route>,
    /// The session of its agent, if it was connected.
    pub session: Option<Session>,
    /// Why it was removed.
    pub removal: Option<NodeRemoval>,
    /// The record of its joining.
    pub record: Record,
    /// The record of its newest WireGuard key, if it was ever changed.
    pub rotated: Option<Record>,
    /// The record of its removal.
    pub removed: Option<Record>,
}

/// A prefix behind a node. Packets are carried for it if it is both offered and approved.
#[derive(SimpleObject, Debug, Clone)]
pub struct Route {
    /// The prefix.
    pub prefix: String,
    /// Whether the node offers to carry packets for it.
    pub advertised: bool,
    /// Whether the policy or an administrator has approved.
    pub approved: bool,
}

/// A node that an answer mentions.
#[derive(SimpleObject, Debug, Clone)]
pub struct NodeRef {
    /// The node.
    pub node: ID,
    /// Its name. That of a person's machine is shown to those who run the network only.
    pub name: Option<String>,
    /// To whom it belongs.
    pub owner: Option<Owner>,
    /// The record of its joining.
    pub record: Option<Record>,
}

/// A time during which an agent was connected.
#[derive(SimpleObject)]
pub struct Session {
    /// Whose.
    pub node: NodeRef,
    /// Version of the agent, as it says.
    pub agent: String,
    /// Why it ended.
    pub reason: Option<SessionEnd>,
    /// The record of its beginning.
    pub record: Record,
    /// The record of its end.
    pub ended: Option<Record>,
}

/// A key with which nodes join. Its secret was shown once.
#[derive(SimpleObject)]
pub struct EnrolmentKey {
    /// Its public name.
    pub enrolment_key: ID,
    /// Whose nodes it makes.
    pub owner: Owner,
    /// How many nodes may join with it.
    pub max_uses: u32,
    /// How many have.
    pub uses: u32,
    /// Until when.
    pub expires_at: Time,
    /// Whether a node could join with it at the moment asked about.
    pub usable: bool,
    /// Who made it.
    pub created_by: String,
    /// The record that made it.
    pub record: Record,
    /// The record of the last joining with it.
    pub last_use: Option<Record>,
    /// The record that revoked it.
    pub revoked: Option<Record>,
}
