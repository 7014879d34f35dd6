//! Ways through the network over time, and over more than one hop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipnet::IpNet;
use jiff::Timestamp;
use writ_policy::{Compiled, RuleRef};
use writ_schema::event::NodeOwner;
use writ_schema::net::{PortRange, Protocol};
use writ_schema::{NodeId, Seq, UserId};

use super::error::QueryError;
use super::lookup::Lookup;
use super::reach::{Force, Policies, inventory_node, inventory_user};
use super::rule_text::rule_text;
use super::types::{Hop, Path};
use crate::core::policy::record_ports;
use crate::views::changes::{self, Change, Changed};
use crate::views::{Moment, nodes};

/// One end of a way: the nodes that are meant at each moment.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Whoever carries the tag.
    Tag(String),
    /// Whatever belongs to the user.
    User(UserId),
    /// This node.
    Node(NodeId),
}

impl End {
    fn nodes(&self, compiled: &Compiled) -> Vec<NodeId> {
        match self {
            End::Tag(tag) => compiled.nodes_tagged(tag),
            End::User(user) => compiled.nodes_of(user),
            End::Node(node) => compiled.nodes().find(|known| *known == node).cloned().into_iter().collect(),
        }
    }
}

/// Which services are asked about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Only by this protocol.
    pub(super) protocol: Option<Protocol>,
    /// Only on this port.
    pub(super) port: Option<u16>,
}

impl Wanted {
    pub(super) fn takes(&self, protocol: Protocol, ports: PortRange) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.port.is_none_or(|port| !protocol.has_ports() || ports.contains(port))
    }

    /// What one node may reach of another and behind it, as far as it is asked about.
    fn services(&self, compiled: &Compiled, src: &NodeId, dst: &NodeId) -> Vec<(Terms, RuleRef)> {
        let behind = compiled.services_behind(src, dst).into_iter();
        let behind = behind.map(|reach| (Some(reach.route), reach.services));
        let all = std::iter::once((None, compiled.services(src, dst))).chain(behind);
        let mut found: Vec<(Terms, RuleRef)> = Vec::new();
        for (route, service) in
            all.flat_map(|(route, services)| services.into_iter().map(move |it| (route, it)))
        {
            let protocol = Protocol::of_number(service.protocol.number());
            let ports = record_ports(protocol, service.ports);
            let conditions = compiled.policy().conditions(service.rule).map(ToString::to_string);
            let terms = Terms { route, protocol, ports, conditions };
            // ICMP is two protocols to the engine and one to everybody else.
            if self.takes(protocol, ports) && !found.iter().any(|(known, _)| *known == terms) {
                found.push((terms, service.rule));
            }
        }
        found
    }
}

/// What is permitted between two nodes, whichever rule does it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Terms {
    route: Option<IpNet>,
    protocol: Protocol,
    ports: PortRange,
    conditions: Option<String>,
}

/// A way that is open.
#[derive(Debug, Clone)]
struct Open {
    since: Timestamp,
    opened: Option<Seq>,
    rule: RuleRef,
    rule_text: Option<String>,
    policy: u64,
}

/// Most changes of the network that one answer goes through.
const MAX_CHANGES: usize = 512;

/// Most pairs of nodes that one answer looks at, each time that something changed.
const MAX_PAIRS: usize = 250_000;

/// Most ways that one answer lists.
const MAX_PATHS: usize = 1_000;

/// Most ways that are open at once.
const MAX_OPEN: usize = 10_000;

/// What an answer about a period holds.
pub(super) struct Found {
    /// The ways, in order of when they opened.
    pub(super) paths: Vec<Path>,
    /// Up to when everything was looked at: the end of the period unless the answer was cut.
    pub(super) looked_until: Timestamp,
    /// Whether it was cut.
    pub(super) is_cut: bool,
}

