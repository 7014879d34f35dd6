//! A policy compiled for an inventory.
//!
//! Rules are flattened to **lines**: one per rule and destination. For each node it is worked out once on which lines it
//! stands as a source and on which as a destination, apart for its IPv4 and IPv6 addresses, since a rule that
//! names one address grants nothing over the other family. Nodes that stand on the same lines share one **profile**: a decision is then
//! the intersection of two bit sets, and memory follows the number of distinct profiles, not of pairs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use writ_schema::{NodeId, UserId};

use crate::bits::{self, Bits};
use crate::error::PolicyError;
use crate::inventory::{Inventory, InventoryNode, Owner};
use crate::policy::Policy;
use crate::rules::{Granted, RuleRef};
use crate::selector::{Autogroup, SelectorKind};
use crate::side::Side;
use crate::users::{self, Users};

/// A policy with all its names resolved against an inventory.
#[derive(Debug)]
pub struct Compiled {
    pub(crate) policy: Arc<Policy>,
    pub(crate) lines: Vec<Line>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) profiles: Vec<Profile>,
    by_id: HashMap<NodeId, usize>,
    by_address: HashMap<IpAddr, usize>,
    pub(crate) users: Users,
    sources: Side,
    destinations: Side,
}

/// One rule towards one of its destinations.
#[derive(Debug)]
pub(crate) struct Line {
    /// Nothing if the file is silent about access, and so allows everything.
    pub(crate) rule: RuleRef,
    /// Position in [`Policy::rules`] and among the rule's targets; nothing for the line of a silent file.
    pub(crate) origin: Option<(usize, usize)>,
    pub(crate) services: Vec<Granted>,
    /// Holds only between nodes of one user.
    pub(crate) is_own: bool,
}

/// A node as it was compiled.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
    /// At most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) routes: Vec<IpNet>,
    pub(crate) profile: usize,
    /// Position in the inventory.
    pub(crate) rank: usize,
}

/// As whom a node acts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Identity {
    /// By position in [`Users`].
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

impl Compiled {
    /// Resolves the policy's names. A user that the inventory does not know is refused.
    pub fn new(policy: Arc<Policy>, inventory: &Inventory) -> Result<Self, PolicyError> {
        Self::with_admins(policy, inventory, &[])
    }

    /// Resolves the policy's names, with the users that `autogroup:admin` stands for.
    pub fn with_admins(
        policy: Arc<Policy>,
        inventory: &Inventory,
        admins: &[UserId],
    ) -> Result<Self, PolicyError> {
        let users = Users::new(inventory, admins);
        users::check_domains(&policy, &users)?;
        users::check_users(&policy, &users)?;
        let lines = flatten(&policy);
        let mut sources = Side::new(lines.len());
        let mut destinations = Side::new(lines.len());
        for (number, line) in lines.iter().enumerate() {
            let Some((rule, target)) = line.rule_target(&policy) else {
                sources.add_any(number);
                destinations.add_any(number);
                continue;
            };
            for selector in &rule.src {
                sources.add(selector, number, &policy.names, &users);
            }
            // What goes through chosen routers never ends at a node of the network.
            if rule.via.is_empty() {
                destinations.add(&target.dst, number, &policy.names, &users);
            }
        }
        let mut compiled = Self {
            policy,
            lines,
            nodes: Vec::with_capacity(inventory.nodes.len()),
            profiles: Vec::new(),
            by_id: HashMap::with_capacity(inventory.nodes.len()),
            by_address: HashMap::new(),
            users,
            sources,
            destinations,
        };
        compiled.place_nodes(inventory);
        Ok(compiled)
    }

