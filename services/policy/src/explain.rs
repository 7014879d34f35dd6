//! Why a connection is allowed, or what is missing for it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use writ_schema::NodeId;

use crate::compile::{Compiled, Line};
use crate::conditions::Notes;
use crate::decide::Decision;
use crate::nodes::{Identity, Node};
use crate::ranges;
use crate::routes::Way;
use crate::rules::{Granted, Rule, RuleRef, Target};
use crate::selector::{Autogroup, Selector, SelectorKind};
use crate::service::{PortRange, Protocol};

/// Most rules that a denial names.
const NEAREST: usize = 3;

/// A rule that would have allowed a connection, were it not for what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleRef,
    /// What keeps it from allowing the connection. Never empty.
    pub lacks: Vec<Lack>,
}

/// What of a connection a rule does not cover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// The source is none of those named here.
    Source(Vec<String>),
    /// The destination is none of those named here.
    Destination(Vec<String>),
    /// It holds only between nodes of one user.
    SameUser,
    /// It holds for these protocols.
    Protocol(Vec<Protocol>),
    /// It holds for these ports.
    Port(Vec<PortRange>),
    /// It names source and destination, but by addresses of different families.
    AddressFamily,
    /// No node that the rule lets the source use carries packets for the destination's address.
    Route,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Source(named) => write!(f, "the source is not {}", alternatives(named)),
            Lack::Destination(named) => write!(f, "the destination is not {}", alternatives(named)),
            Lack::SameUser => f.write_str("both nodes must belong to one user"),
            Lack::Protocol(protocols) => write!(f, "it is for {} only", alternatives(protocols)),
            Lack::Port(ports) => write!(f, "it is for port {} only", alternatives(ports)),
            Lack::AddressFamily => f.write_str("it names the two ends by addresses of different families"),
            Lack::Route => f.write_str("no router carries packets for the address"),
        }
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule)?;
        for (index, lack) in self.lacks.iter().enumerate() {
            let and = if index > 0 { ", and " } else { "" };
            write!(f, "{and}{lack}")?;
        }
        Ok(())
    }
}

/// A decision with its reasons in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The source, as people name it.
    pub source: String,
    /// The destination, as people name it.
    pub destination: String,
    /// The protocol asked for.
    pub protocol: Protocol,
    /// The port asked for.
    pub port: u16,
    /// How the source came to be named by the rule that allows it.
    pub source_by: Option<String>,
    /// How the destination came to be named by the rule that allows it.
    pub destination_by: Option<String>,
    /// The router that carries the packets if the destination lies behind one, and the widest prefix around it that the rule
    /// grants there.
    pub through: Option<(NodeId, IpNet)>,
    /// What the rule asks for besides.
    pub conditions: Option<String>,
    /// What is written down about the rule.
    pub notes: Notes,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { source, destination, protocol, .. } = self;
        let service = if protocol.has_ports() {
            format!("{protocol} port {}", self.port)
        } else {
            protocol.to_string()
        };
        match &self.decision {
            Decision::Allowed { rule, ports } => {
                writeln!(f, "{source} may reach {destination} on {service}.")?;
                write!(f, "{rule} allows it")?;
                if let (Some(by), Some(to)) = (&self.source_by, &self.destination_by) {
                    write!(f, ": the source by {by}, the destination by {to}")?;
                }
                if let Some((router, route)) = &self.through {
                    write!(f, ", through {router} for {route}")?;
                }
                if protocol.has_ports() {
                    write!(f, ", ports {ports}")?;
                }
                f.write_str(".")?;
                if let Some(conditions) = &self.conditions {
                    write!(f, "\nIt asks for more: {conditions}.")?;
                }
                let Notes { owner, purpose, ticket } = &self.notes;
                for (name, note) in [("Owner", owner), ("Purpose", purpose), ("Ticket", ticket)] {
                    if let Some(note) = note {
                        write!(f, "\n{name}: {note}.")?;
                    }
                }
                Ok(())
            }
            Decision::Denied { nearest } => {
                write!(f, "{source} may not reach {destination} on {service}: no rule allows it.")?;
                if !nearest.is_empty() {
                    f.write_str("\nNearest:")?;
                }
                nearest.iter().try_for_each(|miss| write!(f, "\n  {miss}"))
            }
        }
    }
}

