//! What a change gives and takes away, pair by pair.

mod behind;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use writ_schema::NodeId;

use crate::compile::Compiled;
use crate::conditions::Conditions;
use crate::decide::Service;
use crate::nodes::Node;
use crate::rules::Granted;
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

/// One pair of nodes, or a node and addresses behind another, a protocol and a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// The source.
    pub src: NodeId,
    /// The destination.
    pub dst: NodeId,
    /// The addresses behind the destination that are meant instead of its own; everything where that is the Internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<IpNet>,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports; all of them with a protocol that has none.
    pub ports: PortRange,
    /// What the rule asks for besides, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<String>,
}

/// What changes alike for every pair of nodes of two identities: of one user each, or with the same tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityChange {
    /// The first pair, source and destination: its nodes stand for the two identities.
    pub example: (NodeId, NodeId),
    /// Protocols and ports, with the conditions behind, such as `tcp 80, 443; icmp`.
    pub services: String,
    /// How many pairs of nodes.
    pub pairs: usize,
}

impl Difference {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }
}

/// What the second grants that the first does not, and the other way round. Nodes of one of them only count
/// too.
///
/// Nodes that stood and stand on the same lines form a class; the work follows the number of classes and the
/// size of what changed, not the number of pairs.
pub fn difference(old: &Compiled, new: &Compiled) -> Difference {
    let subjects = Subjects::of(old, new);
    let mut found = Difference::default();
    for (from, sources) in &subjects.classes {
        for (to, destinations) in &subjects.classes {
            // Most pairs of classes have nothing to do with the change, and are passed over before anything
            // is worked out.
            if !subjects.has_changed_hands && lines(old, from.0.zip(to.0)).eq(lines(new, from.1.zip(to.1))) {
                continue;
            }
            let change = ClassChange::between(old, new, from, to);
            for source in sources {
                if !change.apart.is_empty() {
                    for destination in destinations.iter().filter(|other| source.is_apart(other)) {
                        change.apart.record(source, destination, &mut found);
                    }
                }
                if change.knows_users {
                    for destination in subjects.of_same_user(source).filter(|other| other.class() == *to) {
                        let (was, is) = source.togetherness(destination);
                        let before = from.0.zip(to.0).map(|(from, to)| old.profile_services(from, to, was));
                        let after = from.1.zip(to.1).map(|(from, to)| new.profile_services(from, to, is));
                        let delta = Delta::between(
                            (old, &before.unwrap_or_default()),
                            (new, &after.unwrap_or_default()),
                        );
                        delta.record(source, destination, &mut found);
                    }
                } else if !change.apart.is_empty() {
                    for destination in subjects.of_same_user(source).filter(|other| other.class() == *to) {
                        change.apart.record(source, destination, &mut found);
                    }
                }
            }
        }
    }
    let (gained, lost) = behind::compare(old, new);
    found.gained.extend(gained);
    found.lost.extend(lost);
    found.gained.sort();
    found.lost.sort();
    for change in found.gained.iter().chain(&found.lost) {
        for id in [&change.src, &change.dst] {
            let named_by = if new.node(id).is_some() { new } else { old };
            found.labels.entry(id.clone()).or_insert_with(|| named_by.label(id));
        }
    }
    found
}

/// The profiles of a node before and after, where it was there.
type Class = (Option<usize>, Option<usize>);

/// A node before and after.
#[derive(Clone, Copy)]
struct Subject<'a> {
    id: &'a NodeId,
    old: Option<&'a Node>,
    new: Option<&'a Node>,
}

impl Subject<'_> {
    fn class(&self) -> Class {
        (self.old.map(|node| node.profile), self.new.map(|node| node.profile))
    }

    /// Whether the two belonged to one user before, and whether they do after.
    fn togetherness(&self, other: &Subject<'_>) -> (bool, bool) {
        let together =
            |a: Option<&Node>, b: Option<&Node>| a.zip(b).is_some_and(|(a, b)| a.is_of_same_user(b));
        (together(self.old, other.old), together(self.new, other.new))
    }

    fn is_apart(&self, other: &Subject<'_>) -> bool {
        self.id != other.id && self.togetherness(other) == (false, false)
    }
}

