//! Who can reach whom.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use writ_schema::NodeId;

use crate::compile::Compiled;
use crate::conditions::Conditions;
use crate::decide::Service;
use crate::rules::RuleRef;
use crate::service::{PortRange, Protocol, merged, without};

/// A node at the other end, and what is granted towards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The other node.
    pub node: NodeId,
    /// What is granted: ranges, each with the first rule that grants it, disjoint but where rules ask for different
    /// conditions. Never empty.
    pub services: Vec<Service>,
}

/// Which way to look.
#[derive(Clone, Copy)]
enum Direction {
    From,
    To,
}

impl Compiled {
    /// What the node may reach, in order of the other nodes' identifiers.
    pub fn peers(&self, node: &NodeId) -> Vec<Reach> {
        self.reach(node, Direction::From)
    }

    /// Who may reach the node, in order of the other nodes' identifiers.
    pub fn who_can_reach(&self, node: &NodeId) -> Vec<Reach> {
        self.reach(node, Direction::To)
    }

    /// What one node may reach of another.
    pub fn services(&self, src: &NodeId, dst: &NodeId) -> Vec<Service> {
        match (self.node(src), self.node(dst)) {
            (Some(from), Some(to)) if src != dst => {
                self.profile_services(from.profile, to.profile, from.is_of_same_user(to))
            }
            _ => Vec::new(),
        }
    }

    fn reach(&self, node: &NodeId, direction: Direction) -> Vec<Reach> {
        let Some(node) = self.node(node) else { return Vec::new() };
        // Nodes of one profile are granted the same, so it is worked out once for each.
        let mut known: HashMap<(usize, bool), Vec<Service>> = HashMap::new();
        let mut found = Vec::new();
        for other in self.nodes.iter().filter(|other| other.id != node.id) {
            let is_same = node.is_of_same_user(other);
            let services = known.entry((other.profile, is_same)).or_insert_with(|| match direction {
                Direction::From => self.profile_services(node.profile, other.profile, is_same),
                Direction::To => self.profile_services(other.profile, node.profile, is_same),
            });
            if !services.is_empty() {
                found.push(Reach { node: other.id.clone(), services: services.clone() });
            }
        }
        found.sort_by(|a, b| a.node.cmp(&b.node));
        found
    }

    /// What is granted between nodes of two profiles, sorted by protocol and port.
    pub(crate) fn profile_services(
        &self,
        source: usize,
        destination: usize,
        is_same_user: bool,
    ) -> Vec<Service> {
        let (Some(source), Some(destination)) = (self.profile(source), self.profile(destination)) else {
            return Vec::new();
        };
        let lines = self.leading(&source.source, &destination.destination, is_same_user);
        let granting = lines.flat_map(|(_, line)| {
            line.services.iter().map(|services| Granting {
                rule: line.rule,
                protocols: services.protocols(),
                ports: &services.ports,
                conditions: line.conditions.as_deref(),
            })
        });
        granted(&granting.collect::<Vec<_>>())
    }
}

/// What a rule grants, and under which conditions.
#[derive(Clone, Copy)]
pub(crate) struct Granting<'r> {
    pub(crate) rule: RuleRef,
    pub(crate) protocols: &'r [Protocol],
    pub(crate) ports: &'r [PortRange],
    pub(crate) conditions: Option<&'r Conditions>,
}

/// What rules grant together, sorted by protocol and port. They come in order of the file.
pub(crate) fn granted(granting: &[Granting<'_>]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    // What is granted without conditions counts first: a rule with conditions adds nothing to it. Of rules with the
    // same conditions the first in the file counts.
    let mut free = Cover::default();
    for plain in granting.iter().filter(|rule| rule.conditions.is_none()) {
        free.grant(plain, None, &mut services);
    }
    let mut conditional: Vec<(&Conditions, Cover)> = Vec::new();
    for rule in granting {
        let Some(conditions) = rule.conditions else { continue };
        let known = conditional.iter().position(|(known, _)| *known == conditions);
        let at = known.unwrap_or_else(|| {
            conditional.push((conditions, Cover::default()));
            conditional.len() - 1
        });
        if let Some((_, cover)) = conditional.get_mut(at) {
            cover.grant(rule, Some(&free), &mut services);
        }
    }
    services.sort();
    services
}

/// What is granted already, by protocol.
#[derive(Default)]
struct Cover(HashMap<Protocol, Vec<PortRange>>);

impl Cover {
    /// Adds what a rule grants beyond this and beyond another.
    fn grant(&mut self, rule: &Granting<'_>, other: Option<&Cover>, services: &mut Vec<Service>) {
        for &protocol in rule.protocols {
            let ports: &[PortRange] = if protocol.has_ports() { rule.ports } else { &[PortRange::ALL] };
            let before = self.0.entry(protocol).or_default();
            let elsewhere = other.and_then(|other| other.0.get(&protocol));
            let known = merged([before.as_slice(), elsewhere.map_or(&[][..], Vec::as_slice)].concat());
            for range in ports {
                let fresh = without(*range, &known).into_iter();
                services.extend(fresh.map(|ports| Service { protocol, ports, rule: rule.rule }));
            }
            before.extend(ports);
            *before = merged(std::mem::take(before));
        }
    }
}
