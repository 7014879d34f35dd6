//! What a node's packet filter lets in.

use std::net::IpAddr;

use serde::Serialize;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::{Compiled, Node};
use crate::rules::RuleRef;
use crate::service::{PortRange, Protocol};

/// One inbound rule of a packet filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterRule {
    /// The rule of the policy that it comes from.
    pub rule: RuleRef,
    /// From whom packets are let in.
    pub sources: AddressSet,
    /// To which of the node's own addresses.
    pub destinations: AddressSet,
    /// The protocols.
    pub protocols: Vec<Protocol>,
    /// The ports, for the protocols that have them: sorted, disjoint.
    pub ports: Vec<PortRange>,
}

impl FilterRule {
    /// Whether the rule lets a packet in.
    pub fn admits(&self, src: IpAddr, dst: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.protocols.contains(&protocol)
            && (!protocol.has_ports() || self.ports.iter().any(|range| range.contains(port)))
            && src.is_ipv4() == dst.is_ipv4()
            && self.sources.contains(src)
            && self.destinations.contains(dst)
    }
}

impl Compiled {
    /// The inbound rules of a node, in order of the file. What none of them admits is to be dropped.
    pub fn filter(&self, node: &NodeId) -> Vec<FilterRule> {
        let Some(node) = self.node(node) else { return Vec::new() };
        let Some(profile) = self.profile(node.profile) else { return Vec::new() };
        let mut rules = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            if !profile.destination.contains(number) {
                continue;
            }
            let sources = self.line_sources(number, line.is_own, node);
            if sources.is_empty() {
                continue;
            }
            let (v4, v6) = (profile.destination.v4.contains(number), profile.destination.v6.contains(number));
            let reached = node.addresses.iter().filter(|address| if address.is_ipv4() { v4 } else { v6 });
            let destinations = AddressSet::from_addresses(reached.copied());
            rules.extend(line.services.iter().map(|granted| FilterRule {
                rule: line.rule,
                sources: sources.clone(),
                destinations: destinations.clone(),
                protocols: granted.protocols().to_vec(),
                ports: granted.ports.clone(),
            }));
        }
        rules
    }

    /// The addresses of the nodes, other than this one, that stand on a line as its source.
    fn line_sources(&self, line: usize, is_own: bool, node: &Node) -> AddressSet {
        let others = self.nodes.iter().filter(|other| other.id != node.id);
        let matching = others.filter(|other| !is_own || crate::peers::is_same_user(other, node));
        AddressSet::from_addresses(matching.flat_map(|other| {
            let stands = self.profile(other.profile).map(|profile| &profile.source);
            let v4 = stands.is_some_and(|families| families.v4.contains(line));
            let v6 = stands.is_some_and(|families| families.v6.contains(line));
            other.addresses.iter().copied().filter(move |address| if address.is_ipv4() { v4 } else { v6 })
        }))
    }
}