impl Compiled {
    /// Decides and says why.
    pub fn explain(&self, src: &NodeId, dst: &NodeId, protocol: Protocol, port: u16) -> Explanation {
        let decision = self.decide(src, dst, protocol, port);
        let (source_by, destination_by) = match (&decision, self.node(src), self.node(dst)) {
            (Decision::Allowed { rule, .. }, Some(from), Some(to)) => {
                self.named_by(*rule, (from, to), protocol, port)
            }
            _ => (None, None),
        };
        let destination = self.describe(dst);
        self.explanation((decision, source_by, destination_by), src, destination, (protocol, port))
    }

    /// Decides about an address behind a router, or on the Internet behind a chosen exit node, and says why.
    pub fn explain_address(
        &self,
        src: &NodeId,
        (dst, exit): (IpAddr, Option<&NodeId>),
        protocol: Protocol,
        port: u16,
    ) -> Explanation {
        if let Some(node) = self.node_at(dst) {
            return self.explain(src, node, protocol, port);
        }
        let ways = self.ways(src, (dst, exit), protocol, port);
        let Some(Way { router, prefix, permit }) = ways.into_iter().next() else {
            let nearest = self.nearest_to_address(src, dst, protocol, port);
            let decision = Decision::Denied { nearest };
            return self.explanation((decision, None, None), src, dst.to_string(), (protocol, port));
        };
        let rule = self.policy.rules.iter().find(|rule| rule.at == permit.rule);
        let names = |selector: &&Selector| self.node(src).is_some_and(|node| self.names_node(selector, node));
        let named = rule.and_then(|rule| rule.src.iter().find(names));
        let source_by = named.zip(self.node(src)).map(|(selector, node)| self.phrase(selector, node));
        let target = rule.and_then(|rule| rule.targets.iter().find(|target| self.covers(&target.dst, dst)));
        let destination_by = target.map(|target| match &target.dst.kind {
            SelectorKind::Host(name) => format!("host {name} ({})", self.policy.names.host(name)),
            _ => target.dst.text.clone(),
        });
        let decision = Decision::Allowed { rule: permit.rule, ports: permit.ports };
        let reasons = (decision, source_by, destination_by);
        let explanation = self.explanation(reasons, src, dst.to_string(), (protocol, port));
        Explanation { through: Some((router, prefix)), ..explanation }
    }

    fn explanation(
        &self,
        (decision, source_by, destination_by): (Decision, Option<String>, Option<String>),
        src: &NodeId,
        destination: String,
        (protocol, port): (Protocol, u16),
    ) -> Explanation {
        let rule = match &decision {
            Decision::Allowed { rule, .. } => Some(*rule),
            Decision::Denied { .. } => None,
        };
        Explanation {
            decision,
            source: self.describe(src),
            destination,
            protocol,
            port,
            source_by,
            destination_by,
            through: None,
            conditions: rule.and_then(|rule| self.policy.conditions(rule)).map(ToString::to_string),
            notes: rule.and_then(|rule| self.policy.notes(rule)).cloned().unwrap_or_default(),
        }
    }

    /// Whether a destination means an address that belongs to no node.
    fn covers(&self, dst: &Selector, address: IpAddr) -> bool {
        match &dst.kind {
            SelectorKind::Any => true,
            SelectorKind::Host(name) => self.policy.names.host(name).contains(address),
            SelectorKind::Addresses(set) => set.contains(address),
            SelectorKind::Autogroup(Autogroup::Internet) => ranges::internet().contains(address),
            _ => false,
        }
    }

    /// The rules that come nearest to letting a source reach an address behind a router.
    fn nearest_to_address(&self, src: &NodeId, dst: IpAddr, protocol: Protocol, port: u16) -> Vec<NearMiss> {
        let Some(from) = self.node(src) else { return Vec::new() };
        let mut misses: Vec<(usize, NearMiss)> = Vec::new();
        for rule in &self.policy.rules {
            let is_source = rule.src.iter().any(|selector| self.names_node(selector, from));
            let candidates = rule.targets.iter().filter_map(|target| {
                let is_destination = self.covers(&target.dst, dst);
                if !is_source && !is_destination {
                    return None;
                }
                let mut lacks = named_lacks(rule, target, is_source, is_destination);
                lacks.extend(service_lack(&target.services, protocol, port));
                if lacks.is_empty() {
                    lacks.push(Lack::Route);
                }
                Some((lacks.iter().map(weight).sum::<usize>(), NearMiss { rule: rule.at, lacks }))
            });
            misses.extend(candidates.min_by_key(|(weight, _)| *weight));
        }
        misses.sort_by_key(|(weight, miss)| (*weight, miss.rule));
        misses.into_iter().take(NEAREST).map(|(_, miss)| miss).collect()
    }

