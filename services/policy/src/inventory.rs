//! Whom a policy is compiled for: the users and nodes of a network at one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::{NodeId, UserId};

/// The users and nodes of a network.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Users. One who left stays listed, without nodes, for as long as the policy names them.
    pub users: Vec<InventoryUser>,
    /// Nodes. Of several routers for one prefix the first in this list carries it.
    pub nodes: Vec<InventoryNode>,
}

/// A user.
#[derive(Debug, Clone)]
pub struct InventoryUser {
    /// The pseudonym, by which a policy may name the user.
    pub id: UserId,
    /// The login name, by which a policy may name the user too.
    pub login: String,
}

/// The users that have roles in the network, for policies that name users by role.
pub type Roles = BTreeMap<Role, Vec<UserId>>;

/// A user's role, named in a policy as `autogroup:` and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `autogroup:owner`.
    Owner,
    /// `autogroup:admin`.
    Admin,
    /// `autogroup:it-admin`.
    ItAdmin,
    /// `autogroup:network-admin`.
    NetworkAdmin,
    /// `autogroup:billing-admin`.
    BillingAdmin,
    /// `autogroup:auditor`.
    Auditor,
}

/// A node.
#[derive(Debug, Clone)]
pub struct InventoryNode {
    /// The node.
    pub id: NodeId,
    /// To whom it belongs.
    pub owner: Owner,
    /// Its addresses in the network: one of each family, any further ones are not used.
    pub addresses: Vec<IpAddr>,
    /// The prefixes behind it that it may route for.
    pub routes: Vec<IpNet>,
}

impl InventoryNode {
    /// A node that routes for nobody.
    pub fn new(id: NodeId, owner: Owner, addresses: Vec<IpAddr>) -> Self {
        Self { id, owner, addresses, routes: Vec::new() }
    }
}

/// To whom a node belongs: to a user, or to nobody and acts under its tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A user's node.
    User(UserId),
    /// A tagged node. Tags are written in full, as `tag:web`.
    Tags(Vec<String>),
}
