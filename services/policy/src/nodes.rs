//! The nodes of a compiled policy and what they are found by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::bits::{self, Bits};

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

/// The 128 bits of a node's identifier. Kept beside its place in the index, so that a decision follows no
/// pointers to compare texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u128);

impl Key {
    /// Reads the base32 of an identifier, which was checked when it came in: 26 characters of five bits, the
    /// last two of them zero.
    fn of(id: &NodeId) -> Self {
        let digits = id.as_str().as_bytes().get(NodeId::PREFIX.len()..).unwrap_or_default();
        let (high, low) = digits.split_at(digits.len() / 2);
        // Thirteen digits are 65 bits: the first of each half is taken apart, so that the rest fits a machine word.
        let half = |digits: &[u8]| {
            let (first, rest) = digits.split_first().unwrap_or((&b'a', &[]));
            let rest = rest.iter().fold(0_u64, |bits, byte| bits << 5 | Self::digit(*byte));
            u128::from(Self::digit(*first)) << 60 | u128::from(rest)
        };
        Self(half(high) << 63 | half(low) >> 2)
    }

    fn digit(byte: u8) -> u64 {
        let digit = if byte.is_ascii_lowercase() { byte - b'a' } else { byte.wrapping_sub(b'2') + 26 };
        u64::from(digit & 31)
    }
}

/// What a decision needs of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    slot: usize,
    pub(crate) profile: usize,
    pub(crate) user: Option<usize>,
}

/// The nodes, each in a slot that it keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    slots: Vec<Option<Node>>,
    free: Vec<usize>,
    /// The keys are hashes already; a decision looks two of them up.
    by_id: HashMap<Key, Place, foldhash::fast::RandomState>,
    by_address: HashMap<IpAddr, BTreeSet<usize>>,
    by_user: HashMap<usize, BTreeSet<usize>>,
    by_tag: BTreeMap<String, BTreeSet<usize>>,
    /// Those with routes: few, and every netmap asks for them.
    routers: BTreeSet<usize>,
}

impl Nodes {
    /// Adds a node that is not among them.
    pub(crate) fn insert(&mut self, node: Node) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let place = Place { slot, profile: node.profile, user: node.identity.user() };
        self.by_id.insert(Key::of(&node.id), place);
        for address in &node.addresses {
            self.by_address.entry(*address).or_default().insert(slot);
        }
        if let Some(user) = node.identity.user() {
            self.by_user.entry(user).or_default().insert(slot);
        }
        for tag in node.identity.tags() {
            self.by_tag.entry(tag.clone()).or_default().insert(slot);
        }
        if !node.routes.is_empty() {
            self.routers.insert(slot);
        }
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(node),
            None => self.slots.push(Some(node)),
        }
    }

    pub(crate) fn remove(&mut self, id: &NodeId) -> Option<Node> {
        let slot = self.by_id.remove(&Key::of(id))?.slot;
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
        self.routers.remove(&slot);
        Some(node)
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Node> {
        self.place(id).and_then(|place| self.slots.get(place.slot)).and_then(Option::as_ref)
    }

    /// What a decision needs of a node.
    pub(crate) fn place(&self, id: &NodeId) -> Option<Place> {
        self.by_id.get(&Key::of(id)).copied()
    }

    /// The node that holds an address; of several, the first to arrive.
    pub(crate) fn at(&self, address: IpAddr) -> Option<&Node> {
        self.of(self.by_address.get(&address)).min_by_key(|node| node.rank)
    }

    /// All of them, in order of arrival.
    pub(crate) fn by_rank(&self) -> impl Iterator<Item = &Node> {
        let mut nodes: Vec<&Node> = self.iter().collect();
        nodes.sort_by_key(|node| node.rank);
        nodes.into_iter()
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().flatten()
    }

    /// Those with routes, in no order.
    pub(crate) fn routers(&self) -> impl Iterator<Item = &Node> {
        self.of(Some(&self.routers))
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
    v4: Bits,
    v6: Bits,
    /// Both are the same, as for every node that no rule names by an address.
    is_uniform: bool,
}

impl Families {
    pub(crate) fn new(v4: Bits, v6: Bits) -> Self {
        let is_uniform = v4 == v6;
        Self { v4, v6, is_uniform }
    }

    /// The lines that lead from a source on these lines to a destination on those, rising.
    pub(crate) fn leading<'a>(&'a self, destination: &'a Families) -> impl Iterator<Item = usize> + 'a {
        let is_uniform = self.is_uniform && destination.is_uniform;
        let v6 = (!is_uniform).then_some((&self.v6, &destination.v6));
        bits::common((&self.v4, &destination.v4), v6)
    }

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

    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Profile> {
        self.slots.get(number).map(|(profile, _)| profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_identifiers_bits() {
        let some = [0, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210];
        for bits in (0..128).map(|bit| 1_u128 << bit).chain(some) {
            assert_eq!(Key::of(&NodeId::from_bytes(bits.to_be_bytes())), Key(bits), "{bits:x}");
        }
    }
}