    fn describe(&self, id: &NodeId) -> String {
        format!("{id} ({})", self.label(id))
    }

    /// As whom a node acts: its user, or its tags.
    pub(crate) fn label(&self, id: &NodeId) -> String {
        match self.node(id).map(|node| &node.identity) {
            None => "unknown node".to_owned(),
            Some(Identity::User(user)) => self.users.name(*user).to_owned(),
            Some(Identity::Tags(tags)) if tags.is_empty() => "nobody".to_owned(),
            Some(Identity::Tags(tags)) => tags.join("+"),
            Some(Identity::Address) => "address".to_owned(),
        }
    }

    fn named_by(
        &self,
        rule: RuleRef,
        (from, to): (&Node, &Node),
        protocol: Protocol,
        port: u16,
    ) -> (Option<String>, Option<String>) {
        let (Some(source), Some(destination)) = (self.profile(from.profile), self.profile(to.profile)) else {
            return (None, None);
        };
        let mut lines = self.leading(&source.source, &destination.destination, from.is_of_same_user(to));
        let grants =
            |line: &Line| line.services.iter().any(|granted| granted.range(protocol, port).is_some());
        let line = lines.find(|(_, line)| line.rule == rule && grants(line));
        let Some((rule, target)) = line.and_then(|(_, line)| line.rule_target(&self.policy)) else {
            return (Some("a file that says nothing of access".to_owned()), Some("the same".to_owned()));
        };
        let src = rule.src.iter().find(|selector| self.names_node(selector, from));
        (src.map(|selector| self.phrase(selector, from)), Some(self.phrase(&target.dst, to)))
    }

    fn phrase(&self, selector: &Selector, node: &Node) -> String {
        match (&selector.kind, &node.identity) {
            (SelectorKind::Group(group), Identity::User(user)) => {
                format!("{group} with member {}", self.users.name(*user))
            }
            (SelectorKind::Host(name), _) => format!("host {name} ({})", self.policy.names.host(name)),
            (SelectorKind::Any, _) => "\"*\"".to_owned(),
            _ => selector.text.clone(),
        }
    }

    /// The nodes that a selector names, in no order.
    pub(crate) fn named(&self, selector: &Selector) -> Vec<&Node> {
        match &selector.kind {
            SelectorKind::User(name) => {
                self.users.find(name).into_iter().flat_map(|user| self.nodes.of_user(user)).collect()
            }
            SelectorKind::Group(group) => {
                self.users.members(group).flat_map(|user| self.nodes.of_user(user)).collect()
            }
            SelectorKind::Tag(tag) => self.nodes.of_tag(tag).collect(),
            _ => self.nodes.iter().filter(|node| self.names_node(selector, node)).collect(),
        }
    }

    /// Whether a selector names a node.
    pub(crate) fn names_node(&self, selector: &Selector, node: &Node) -> bool {
        match (&selector.kind, &node.identity) {
            (SelectorKind::Any, _) => true,
            (SelectorKind::User(name), Identity::User(user)) => self.users.find(name) == Some(*user),
            (SelectorKind::Domain(domain), Identity::User(user)) => self.users.is_of_domain(*user, domain),
            (SelectorKind::Group(group), Identity::User(user)) => self.users.is_member(*user, group),
            (SelectorKind::Tag(tag), Identity::Tags(tags)) => tags.contains(tag),
            (SelectorKind::Autogroup(Autogroup::Member | Autogroup::Own), Identity::User(_)) => true,
            (SelectorKind::Autogroup(Autogroup::Role(role)), Identity::User(user)) => {
                self.users.has_role(*user, *role)
            }
            (SelectorKind::Autogroup(Autogroup::Tagged), Identity::Tags(tags)) => !tags.is_empty(),
            (SelectorKind::Host(name), _) => {
                let prefix = self.policy.names.host(name);
                node.addresses.iter().any(|address| prefix.contains(*address))
            }
            (SelectorKind::Addresses(set), _) => node.addresses.iter().any(|address| set.contains(*address)),
            _ => false,
        }
    }
}

