//! A policy compiled for an inventory.
//!
//! Rules are flattened to **lines**: one per rule and destination. For each node it is worked out once on
//! which lines it stands as a source and on which as a destination, apart for its IPv4 and IPv6 addresses,
//! since a rule that names one address grants nothing over the other family. Nodes that stand on the same
//! lines share one **profile**: a decision is then the intersection of two bit sets, and memory follows the
//! number of distinct profiles, not of pairs.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use writ_schema::{NodeId, UserId};

use crate::address::AddressSet;
use crate::conditions::Conditions;
use crate::error::PolicyError;
use crate::inventory::{Inventory, InventoryNode, InventoryUser, Owner, Roles};
use crate::nodes::{Families, Identity, Node, Nodes, Profile, Profiles};
use crate::policy::Policy;
use crate::rules::{Granted, RuleRef};
use crate::selector::{Autogroup, SelectorKind};
use crate::side::Side;
use crate::users::{self, Users};

/// A policy with all its names resolved against an inventory.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub(crate) policy: Arc<Policy>,
    pub(crate) lines: Vec<Line>,
    pub(crate) nodes: Nodes,
    profiles: Profiles,
    pub(crate) users: Users,
    /// Rank of the next node to arrive.
    arrivals: usize,
    /// The sources of each rule, worked out when a filter first needs them.
    pub(crate) rule_sources: Vec<OnceLock<AddressSet>>,
    sources: Side,
    destinations: Side,
}

/// One rule towards one of its destinations.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Nothing if the file is silent about access, and so allows everything.
    pub(crate) rule: RuleRef,
    /// Position in [`Policy::rules`] and among the rule's targets; nothing for the line of a silent file.
    pub(crate) origin: Option<(usize, usize)>,
    pub(crate) services: Vec<Granted>,
    /// Holds only between nodes of one user.
    pub(crate) is_own: bool,
    /// What it asks for besides.
    pub(crate) conditions: Option<Arc<Conditions>>,
}

impl Compiled {
    /// Resolves the policy's names. A user that the inventory does not know is refused.
    pub fn new(policy: Arc<Policy>, inventory: &Inventory) -> Result<Self, PolicyError> {
        users::check_users(&policy, &Users::new(inventory, &Roles::new()))?;
        Self::with_roles(policy, inventory, &Roles::new())
    }

    /// Resolves the policy's names, with the users that autogroups of roles stand for. As to Tailscale, users that the
    /// inventory does not know are nobody.
    pub fn with_roles(
        policy: Arc<Policy>,
        inventory: &Inventory,
        roles: &Roles,
    ) -> Result<Self, PolicyError> {
        let users = Users::new(inventory, roles);
        let mut compiled = Self::with_users(policy, users)?;
        inventory.nodes.iter().for_each(|node| compiled.place(node));
        compiled.forget_sources();
        Ok(compiled)
    }

    /// Resolves the policy's names, for no nodes yet.
    fn with_users(policy: Arc<Policy>, users: Users) -> Result<Self, PolicyError> {
        let users = users.with_groups(&policy.names);
        users::check_domains(&policy, &users)?;
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
        Ok(Self {
            policy,
            lines,
            nodes: Nodes::default(),
            profiles: Profiles::default(),
            arrivals: 0,
            rule_sources: Vec::new(),
            users,
            sources,
            destinations,
        })
    }

    /// The policy that this was compiled from.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Adds a node, or puts it in the place of what was known of it, at the cost of that node alone. It comes
    /// last in the order of arrival, unless it was there before.
    pub fn insert_node(&mut self, node: &InventoryNode) {
        self.place(node);
        self.forget_sources();
    }

    /// Removes a node, at the cost of that node alone.
    pub fn remove_node(&mut self, node: &NodeId) {
        if let Some(gone) = self.nodes.remove(node) {
            self.profiles.release(gone.profile);
            self.forget_sources();
        }
    }

    /// Puts another policy in place of the one compiled. If its rules and hosts are the same, which is when groups, owners of
    /// tags or comments changed, this costs the nodes of the users whose groups changed; else it costs as much as
    /// compiling from nothing. A user that the inventory does not know is refused, and nothing is changed.
    pub fn change_policy(&mut self, policy: Arc<Policy>) -> Result<(), PolicyError> {
        users::check_users(&policy, &self.users)?;
        if !policy.has_rules_of(&self.policy) {
            let nodes = self.nodes.by_rank().map(|node| self.inventory_node(node)).collect::<Vec<_>>();
            let mut compiled = Self::with_users(policy, self.users.clone())?;
            nodes.iter().for_each(|node| compiled.place(node));
            compiled.forget_sources();
            *self = compiled;
            return Ok(());
        }
        let users = std::mem::take(&mut self.users);
        let (users, changed) = users.regrouped(&policy.names);
        (self.users, self.policy) = (users, policy);
        for user in changed {
            self.refresh_user(user);
        }
        self.forget_sources();
        Ok(())
    }