/// Follows the ways between two ends through a period.
pub(super) fn over_time(
    lookup: &Lookup<'_>,
    cache: &Policies,
    (from, to): (&End, &End),
    wanted: Wanted,
    period: (Moment, Moment),
) -> Result<Found, QueryError> {
    let (changes, has_more) = changes::between(lookup.connection, &period.0, &period.1, MAX_CHANGES)?;
    let mut walk = Walk {
        ends: (from, to),
        wanted,
        force: None,
        open: BTreeMap::new(),
        paths: Vec::new(),
        pairs: 0,
        period_end: period.1,
    };
    let mut looked_until = period.0.time;
    let mut is_cut = has_more;
    walk.enter(lookup, cache, &period.0)?;
    walk.look_at_all(lookup, (period.0.time, None))?;
    for (position, change) in changes.iter().enumerate() {
        if walk.is_full() {
            is_cut = true;
            break;
        }
        // Records of one commit have one time, and nothing was reachable in between.
        let is_last_of_its_time = changes.get(position + 1).is_none_or(|next| next.time != change.time);
        walk.apply(lookup, cache, change, is_last_of_its_time)?;
        looked_until = change.time;
    }
    if !is_cut {
        looked_until = period.1.time;
    }
    walk.finish(lookup)?;
    walk.paths.sort_by_key(|path| path.since.0);
    Ok(Found { is_cut: is_cut || walk.is_full(), paths: walk.paths, looked_until })
}

type Pair = (NodeId, NodeId);

struct Walk<'a> {
    ends: (&'a End, &'a End),
    wanted: Wanted,
    force: Option<(Force, Compiled)>,
    open: BTreeMap<Pair, BTreeMap<Terms, Open>>,
    paths: Vec<Path>,
    pairs: usize,
    period_end: Moment,
}

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.pairs >= MAX_PAIRS || self.paths.len() >= MAX_PATHS || self.open.len() >= MAX_OPEN
    }

    /// Takes over the policy and the nodes of a moment.
    fn enter(&mut self, lookup: &Lookup<'_>, cache: &Policies, moment: &Moment) -> Result<(), QueryError> {
        let then = Lookup { moment: *moment, ..*lookup };
        self.force = cache.in_force(&then)?.map(|force| {
            let compiled = Compiled::clone(&force.compiled);
            (force, compiled)
        });
        Ok(())
    }

    fn apply(
        &mut self,
        lookup: &Lookup<'_>,
        cache: &Policies,
        change: &Change,
        looks: bool,
    ) -> Result<(), QueryError> {
        let after = Moment { size: change.record.0.saturating_add(1), time: change.time };
        let at = (change.time, Some(change.record));
        match &change.what {
            Changed::Policy => {
                self.enter(lookup, cache, &after)?;
                if looks { self.look_at_all(lookup, at) } else { Ok(()) }
            }
            Changed::Node(node) => {
                if let Some((_, compiled)) = &mut self.force {
                    match nodes::get(lookup.connection, &after, node)?.filter(|row| row.removed.is_none()) {
                        None => compiled.remove_node(node),
                        Some(row) => {
                            if let NodeOwner::User(user) = &row.owner {
                                compiled.insert_user(&inventory_user(user.clone()));
                            }
                            compiled.insert_node(&inventory_node(row));
                        }
                    }
                }
                if looks { self.look_at_all(lookup, at) } else { Ok(()) }
            }
        }
    }

    /// Compares what is open with what there is now, for every pair of the two ends.
    fn look_at_all(&mut self, lookup: &Lookup<'_>, at: (Timestamp, Option<Seq>)) -> Result<(), QueryError> {
        let mut now: BTreeMap<Pair, Vec<(Terms, RuleRef)>> = BTreeMap::new();
        if let Some((_, compiled)) = &self.force {
            let (sources, destinations) = (self.ends.0.nodes(compiled), self.ends.1.nodes(compiled));
            'pairs: for src in &sources {
                for dst in &destinations {
                    self.pairs += 1;
                    if self.pairs >= MAX_PAIRS || now.len() >= MAX_OPEN {
                        break 'pairs;
                    }
                    let services = self.wanted.services(compiled, src, dst);
                    if !services.is_empty() {
                        now.insert((src.clone(), dst.clone()), services);
                    }
                }
            }
        }
        if self.pairs >= MAX_PAIRS {
            // What was not looked at is neither open nor closed.
            return Ok(());
        }
        let known: Vec<(Pair, Terms)> = self
            .open
            .iter()
            .flat_map(|(pair, ways)| ways.keys().map(move |terms| (pair.clone(), terms.clone())))
            .collect();
        for (pair, terms) in known {
            let is_still = now.get(&pair).is_some_and(|ways| ways.iter().any(|(other, _)| *other == terms));
            if !is_still && let Some(way) = self.open.get_mut(&pair).and_then(|ways| ways.remove(&terms)) {
                self.close(lookup, &pair, &terms, &way, Some(at))?;
            }
        }
        self.open.retain(|_, ways| !ways.is_empty());
        let Some((force, _)) = &self.force else { return Ok(()) };
        for (pair, services) in now {
            let ways = self.open.entry(pair).or_default();
            for (terms, rule) in services {
                ways.entry(terms).or_insert_with(|| Open {
                    since: at.0,
                    opened: at.1,
                    rule,
                    rule_text: rule_text(&force.text, &rule.to_string()),
                    policy: force.row.version.0,
                });
            }
        }
        Ok(())
    }

    fn close(
        &mut self,
        lookup: &Lookup<'_>,
        (src, dst): &Pair,
        terms: &Terms,
        way: &Open,
        end: Option<(Timestamp, Option<Seq>)>,
    ) -> Result<(), QueryError> {
        if self.paths.len() >= MAX_PATHS {
            return Ok(());
        }
        // The ends are shown as they were when the way was last open.
        let size = match end.and_then(|(_, record)| record) {
            Some(record) => record.0,
            None => self.period_end.size,
        };
        let then = Lookup { moment: Moment { size, time: self.period_end.time }, ..*lookup };
        self.paths.push(Path {
            source: then.node_ref(src)?,
            destination: then.node_ref(dst)?,
            route: terms.route.map(|route| route.to_string()),
            protocol: terms.protocol.to_string(),
            ports: terms.ports.to_string(),
            conditions: terms.conditions.clone(),
            rule: way.rule.to_string(),
            rule_text: way.rule_text.clone(),
            policy: way.policy.into(),
            since: way.since.into(),
            opened: way.opened.map(|seq| lookup.record(seq)).transpose()?,
            until: end.map(|(time, _)| time.into()),
            closed: end.and_then(|(_, record)| record).map(|seq| lookup.record(seq)).transpose()?,
        });
        Ok(())
    }

    /// Lists what is still open.
    fn finish(&mut self, lookup: &Lookup<'_>) -> Result<(), QueryError> {
        for (pair, ways) in std::mem::take(&mut self.open) {
            for (terms, way) in ways {
                self.close(lookup, &pair, &terms, &way, None)?;
            }
        }
        Ok(())
    }
}

