//! What a change gives and takes away, pair by pair.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use writ_schema::NodeId;

use crate::compile::{Compiled, Node};
use crate::decide::Service;
use crate::peers::is_same_user;
use crate::service::{PortRange, Protocol, merged, without};

/// The exact difference between two compiled policies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Difference {
    /// What is granted now and was not.
    pub gained: Vec<Change>,
    /// What was granted and is not any more.
    pub lost: Vec<Change>,
    /// How people name the nodes, for reading.
    #[serde(skip)]
    labels: BTreeMap<NodeId, String>,
}

/// One pair of nodes, a protocol and a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// The source.
    pub src: NodeId,
    /// The destination.
    pub dst: NodeId,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports; all of them with a protocol that has none.
    pub ports: PortRange,
}

impl Difference {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }
}

/// What the second grants that the first does not, and the other way round. Nodes of one of them only count too.
pub fn difference(old: &Compiled, new: &Compiled) -> Difference {
    let mut found = Difference::default();
    let ids: BTreeSet<&NodeId> = old.nodes().chain(new.nodes()).collect();
    let sides: Vec<Pairing<'_>> = ids.into_iter().map(|id| (id, old.node(id), new.node(id))).collect();
    // Pairs of nodes whose profiles are the same before and after change in the same way.
    let mut known: HashMap<[Option<ProfilePair>; 2], Delta> = HashMap::new();
    for source in &sides {
        for destination in sides.iter().filter(|destination| destination.0 != source.0) {
            let before = profiles(source.1, destination.1);
            let after = profiles(source.2, destination.2);
            let delta = known.entry([before, after]).or_insert_with(|| {
                let services = |compiled: &Compiled, pair: Option<ProfilePair>| {
                    pair.map(|(from, to, same)| compiled.profile_services(from, to, same)).unwrap_or_default()
                };
                Delta::between(&services(old, before), &services(new, after))
            });
            let change = |&(protocol, ports): &(Protocol, PortRange)| Change {
                src: source.0.clone(),
                dst: destination.0.clone(),
                protocol,
                ports,
            };
            found.gained.extend(delta.gained.iter().map(change));
            found.lost.extend(delta.lost.iter().map(change));
        }
    }
    for change in found.gained.iter().chain(&found.lost) {
        for id in [&change.src, &change.dst] {
            let named_by = if new.node(id).is_some() { new } else { old };
            found.labels.entry(id.clone()).or_insert_with(|| named_by.label(id));
        }
    }
    found
}

/// The profiles of source and destination, and whether both belong to one user.
type ProfilePair = (usize, usize, bool);

type Pairing<'a> = (&'a NodeId, Option<&'a Node>, Option<&'a Node>);

fn profiles(source: Option<&Node>, destination: Option<&Node>) -> Option<ProfilePair> {
    let (source, destination) = (source?, destination?);
    Some((source.profile, destination.profile, is_same_user(source, destination)))
}

struct Delta {
    gained: Vec<(Protocol, PortRange)>,
    lost: Vec<(Protocol, PortRange)>,
}

impl Delta {
    fn between(old: &[Service], new: &[Service]) -> Self {
        let (old, new) = (by_protocol(old), by_protocol(new));
        Self { gained: minus(&new, &old), lost: minus(&old, &new) }
    }
}

fn by_protocol(services: &[Service]) -> BTreeMap<Protocol, Vec<PortRange>> {
    let mut ports: BTreeMap<Protocol, Vec<PortRange>> = BTreeMap::new();
    for service in services {
        ports.entry(service.protocol).or_default().push(service.ports);
    }
    ports.into_iter().map(|(protocol, ranges)| (protocol, merged(ranges))).collect()
}

fn minus(
    from: &BTreeMap<Protocol, Vec<PortRange>>,
    taken: &BTreeMap<Protocol, Vec<PortRange>>,
) -> Vec<(Protocol, PortRange)> {
    let others = |protocol: &Protocol| taken.get(protocol).map_or(&[][..], Vec::as_slice);
    from.iter()
        .flat_map(|(protocol, ranges)| {
            ranges.iter().flat_map(|range| without(*range, others(protocol))).map(|ports| (*protocol, ports))
        })
        .collect()
}

/// Most lines printed of each kind; the whole is in the fields.
const PRINTED: usize = 50;

impl fmt::Display for Difference {
    /// Grouped by identity: nodes of one user, or with the same tags, make one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("Nothing changes: every pair of nodes may reach what it could before.");
        }
        let mut is_first = true;
        for (sign, title, changes) in [('+', "Gained", &self.gained), ('-', "Lost", &self.lost)] {
            if changes.is_empty() {
                continue;
            }
            let newline = if std::mem::take(&mut is_first) { "" } else { "\n" };
            write!(f, "{newline}{title}:")?;
            let lines = self.grouped(changes);
            for (source, destination, services, pairs) in lines.iter().take(PRINTED) {
                let many = if *pairs > 1 { format!(" ({pairs} pairs of nodes)") } else { String::new() };
                write!(f, "\n  {sign} {source} -> {destination}: {services}{many}")?;
            }
            if lines.len() > PRINTED {
                write!(f, "\n  and {} more", lines.len() - PRINTED)?;
            }
        }
        Ok(())
    }
}

impl Difference {
    fn grouped(&self, changes: &[Change]) -> Vec<(&str, &str, String, usize)> {
        let mut by_pair: BTreeMap<(&NodeId, &NodeId), Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_pair.entry((&change.src, &change.dst)).or_default().push(change);
        }
        let label = |id: &NodeId| self.labels.get(id).map_or("unknown", String::as_str);
        let mut groups: BTreeMap<(&str, &str, String), usize> = BTreeMap::new();
        for ((src, dst), changes) in by_pair {
            *groups.entry((label(src), label(dst), services_text(&changes))).or_default() += 1;
        }
        groups
            .into_iter()
            .map(|((source, destination, services), pairs)| (source, destination, services, pairs))
            .collect()
    }
}

/// Such as `tcp 80, 443; icmp`. Protocols with the same ports share them.
fn services_text(changes: &[&Change]) -> String {
    let mut ports: BTreeMap<Protocol, Vec<String>> = BTreeMap::new();
    for change in changes {
        ports.entry(change.protocol).or_default().push(change.ports.to_string());
    }
    let mut shared: Vec<(Vec<Protocol>, String)> = Vec::new();
    for (protocol, ranges) in ports {
        let text = if protocol.has_ports() { format!(" {}", ranges.join(", ")) } else { String::new() };
        match shared.iter_mut().find(|(_, known)| *known == text) {
            Some((protocols, _)) => protocols.push(protocol),
            None => shared.push((vec![protocol], text)),
        }
    }
    let part = |(protocols, text): &(Vec<Protocol>, String)| {
        // ICMP for both families is one thing to people.
        let is_told = |p: &&Protocol| !(p.number() == 58 && protocols.contains(&Protocol::Icmp));
        let names: Vec<String> = protocols.iter().filter(is_told).map(Protocol::to_string).collect();
        format!("{}{text}", names.join("+"))
    };
    shared.iter().map(part).collect::<Vec<_>>().join("; ")
}