    /// Adds a user who has no nodes yet, at the cost of that user alone.
    pub fn insert_user(&mut self, user: &InventoryUser) {
        if let Some(new) = self.users.insert(user, &self.policy.names) {
            self.refresh_user(new);
        }
    }

    /// Works out anew on which lines a user stands, and the profiles of the user's nodes.
    fn refresh_user(&mut self, user: usize) {
        let mut as_source: Vec<usize> = Vec::new();
        let mut as_destination: Vec<usize> = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let Some((rule, target)) = line.rule_target(&self.policy) else { continue };
            if rule.src.iter().any(|selector| self.users.is_named(user, selector)) {
                as_source.push(number);
            }
            if rule.via.is_empty() && self.users.is_named(user, &target.dst) {
                as_destination.push(number);
            }
        }
        self.sources.set_user(user, as_source);
        self.destinations.set_user(user, as_destination);
        let nodes: Vec<InventoryNode> = self.nodes.of_user(user).map(|n| self.inventory_node(n)).collect();
        nodes.iter().for_each(|node| self.place(node));
    }

    fn inventory_node(&self, node: &Node) -> InventoryNode {
        let owner = match &node.identity {
            Identity::User(user) => Owner::User(self.users.id(*user)),
            Identity::Tags(tags) => Owner::Tags(tags.clone()),
            Identity::Address => Owner::Tags(Vec::new()),
        };
        let mut known = InventoryNode::new(node.id.clone(), owner, node.addresses.clone());
        known.routes = node.routes.clone();
        known
    }

    /// How many distinct identities the nodes have, as far as the rules tell them apart: memory follows it.
    pub fn profile_count(&self) -> usize {
        self.profiles.count()
    }

    /// The nodes, in order of their identifiers.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        let mut ids: Vec<&NodeId> = self.nodes.iter().map(|node| &node.id).collect();
        ids.sort();
        ids.into_iter()
    }

    /// The nodes that carry a tag, in order of their identifiers.
    pub fn nodes_tagged(&self, tag: &str) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self.nodes.of_tag(tag).map(|node| node.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The nodes of a user, in order of their identifiers.
    pub fn nodes_of(&self, user: &UserId) -> Vec<NodeId> {
        let user = self.users.find(user.as_str()).into_iter();
        let mut ids: Vec<NodeId> =
            user.flat_map(|user| self.nodes.of_user(user)).map(|node| node.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The node that holds an address.
    pub fn node_at(&self, address: IpAddr) -> Option<&NodeId> {
        self.nodes.at(address).map(|node| &node.id)
    }

    pub(crate) fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    pub(crate) fn profile(&self, number: usize) -> Option<&Profile> {
        self.profiles.get(number)
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
        source
            .leading(destination)
            .filter_map(|number| self.lines.get(number).map(|line| (number, line)))
            .filter(move |(_, line)| is_same_user || !line.is_own)
    }

    fn place(&mut self, node: &InventoryNode) {
        let identity = self.identity(&node.owner);
        let first = |is_ipv4: bool| node.addresses.iter().copied().find(|a| a.is_ipv4() == is_ipv4);
        let addresses: Vec<IpAddr> = [first(true), first(false)].into_iter().flatten().collect();
        let profile = self.profiles.take(Profile {
            source: self.sources.lines(&identity, &addresses),
            destination: self.destinations.lines(&identity, &addresses),
        });
        let before = self.nodes.remove(&node.id);
        let rank = before.as_ref().map_or(self.arrivals, |before| before.rank);
        if let Some(before) = before {
            self.profiles.release(before.profile);
        }
        self.arrivals += 1;
        let routes = node.routes.iter().map(IpNet::trunc).collect();
        self.nodes.insert(Node { id: node.id.clone(), identity, addresses, routes, profile, rank });
    }

    /// What was worked out from all nodes counts no more.
    fn forget_sources(&mut self) {
        self.rule_sources = self.policy.rules.iter().map(|_| OnceLock::new()).collect();
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
            conditions: None,
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
                conditions: rule.conditions.clone(),
            });
        }
    }
    lines
}