    /// The policy that this was compiled from.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The nodes, in order of their identifiers.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().map(|node| &node.id)
    }

    /// The node that holds an address.
    pub fn node_at(&self, address: IpAddr) -> Option<&NodeId> {
        self.by_address.get(&address).and_then(|at| self.nodes.get(*at)).map(|node| &node.id)
    }

    pub(crate) fn node(&self, id: &NodeId) -> Option<&Node> {
        self.by_id.get(id).and_then(|at| self.nodes.get(*at))
    }

    pub(crate) fn profile(&self, index: usize) -> Option<&Profile> {
        self.profiles.get(index)
    }

    pub(crate) fn source_lines(&self, identity: &Identity, addresses: &[IpAddr]) -> Families {
        self.sources.lines(identity, addresses)
    }

    pub(crate) fn destination_lines(&self, identity: &Identity, addresses: &[IpAddr]) -> Families {
        self.destinations.lines(identity, addresses)
    }

    /// The lines that lead from one to the other, in order of the file.
    pub(crate) fn leading<'a>(
        &'a self,
        source: &'a Families,
        destination: &'a Families,
        is_same_user: bool,
    ) -> impl Iterator<Item = (usize, &'a Line)> {
        bits::common((&source.v4, &destination.v4), (&source.v6, &destination.v6))
            .filter_map(|number| self.lines.get(number).map(|line| (number, line)))
            .filter(move |(_, line)| is_same_user || !line.is_own)
    }

    fn place_nodes(&mut self, inventory: &Inventory) {
        let mut ordered: Vec<(usize, &InventoryNode)> = inventory.nodes.iter().enumerate().collect();
        ordered.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
        ordered.dedup_by(|(_, a), (_, b)| a.id == b.id);
        let mut known: HashMap<Profile, usize> = HashMap::new();
        for (rank, node) in ordered {
            let identity = self.identity(&node.owner);
            let first = |is_ipv4: bool| node.addresses.iter().copied().find(|a| a.is_ipv4() == is_ipv4);
            let addresses: Vec<IpAddr> = [first(true), first(false)].into_iter().flatten().collect();
            let profile = Profile {
                source: self.sources.lines(&identity, &addresses),
                destination: self.destinations.lines(&identity, &addresses),
            };
            let next = self.profiles.len();
            let profiles = &mut self.profiles;
            let profile = *known.entry(profile).or_insert_with_key(|profile| {
                profiles.push(profile.clone());
                next
            });
            self.by_id.insert(node.id.clone(), self.nodes.len());
            for address in &addresses {
                self.by_address.entry(*address).or_insert(self.nodes.len());
            }
            let routes = node.routes.iter().map(IpNet::trunc).collect();
            self.nodes.push(Node { id: node.id.clone(), identity, addresses, routes, profile, rank });
        }
    }

    fn identity(&self, owner: &Owner) -> Identity {
        match owner {
            Owner::User(user) => match self.users.find(user.as_str()) {
                Some(user) => Identity::User(user),
                // A node whose user is not listed acts as nobody: nothing is granted to it.
                None => Identity::Tags(Vec::new()),
            },
            Owner::Tags(tags) => {
                let mut tags = tags.clone();
                tags.sort();
                tags.dedup();
                Identity::Tags(tags)
            }
        }
    }
}

impl Line {
    pub(crate) fn rule_target<'p>(
        &self,
        policy: &'p Policy,
    ) -> Option<(&'p crate::rules::Rule, &'p crate::rules::Target)> {
        let (rule, target) = self.origin?;
        let rule = policy.rules.get(rule)?;
        Some((rule, rule.targets.get(target)?))
    }
}

fn flatten(policy: &Policy) -> Vec<Line> {
    if policy.allows_everything_by_silence() {
        return vec![Line {
            rule: RuleRef { section: crate::rules::Section::Acls, index: 0 },
            origin: None,
            services: vec![Granted { protocol: None, ports: vec![crate::service::PortRange::ALL] }],
            is_own: false,
        }];
    }
    let mut lines = Vec::new();
    for (at, rule) in policy.rules.iter().enumerate() {
        for (number, target) in rule.targets.iter().enumerate() {
            lines.push(Line {
                rule: rule.at,
                origin: Some((at, number)),
                services: target.services.clone(),
                is_own: target.dst.kind == SelectorKind::Autogroup(Autogroup::Own),
            });
        }
    }
    lines
}