/// All nodes of both sides, by class and by user.
struct Subjects<'a> {
    classes: BTreeMap<Class, Vec<Subject<'a>>>,
    by_old_user: HashMap<usize, Vec<Subject<'a>>>,
    by_new_user: HashMap<usize, Vec<Subject<'a>>>,
    /// Whether a node of one user became a node of another.
    has_changed_hands: bool,
}

impl<'a> Subjects<'a> {
    fn of(old: &'a Compiled, new: &'a Compiled) -> Self {
        let ids: BTreeSet<&NodeId> = old.nodes().chain(new.nodes()).collect();
        let mut subjects = Self {
            classes: BTreeMap::new(),
            by_old_user: HashMap::new(),
            by_new_user: HashMap::new(),
            has_changed_hands: false,
        };
        for id in ids {
            let subject = Subject { id, old: old.node(id), new: new.node(id) };
            subjects.classes.entry(subject.class()).or_default().push(subject);
            let name = |compiled: &'a Compiled, node: &Node| {
                node.identity.user().map(|user| compiled.users.name(user))
            };
            if let (Some(before), Some(after)) = (subject.old, subject.new) {
                subjects.has_changed_hands |= name(old, before) != name(new, after);
            }
            let user = |node: Option<&Node>| node.and_then(|node| node.identity.user());
            if let Some(user) = user(subject.old) {
                subjects.by_old_user.entry(user).or_default().push(subject);
            }
            if let Some(user) = user(subject.new) {
                subjects.by_new_user.entry(user).or_default().push(subject);
            }
        }
        subjects
    }

    /// The other nodes that belonged, or belong, to the same user as this one; each once.
    fn of_same_user(&self, subject: &Subject<'a>) -> impl Iterator<Item = &Subject<'a>> {
        let old =
            subject.old.and_then(|node| node.identity.user()).and_then(|user| self.by_old_user.get(&user));
        let new =
            subject.new.and_then(|node| node.identity.user()).and_then(|user| self.by_new_user.get(&user));
        let id = subject.id;
        let mut seen = BTreeSet::new();
        let both = old.into_iter().flatten().chain(new.into_iter().flatten());
        both.filter(move |other| other.id != id && seen.insert(other.id))
    }
}

/// How what nodes of one class may reach of another changed.
struct ClassChange {
    /// Between nodes of different users.
    apart: Delta,
    /// Whether it is another matter between nodes of one user.
    knows_users: bool,
}

impl ClassChange {
    fn between(old: &Compiled, new: &Compiled, from: &Class, to: &Class) -> Self {
        let services = |compiled: &Compiled, pair: Option<(usize, usize)>, is_same_user: bool| {
            pair.map(|(from, to)| compiled.profile_services(from, to, is_same_user)).unwrap_or_default()
        };
        let (before, after) = (from.0.zip(to.0), from.1.zip(to.1));
        let (old_apart, new_apart) = (services(old, before, false), services(new, after, false));
        let knows_users = services(old, before, true) != old_apart || services(new, after, true) != new_apart;
        let apart = Delta::between((old, &old_apart), (new, &new_apart));
        Self { apart, knows_users }
    }
}

/// What the lines that lead from one profile to another grant, in order of the file.
fn lines(
    compiled: &Compiled,
    pair: Option<(usize, usize)>,
) -> impl Iterator<Item = (&[Granted], bool, Option<&Conditions>)> {
    let profiles = pair.and_then(|(from, to)| compiled.profile(from).zip(compiled.profile(to)));
    let leading = profiles.map(|(from, to)| compiled.leading(&from.source, &to.destination, true));
    leading
        .into_iter()
        .flatten()
        .map(|(_, line)| (line.services.as_slice(), line.is_own, line.conditions.as_deref()))
}

/// A protocol, and the conditions of the rules that grant it.
type Terms = (Protocol, Option<String>);

struct Delta {
    gained: Vec<(Terms, PortRange)>,
    lost: Vec<(Terms, PortRange)>,
}

impl Delta {
    fn between((old, before): (&Compiled, &[Service]), (new, after): (&Compiled, &[Service])) -> Self {
        let (before, after) = (by_terms(old, before), by_terms(new, after));
        Self { gained: minus(&after, &before), lost: minus(&before, &after) }
    }

    fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }

    fn record(&self, source: &Subject<'_>, destination: &Subject<'_>, found: &mut Difference) {
        let change = |((protocol, conditions), ports): &(Terms, PortRange)| Change {
            src: source.id.clone(),
            dst: destination.id.clone(),
            route: None,
            protocol: *protocol,
            ports: *ports,
            conditions: conditions.clone(),
        };
        found.gained.extend(self.gained.iter().map(change));
        found.lost.extend(self.lost.iter().map(change));
    }
}

fn by_terms(compiled: &Compiled, services: &[Service]) -> BTreeMap<Terms, Vec<PortRange>> {
    let mut ports: BTreeMap<Terms, Vec<PortRange>> = BTreeMap::new();
    for service in services {
        let conditions = compiled.policy.conditions(service.rule).map(ToString::to_string);
        ports.entry((service.protocol, conditions)).or_default().push(service.ports);
    }
    ports.into_iter().map(|(terms, ranges)| (terms, merged(ranges))).collect()
}

fn minus(
    from: &BTreeMap<Terms, Vec<PortRange>>,
    taken: &BTreeMap<Terms, Vec<PortRange>>,
) -> Vec<(Terms, PortRange)> {
    let others = |terms: &Terms| taken.get(terms).map_or(&[][..], Vec::as_slice);
    from.iter()
        .flat_map(|(terms, ranges)| {
            let left = ranges.iter().flat_map(|range| without(*range, others(terms)));
            left.map(|ports| (terms.clone(), ports))
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
            let lines = self.by_identity(changes);
            for line in lines.iter().take(PRINTED) {
                let (source, destination) = (self.label(&line.example.0), self.label(&line.example.1));
                let many =
                    if line.pairs > 1 { format!(" ({} pairs of nodes)", line.pairs) } else { String::new() };
                write!(f, "\n  {sign} {source} -> {destination}: {}{many}", line.services)?;
            }
            if lines.len() > PRINTED {
                write!(f, "\n  and {} more", lines.len() - PRINTED)?;
            }
        }
        Ok(())
    }
}

impl Difference {
    /// What is gained, grouped by identity, in order of the identities.
    pub fn gained_by_identity(&self) -> Vec<IdentityChange> {
        self.by_identity(&self.gained)
    }

    /// What is lost, grouped by identity, in order of the identities.
    pub fn lost_by_identity(&self) -> Vec<IdentityChange> {
        self.by_identity(&self.lost)
    }

    fn label(&self, id: &NodeId) -> &str {
        self.labels.get(id).map_or("unknown", String::as_str)
    }

    fn by_identity(&self, changes: &[Change]) -> Vec<IdentityChange> {
        let mut by_pair: BTreeMap<(&NodeId, &NodeId), Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_pair.entry((&change.src, &change.dst)).or_default().push(change);
        }
        let mut groups: BTreeMap<(&str, &str, String), IdentityChange> = BTreeMap::new();
        for ((src, dst), changes) in by_pair {
            let services = services_text(&changes);
            let group = groups.entry((self.label(src), self.label(dst), services.clone()));
            let example = (src.clone(), dst.clone());
            group.or_insert_with(|| IdentityChange { example, services, pairs: 0 }).pairs += 1;
        }
        groups.into_values().collect()
    }
}

/// Such as `tcp 80, 443; icmp`, with routes and conditions behind. Protocols with the same ports share them.
fn services_text(changes: &[&Change]) -> String {
    let mut ports = BTreeMap::<_, Vec<String>>::new();
    for change in changes {
        let terms = (change.route, change.conditions.as_deref(), change.protocol);
        ports.entry(terms).or_default().push(change.ports.to_string());
    }
    let mut shared: Vec<(Vec<Protocol>, String)> = Vec::new();
    for ((route, conditions, protocol), ranges) in ports {
        let route = route.map(|route| format!(" for {route}")).unwrap_or_default();
        let ports = if protocol.has_ports() { format!(" {}", ranges.join(", ")) } else { String::new() };
        let under = conditions.map(|conditions| format!(" if {conditions}")).unwrap_or_default();
        let text = format!("{ports}{route}{under}");
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