/// The rules that lack least, fewest lacks first; of each rule its nearest destination.
pub(crate) fn nearest(
    compiled: &Compiled,
    src: &NodeId,
    dst: &NodeId,
    protocol: Protocol,
    port: u16,
) -> Vec<NearMiss> {
    let (Some(from), Some(to)) = (compiled.node(src), compiled.node(dst)) else { return Vec::new() };
    if src == dst {
        return Vec::new();
    }
    let (Some(source), Some(destination)) = (compiled.profile(from.profile), compiled.profile(to.profile))
    else {
        return Vec::new();
    };
    let mut misses: Vec<(usize, NearMiss)> = Vec::new();
    for (number, line) in compiled.lines.iter().enumerate() {
        // A rule that names neither end is not near.
        if !source.source.contains(number) && !destination.destination.contains(number) {
            continue;
        }
        let lacks = lacks(compiled, (number, line), from, to, protocol, port);
        if lacks.is_empty() {
            continue;
        }
        let weight = lacks.iter().map(weight).sum();
        let miss = NearMiss { rule: line.rule, lacks };
        match misses.iter_mut().find(|(_, known)| known.rule == line.rule) {
            Some(known) if known.0 <= weight => {}
            Some(known) => *known = (weight, miss),
            None => misses.push((weight, miss)),
        }
    }
    misses.sort_by_key(|(weight, miss)| (*weight, miss.rule));
    misses.truncate(NEAREST);
    misses.into_iter().map(|(_, miss)| miss).collect()
}

/// How far a rule with this lack is from allowing: a wrong port is nearer than a wrong person.
fn weight(lack: &Lack) -> usize {
    match lack {
        Lack::Port(_) | Lack::Protocol(_) | Lack::AddressFamily | Lack::Route => 1,
        Lack::Source(_) | Lack::Destination(_) | Lack::SameUser => 2,
    }
}

fn lacks(
    compiled: &Compiled,
    (number, line): (usize, &Line),
    from: &Node,
    to: &Node,
    protocol: Protocol,
    port: u16,
) -> Vec<Lack> {
    let (Some(source), Some(destination)) = (compiled.profile(from.profile), compiled.profile(to.profile))
    else {
        return Vec::new();
    };
    let (source, destination) = (&source.source, &destination.destination);
    let Some((rule, target)) = line.rule_target(&compiled.policy) else { return Vec::new() };
    let mut lacks = Vec::new();
    lacks.extend(named_lacks(rule, target, source.contains(number), destination.contains(number)));
    if lacks.is_empty() && !compiled.leading(source, destination, true).any(|(leading, _)| leading == number)
    {
        lacks.push(Lack::AddressFamily);
    }
    if line.is_own && !from.is_of_same_user(to) {
        lacks.push(Lack::SameUser);
    }
    lacks.extend(service_lack(&line.services, protocol, port));
    lacks
}

fn named_lacks(rule: &Rule, target: &Target, is_source: bool, is_destination: bool) -> Vec<Lack> {
    let source = || Lack::Source(rule.src.iter().map(|selector| selector.text.clone()).collect());
    let destination = || Lack::Destination(vec![target.dst.text.clone()]);
    [(!is_source).then(source), (!is_destination).then(destination)].into_iter().flatten().collect()
}

/// What of a protocol and port a rule does not grant.
fn service_lack(services: &[Granted], protocol: Protocol, port: u16) -> Option<Lack> {
    let speaking: Vec<_> = services.iter().filter(|granted| granted.covers(protocol)).collect();
    if speaking.is_empty() {
        let mut protocols: Vec<Protocol> =
            services.iter().flat_map(|g| g.protocols().iter().copied()).collect();
        protocols.sort();
        protocols.dedup();
        return Some(Lack::Protocol(protocols));
    }
    let is_granted = speaking.iter().any(|granted| granted.range(protocol, port).is_some());
    let ports = || speaking.iter().flat_map(|granted| granted.ports.iter().copied()).collect();
    (!is_granted).then(|| Lack::Port(crate::service::merged(ports())))
}

/// Most names in one list; a rule can have thousands.
const LISTED: usize = 6;

fn alternatives<T: fmt::Display>(items: &[T]) -> String {
    let mut text = String::new();
    for (index, item) in items.iter().take(LISTED).enumerate() {
        let is_last = index + 1 == items.len();
        text.push_str(if index == 0 {
            ""
        } else if is_last {
            " or "
        } else {
            ", "
        });
        text.push_str(&item.to_string());
    }
    match items.len() {
        0 => "anyone (the list is empty)".to_owned(),
        more if more > LISTED => format!("{text} or {} more", more - LISTED),
        _ => text,
    }
}
