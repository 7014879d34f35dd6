//! People and administrators.

use async_graphql::{ID, SimpleObject};

use super::Record;
use crate::graphql::enums::{Role, UserStatus};
use crate::graphql::scalars::Time;

/// A user, by their pseudonym. Who it is, `revealPersons` tells those who may know.
#[derive(SimpleObject)]
pub struct User {
    /// The pseudonym.
    pub user: ID,
    /// Where the person stands.
    pub status: UserStatus,
    /// When the source says that leaving was decided.
    pub decided_at: Option<Time>,
    /// The record that made the user.
    pub record: Record,
    /// The record of the news of leaving.
    pub leaver: Option<Record>,
    /// The record that disabled the user.
    pub disabled: Option<Record>,
    /// The record that made the person's data unreadable for ever.
    pub erased: Option<Record>,
}

/// The person behind a pseudonym.
#[derive(SimpleObject)]
pub struct Person {
    /// The pseudonym.
    pub user: ID,
    /// Sign-in name; absent once erased.
    pub login: Option<String>,
    /// Name for people; absent once erased.
    pub display_name: Option<String>,
    /// The person's nodes and their names.
    pub nodes: Vec<NamedNode>,
}

/// A node with the name that its owner gave it.
#[derive(SimpleObject)]
pub struct NamedNode {
    /// The node.
    pub node: ID,
    /// Its name; absent once erased.
    pub name: Option<String>,
}

/// A local administrator.
#[derive(SimpleObject)]
pub struct Admin {
    /// Who.
    pub admin: ID,
    /// What they may do, or might until it was revoked.
    pub role: Role,
    /// Name for people, for those who run the network.
    pub name: Option<String>,
    /// The record that gave the role.
    pub record: Record,
    /// The record that took it.
    pub revoked: Option<Record>,
}