/// Most hops that are followed.
pub(super) const MAX_HOPS: u8 = 4;

/// Most nodes whose reach is followed on.
const MAX_EXPANDED: usize = 500;

/// What can be reached from a node over several hops, each node once, by the fewest hops. Also answers whether the list was
/// cut.
pub(super) fn over_hops(
    lookup: &Lookup<'_>,
    force: &Force,
    start: &NodeId,
    hops: u8,
    wanted: Wanted,
) -> Result<(Vec<Hop>, bool), QueryError> {
    let mut seen: BTreeSet<NodeId> = [start.clone()].into();
    let mut waiting: VecDeque<(NodeId, u8)> = [(start.clone(), 0)].into();
    let mut found: Vec<Hop> = Vec::new();
    let mut expanded = 0;
    while let Some((node, distance)) = waiting.pop_front() {
        if distance >= hops {
            continue;
        }
        expanded += 1;
        if expanded > MAX_EXPANDED {
            return Ok((found, true));
        }
        for reach in force.compiled.peers(&node) {
            if seen.contains(&reach.node) {
                continue;
            }
            let services = wanted.services(&force.compiled, &node, &reach.node);
            let itself = services.into_iter().find(|(terms, _)| terms.route.is_none());
            let Some((terms, rule)) = itself else { continue };
            if found.len() >= MAX_PATHS {
                return Ok((found, true));
            }
            seen.insert(reach.node.clone());
            waiting.push_back((reach.node.clone(), distance + 1));
            found.push(Hop {
                hop: i32::from(distance) + 1,
                node: lookup.node_ref(&reach.node)?,
                through: lookup.node_ref(&node)?,
                protocol: terms.protocol.to_string(),
                ports: terms.ports.to_string(),
                conditions: terms.conditions,
                rule_text: rule_text(&force.text, &rule.to_string()),
                rule: rule.to_string(),
            });
        }
    }
    Ok((found, false))
}
