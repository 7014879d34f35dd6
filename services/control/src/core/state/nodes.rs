//! Nodes and their sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use writ_schema::event::{NodeOwner, NodeRemoval};
use writ_schema::keys::{IdentityKey, WireGuardKey};
use writ_schema::net::Prefix;
use writ_schema::protocol::NetmapNode;
use writ_schema::{EnrolmentKeyId, NodeId, Seq, UserId};

/// An endpoint. One that was removed stays known, so that its identity is never used again.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The node.
    pub id: NodeId,
    /// Its name; nothing once it was erased.
    pub name: Option<String>,
    /// To whom it belongs.
    pub owner: NodeOwner,
    /// Its identity key.
    pub identity_key: IdentityKey,
    /// Its WireGuard key.
    pub wireguard_key: WireGuardKey,
    /// Number of that key.
    pub generation: u64,
    /// Its IPv4 address.
    pub address_v4: Ipv4Addr,
    /// Its IPv6 address.
    pub address_v6: Ipv6Addr,
    /// The key it joined with.
    pub enrolment_key: EnrolmentKeyId,
    /// Its `node.joined` record.
    pub joined: Seq,
    /// Its newest `key.rotated` record.
    pub rotated: Option<Seq>,
    /// Its `node.removed` record and the reason.
    pub removed: Option<(Seq, NodeRemoval)>,
    /// Its session, while its agent is connected.
    pub session: Option<Session>,
    /// What it offers to carry packets for, in order.
    pub advertised: Vec<Prefix>,
    /// What it may carry packets for, in order.
    pub approved: Vec<Prefix>,
}

/// An agent's connection to the control plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The record that started it.
    pub started: Seq,
    /// Version of the agent, as it says.
    pub agent: String,
}

impl Node {
    /// The node as others see it. One whose name was erased goes by its identifier.
    pub fn described(&self) -> NetmapNode {
        NetmapNode {
            node: self.id.clone(),
            name: self.name.clone().unwrap_or_else(|| self.id.to_string()),
            addresses: self.addresses().to_vec(),
        }
    }

    /// Whether it was removed.
    pub fn is_removed(&self) -> bool {
        self.removed.is_some()
    }

    /// Its owner, if that is a person.
    pub fn user(&self) -> Option<&UserId> {
        match &self.owner {
            NodeOwner::User(user) => Some(user),
            NodeOwner::Tags(_) => None,
        }
    }

    /// What it carries packets for: what it offers and may.
    pub fn routes(&self) -> impl Iterator<Item = Prefix> {
        self.advertised.iter().copied().filter(|route| self.approved.contains(route))
    }

    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.address_v4.into(), self.address_v6.into()]
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::core) struct Nodes {
    by_id: BTreeMap<NodeId, Node>,
    live: BTreeSet<NodeId>,
    /// Names of live nodes, in lower case.
    by_name: BTreeMap<String, NodeId>,
    by_wireguard_key: BTreeMap<WireGuardKey, NodeId>,
}

impl Nodes {
    pub(super) fn live(&self) -> impl Iterator<Item = &Node> {
        self.live.iter().filter_map(|id| self.by_id.get(id))
    }

    pub(super) fn find(&self, id: &NodeId) -> Option<&Node> {
        self.by_id.get(id)
    }

    pub(in crate::core) fn by_name(&self, name: &str) -> Option<&NodeId> {
        self.by_name.get(&name.to_ascii_lowercase())
    }

    pub(in crate::core) fn by_wireguard_key(&self, key: &WireGuardKey) -> Option<&NodeId> {
        self.by_wireguard_key.get(key)
    }

    pub(in crate::core) fn insert(&mut self, node: Node) {
        if let Some(name) = &node.name {
            self.by_name.insert(name.to_ascii_lowercase(), node.id.clone());
        }
        self.by_wireguard_key.insert(node.wireguard_key, node.id.clone());
        self.live.insert(node.id.clone());
        self.by_id.insert(node.id.clone(), node);
    }

    pub(in crate::core) fn remove(&mut self, id: &NodeId, record: Seq, reason: NodeRemoval) {
        let Some(node) = self.by_id.get_mut(id) else { return };
        (node.removed, node.session) = (Some((record, reason)), None);
        self.live.remove(id);
        self.by_wireguard_key.remove(&node.wireguard_key);
        release(&mut self.by_name, node);
    }

    pub(in crate::core) fn rotate(&mut self, id: &NodeId, record: Seq, generation: u64, key: WireGuardKey) {
        let Some(node) = self.by_id.get_mut(id) else { return };
        self.by_wireguard_key.remove(&node.wireguard_key);
        self.by_wireguard_key.insert(key, id.clone());
        (node.wireguard_key, node.generation, node.rotated) = (key, generation, Some(record));
    }

    pub(in crate::core) fn set_session(&mut self, id: &NodeId, session: Option<Session>) {
        if let Some(node) = self.by_id.get_mut(id) {
            node.session = session;
        }
    }

    pub(in crate::core) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Node> {
        self.by_id.get_mut(id)
    }

    pub(in crate::core) fn erase_names(&mut self, is_of: impl Fn(&Node) -> bool) {
        for node in self.by_id.values_mut().filter(|node| is_of(node)) {
            release(&mut self.by_name, node);
            node.name = None;
        }
    }
}

fn release(by_name: &mut BTreeMap<String, NodeId>, node: &Node) {
    let Some(name) = node.name.as_ref().map(|name| name.to_ascii_lowercase()) else { return };
    if by_name.get(&name) == Some(&node.id) {
        by_name.remove(&name);
    }
}
