//! The nodes of a compiled policy and what they are found by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::bits::Bits;

/// A node as it was compiled.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    /// At most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) routes: Vec<IpNet>,
    pub(crate) profile: usize,
    /// Place in the order of arrival.
    pub(crate) rank: usize,
}

/// As whom a node acts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Identity {
    /// By position among the users.
    User(usize),
    /// Sorted, without repeats.
    Tags(Vec<String>),
    /// An address that belongs to no node; only tests ask about those.
    Address,
}

impl Identity {
    pub(crate) fn user(&self) -> Option<usize> {
        match self {
            Identity::User(user) => Some(*user),
            Identity::Tags(_) | Identity::Address => None,
        }
    }

    fn tags(&self) -> &[String] {
        match self {
            Identity::Tags(tags) => tags,
            Identity::User(_) | Identity::Address => &[],
        }
    }
}

impl Node {
    /// The prefixes behind the node that are not the whole Internet.
    pub(crate) fn subnet_routes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.routes.iter().copied().filter(|route| route.prefix_len() > 0)
    }

    /// Whether the node leads to the Internet.
    pub(crate) fn is_exit(&self) -> bool {
        self.routes.iter().any(|route| route.prefix_len() == 0)
    }

    pub(crate) fn is_of_same_user(&self, other: &Node) -> bool {
        self.identity.user().is_some() && self.identity.user() == other.identity.user()
    }
}

/// The nodes, each in a slot that it keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    slots: Vec<Option<Node>>,
    free: Vec<usize>,
    by_id: HashMap<NodeId, usize>,
    by_address: HashMap<IpAddr, BTreeSet<usize>>,
    by_user: HashMap<usize, BTreeSet<usize>>,
    by_tag: BTreeMap<String, BTreeSet<usize>>,
}

impl Nodes {
    /// Adds a node that is not among them.
    pub(crate) fn insert(&mut self, node: Node) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.by_id.insert(node.id.clone(), slot);
        for address in &node.addresses {
            self.by_address.entry(*address).or_default().insert(slot);
        }
        if let Some(user) = node.identity.user() {
            self.by_user.entry(user).or_default().insert(slot);
        }
        for tag in node.identity.tags() {
            self.by_tag.entry(tag.clone()).or_default().insert(slot);
        }
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(node),
            None => self.slots.push(Some(node)),
        }
    }

    pub(crate) fn remove(&mut self, id: &NodeId) -> Option<Node> {
        let slot = self.by_id.remove(id)?;
        let node = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        for address in &node.addresses {
            forget(&mut self.by_address, address, slot);
        }
        if let Some(user) = node.identity.user() {
            forget(&mut self.by_user, &user, slot);
        }
        for tag in node.identity.tags() {
            if let Some(slots) = self.by_tag.get_mut(tag) {
                slots.remove(&slot);
            }
        }
        Some(node)
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Node> {
        self.by_id.get(id).and_then(|slot| self.slots.get(*slot)).and_then(Option::as_ref)
    }

    /// The node that holds an address; of several, the first to arrive.
    pub(crate) fn at(&self, address: IpAddr) -> Option<&Node> {
        self.of(self.by_address.get(&address)).min_by_key(|node| node.rank)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().flatten()
    }

    pub(crate) fn of_user(&self, user: usize) -> impl Iterator<Item = &Node> {
        self.of(self.by_user.get(&user))
    }

    pub(crate) fn of_tag(&self, tag: &str) -> impl Iterator<Item = &Node> {
        self.of(self.by_tag.get(tag))
    }

    fn of<'a>(&'a self, slots: Option<&'a BTreeSet<usize>>) -> impl Iterator<Item = &'a Node> {
        slots.into_iter().flatten().filter_map(|slot| self.slots.get(*slot)).flatten()
    }
}

fn forget<K: Eq + std::hash::Hash>(index: &mut HashMap<K, BTreeSet<usize>>, key: &K, slot: usize) {
    if let Some(slots) = index.get_mut(key) {
        slots.remove(&slot);
        if slots.is_empty() {
            index.remove(key);
        }
    }
}

/// The lines that a node stands on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Profile {
    pub(crate) source: Families,
    pub(crate) destination: Families,
}

/// Line numbers by address family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Families {
    pub(crate) v4: Bits,
    pub(crate) v6: Bits,
}

impl Families {
    pub(crate) fn contains(&self, line: usize) -> bool {
        self.v4.contains(line) || self.v6.contains(line)
    }
}

/// The distinct profiles, each for as long as a node has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profiles {
    slots: Vec<(Profile, usize)>,
    free: Vec<usize>,
    known: HashMap<Profile, usize>,
}

impl Profiles {
    /// The number of a profile, for one more node.
    pub(crate) fn take(&mut self, profile: Profile) -> usize {
        if let Some(number) = self.known.get(&profile) {
            if let Some((_, count)) = self.slots.get_mut(*number) {
                *count += 1;
            }
            return *number;
        }
        let number = self.free.pop().unwrap_or(self.slots.len());
        self.known.insert(profile.clone(), number);
        match self.slots.get_mut(number) {
            Some(slot) => *slot = (profile, 1),
            None => self.slots.push((profile, 1)),
        }
        number
    }

    /// One node less has it.
    pub(crate) fn release(&mut self, number: usize) {
        if let Some((profile, count)) = self.slots.get_mut(number) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.known.remove(profile);
                self.free.push(number);
            }
        }
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Profile> {
        self.slots.get(number).map(|(profile, _)| profile)
    }
}
