//! What a node's packet filter lets in.
//!
//! Worked out from addresses, rule by rule, and not from the profiles that decide: the two ways to the same
//! answer are held to each other by tests.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::conditions::Conditions;
use crate::nodes::Node;
use crate::ranges;
use crate::rules::{Granted, Rule, RuleRef, Section, Target};
use crate::selector::{Autogroup, Selector, SelectorKind};
use crate::service::{PortRange, Protocol};

/// One inbound rule of a packet filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterRule {
    /// The rule of the policy that it comes from.
    pub rule: RuleRef,
    /// From whom packets are let in.
    pub sources: AddressSet,
    /// To which addresses: the node's own, and those that it routes to. A prefix of the policy stands here
    /// whole.
    pub destinations: AddressSet,
    /// The protocols.
    pub protocols: Vec<Protocol>,
    /// The ports, for the protocols that have them: sorted, disjoint.
    pub ports: Vec<PortRange>,
    /// What the rule asks for besides, connection by connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Arc<Conditions>>,
}

impl FilterRule {
    /// The range of ports that the rule grants around this one; all of them with a protocol that has none.
    pub(crate) fn range(&self, protocol: Protocol, port: u16) -> Option<PortRange> {
        match protocol.has_ports() {
            true => self.ports.iter().copied().find(|range| range.contains(port)),
            false => Some(PortRange::ALL),
        }
    }

    /// Whether the rule lets a packet in.
    pub fn admits(&self, src: IpAddr, dst: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.protocols.contains(&protocol)
            && self.range(protocol, port).is_some()
            && src.is_ipv4() == dst.is_ipv4()
            && self.sources.contains(src)
            && self.destinations.contains(dst)
    }
}

impl Compiled {
    /// The inbound rules of a node, in order of the file. What none of them admits is to be dropped.
    pub fn filter(&self, node: &NodeId) -> Vec<FilterRule> {
        let Some(node) = self.node(node) else { return Vec::new() };
        if self.policy.allows_everything_by_silence() {
            return vec![self.open_door()];
        }
        let mut rules = Vec::new();
        for rule in &self.policy.rules {
            for target in rule.targets.iter().filter(|target| !target.services.is_empty()) {
                let destinations = self.inbound(rule, target, node);
                let sources = if destinations.is_empty() {
                    destinations.clone()
                } else {
                    self.sources(rule, target, node)
                };
                if sources.is_empty() {
                    continue;
                }
                rules.extend(target.services.iter().map(|granted| FilterRule {
                    rule: rule.at,
                    sources: sources.clone(),
                    destinations: destinations.clone(),
                    protocols: granted.protocols().to_vec(),
                    ports: granted.ports.clone(),
                    conditions: rule.conditions.clone(),
                }));
            }
        }
        rules
    }

    fn open_door(&self) -> FilterRule {
        let all = Granted { protocol: None, ports: vec![PortRange::ALL] };
        FilterRule {
            rule: RuleRef { section: Section::Acls, index: 0 },
            sources: self.everyone(),
            destinations: AddressSet::all(),
            protocols: all.protocols().to_vec(),
            ports: all.ports,
            conditions: None,
        }
    }

    /// What `*` means as a source: the network, and whatever is behind its subnet routers.
    fn everyone(&self) -> AddressSet {
        let subnets = self.nodes.routers().flat_map(Node::subnet_routes);
        let addresses = self.nodes.iter().flat_map(|node| node.addresses.iter().copied());
        ranges::network()
            .union(&AddressSet::from_prefixes(subnets))
            .union(&AddressSet::from_addresses(addresses))
    }

    /// The sources of a rule, as far as the target grants them anything at this node.
    pub(crate) fn sources(&self, rule: &Rule, target: &Target, node: &Node) -> AddressSet {
        if target.dst.kind == SelectorKind::Autogroup(Autogroup::Own) {
            let own = node.identity.user().into_iter().flat_map(|user| self.nodes.of_user(user));
            let named = own.filter(|other| rule.src.iter().any(|selector| self.names_node(selector, other)));
            return AddressSet::from_addresses(named.flat_map(|other| other.addresses.iter().copied()));
        }
        let resolve = || {
            let sets = rule.src.iter().map(|selector| self.source(selector));
            AddressSet::from_ranges(sets.flat_map(|set| set.ranges().collect::<Vec<_>>()))
        };
        match self.rule_sources.get(rule.position) {
            Some(known) => known.get_or_init(resolve).clone(),
            None => resolve(),
        }
    }

    pub(crate) fn source(&self, selector: &Selector) -> AddressSet {
        match &selector.kind {
            SelectorKind::Any => self.everyone(),
            SelectorKind::Autogroup(Autogroup::DangerAll) => AddressSet::all(),
            SelectorKind::Host(name) => self.policy.names.host(name),
            SelectorKind::Addresses(set) => set.clone(),
            _ => {
                let named = self.named(selector).into_iter();
                AddressSet::from_addresses(named.flat_map(|node| node.addresses.iter().copied()))
            }
        }
    }

    /// The destinations of a rule's target that this node receives packets for.
    pub(crate) fn inbound(&self, rule: &Rule, target: &Target, node: &Node) -> AddressSet {
        let is_via = !rule.via.is_empty();
        if is_via && !rule.via.iter().any(|tag| self.names_node(tag, node)) {
            return AddressSet::default();
        }
        let literal = match &target.dst.kind {
            SelectorKind::Autogroup(Autogroup::Internet) => {
                return if node.is_exit() { ranges::internet() } else { AddressSet::default() };
            }
            SelectorKind::Host(name) => self.policy.names.host(name),
            SelectorKind::Addresses(set) => set.clone(),
            SelectorKind::Any if !is_via => return AddressSet::all(),
            _ if !is_via && self.names_node(&target.dst, node) => {
                return AddressSet::from_addresses(node.addresses.iter().copied());
            }
            _ => return AddressSet::default(),
        };
        let is_own = !is_via && node.addresses.iter().any(|address| literal.contains(*address));
        let is_routed = literal.intersects(&AddressSet::from_prefixes(node.subnet_routes()));
        if is_own || is_routed { literal } else { AddressSet::default() }
    }
}
