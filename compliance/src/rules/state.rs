//! Rules about the state that the records add up to: nodes, their keys, their owners.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use writ_schema::event::NodeOwner;
use writ_schema::{NodeId, Seq, UserId};

use crate::case::{Case, Point, Weight};
use crate::entry::{Entry, Fact};
use crate::wording::{Arg, Phrase, Sentence};

const DAY_SECONDS: f64 = 86_400.0;

/// A node that belongs to the network at the end of the period.
pub(super) struct Node<'a> {
    pub joined: Seq,
    pub owner: &'a NodeOwner,
    key_record: Seq,
    key_since: Timestamp,
}

/// The nodes at the end of the history.
pub(super) fn nodes<'a>(history: impl Iterator<Item = &'a Entry>) -> BTreeMap<&'a NodeId, Node<'a>> {
    let mut nodes = BTreeMap::new();
    for entry in history {
        match &entry.fact {
            Fact::NodeJoined { node, owner, .. } => {
                nodes.insert(
                    node,
                    Node { joined: entry.seq, owner, key_record: entry.seq, key_since: entry.time },
                );
            }
            Fact::NodeRemoved { node } => {
                nodes.remove(node);
            }
            Fact::KeyRotated { node } => {
                if let Some(node) = nodes.get_mut(node) {
                    (node.key_record, node.key_since) = (entry.seq, entry.time);
                }
            }
            _ => {}
        }
    }
    nodes
}

/// Whether the tunnel keys in use at the end are young enough.
pub fn key_age(case: &Case<'_>) -> Vec<Point> {
    let (limit, far) = (case.number("max_age_days"), case.number("contradicted_after_days"));
    let (mut young, mut old, mut too_old) = (Vec::new(), Vec::new(), Vec::new());
    for node in nodes(case.history()).into_values() {
        let days = case.end().duration_since(node.key_since).as_secs_f64() / DAY_SECONDS;
        match days {
            days if days <= limit as f64 => young.push(node.key_record),
            days if days <= far as f64 => old.push(node.key_record),
            _ => too_old.push(node.key_record),
        }
    }
    let ages = [
        (Weight::Contradicts, Phrase::KeysTooOld, too_old, far),
        (Weight::Concerns, Phrase::KeysOld, old, limit),
        (Weight::Supports, Phrase::KeysYoung, young, limit),
    ];
    ages.into_iter()
        .filter(|(_, _, records, _)| !records.is_empty())
        .map(|(weight, phrase, records, days)| {
            Point::new(weight, Sentence::count(phrase, records.len()).with("days", Arg::Count(days)), records)
        })
        .collect()
}

/// Whether every node belongs to a person who may have one, or to a named service.
pub fn access_register(case: &Case<'_>) -> Vec<Point> {
    let mut persons: BTreeMap<&UserId, (Seq, bool)> = BTreeMap::new();
    for entry in case.history() {
        match &entry.fact {
            Fact::UserProvisioned { user } => {
                persons.insert(user, (entry.seq, true));
            }
            Fact::UserDisabled { user } => {
                if let Some((_, active)) = persons.get_mut(user) {
                    *active = false;
                }
            }
            _ => {}
        }
    }
    let (mut owned, mut services, mut orphans) = (Vec::new(), Vec::new(), Vec::new());
    for node in nodes(case.history()).into_values() {
        match node.owner {
            NodeOwner::User(user) => match persons.get(user) {
                Some((provisioned, true)) => owned.push((node.joined, *provisioned)),
                _ => orphans.push(node.joined),
            },
            NodeOwner::Tags(_) => services.push(node.joined),
        }
    }
    if owned.is_empty() && services.is_empty() && orphans.is_empty() {
        let known: Vec<Seq> = persons.into_values().map(|(seq, _)| seq).collect();
        return match known.is_empty() {
            true => Vec::new(),
            false => vec![Point::new(
                Weight::Concerns,
                Sentence::count(Phrase::RegisterEmptyHanded, known.len()),
                known,
            )],
        };
    }
    let holders: BTreeSet<Seq> = owned.iter().map(|(_, provisioned)| *provisioned).collect();
    let mut points = Vec::new();
    if !orphans.is_empty() {
        points.push(Point::new(
            Weight::Contradicts,
            Sentence::count(Phrase::RegisterOrphans, orphans.len()),
            orphans,
        ));
    }
    if !owned.is_empty() {
        let sentence = Sentence::count(Phrase::RegisterPersons, owned.len());
        let sentence = sentence.with("persons", Arg::Count(holders.len() as u64));
        points.push(Point::new(
            Weight::Supports,
            sentence,
            owned.into_iter().flat_map(|(node, user)| [node, user]),
        ));
    }
    if !services.is_empty() {
        let sentence = Sentence::count(Phrase::RegisterServices, services.len());
        points.push(Point::new(Weight::Supports, sentence, services));
    }
    points
}

/// Whether every change of the inventory can be traced to a node that joined.
pub fn inventory(case: &Case<'_>) -> Vec<Point> {
    let mut known: BTreeSet<&NodeId> = BTreeSet::new();
    let (mut traced, mut unknown) = (Vec::new(), Vec::new());
    for entry in case.history() {
        let present = match &entry.fact {
            Fact::NodeJoined { node, .. } => {
                known.insert(node);
                true
            }
            Fact::NodeRemoved { node } => known.remove(node),
            Fact::KeyRotated { node } => known.contains(node),
            _ => continue,
        };
        if present { traced.push(entry.seq) } else { unknown.push(entry.seq) }
    }
    let mut points = Vec::new();
    if !unknown.is_empty() {
        points.push(Point::new(
            Weight::Contradicts,
            Sentence::count(Phrase::InventoryUnknown, unknown.len()),
            unknown,
        ));
    }
    if !traced.is_empty() {
        let sentence = Sentence::count(Phrase::InventoryTraced, traced.len());
        let sentence = sentence.with("nodes", Arg::Count(known.len() as u64));
        points.push(Point::new(Weight::Supports, sentence, traced));
    }
    points
}
