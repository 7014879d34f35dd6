//! What a change gives and takes behind routers: the exact addresses, protocols and ports.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use writ_schema::NodeId;

use super::{Change, Terms};
use crate::address::AddressSet;
use crate::behind::prefixes;
use crate::compile::Compiled;
use crate::filter::FilterRule;
use crate::nodes::Node;
use crate::ranges::led_to;
use crate::service::PortRange;

/// Addresses, and the ports that are granted there.
type Area = (AddressSet, PortRange);

/// What is granted, by protocol and conditions.
type Granted = BTreeMap<Terms, Vec<Area>>;

/// What is gained and what is lost between a source and a router, whoever they are.
type Outcome = (Vec<(Terms, Area)>, Vec<(Terms, Area)>);

/// Which rules name a source by its address of either family. Sources that the same rules name are granted the same.
type Named = Vec<[bool; 2]>;

/// What is gained and what is lost.
pub(super) fn compare(old: &Compiled, new: &Compiled) -> (Vec<Change>, Vec<Change>) {
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    let routers: BTreeSet<&NodeId> =
        old.nodes.routers().chain(new.nodes.routers()).map(|router| &router.id).collect();
    let sources: BTreeSet<&NodeId> = old.nodes().chain(new.nodes()).collect();
    for router in routers {
        let (before, after) = (Side::of(old, router), Side::of(new, router));
        let is_same = before.rules == after.rules
            && before.router.map(|it| &it.routes) == after.router.map(|it| &it.routes);
        let mut known: HashMap<(Named, Named), Outcome> = HashMap::new();
        for source in sources.iter().filter(|source| **source != router) {
            let ends = (old.node(source), new.node(source));
            if is_same && ends.0.is_some() == ends.1.is_some() {
                continue;
            }
            let named = (before.named(ends.0), after.named(ends.1));
            let outcome = known.entry(named).or_insert_with_key(|(was, is)| {
                let (was, is) = (before.granted(was), after.granted(is));
                (minus(&is, &was), minus(&was, &is))
            });
            let change = |(terms, area): &(Terms, Area)| changes(source, router, terms, area);
            gained.extend(outcome.0.iter().flat_map(change));
            lost.extend(outcome.1.iter().flat_map(change));
        }
    }
    (gained, lost)
}

fn changes(
    source: &NodeId,
    router: &NodeId,
    (protocol, conditions): &Terms,
    (set, ports): &Area,
) -> Vec<Change> {
    let change = |route| Change {
        src: source.clone(),
        dst: router.clone(),
        route: Some(route),
        protocol: *protocol,
        ports: *ports,
        conditions: conditions.clone(),
    };
    prefixes(set).into_iter().map(change).collect()
}

/// A router before or after.
struct Side<'a> {
    router: Option<&'a Node>,
    rules: Vec<FilterRule>,
}

impl<'a> Side<'a> {
    fn of(compiled: &'a Compiled, router: &NodeId) -> Self {
        let router = compiled.node(router).filter(|router| !router.routes.is_empty());
        let rules = router.map(|router| compiled.filter(&router.id)).unwrap_or_default();
        Self { router, rules }
    }

    fn named(&self, source: Option<&Node>) -> Named {
        let is_named = |rule: &FilterRule, is_ipv4: bool| {
            let mut own = source.into_iter().flat_map(|source| &source.addresses);
            own.any(|own| own.is_ipv4() == is_ipv4 && rule.sources.contains(*own))
        };
        self.rules.iter().map(|rule| [true, false].map(|is_ipv4| is_named(rule, is_ipv4))).collect()
    }

    fn granted(&self, named: &Named) -> Granted {
        let mut granted = Granted::new();
        for (rule, [v4, v6]) in self.rules.iter().zip(named) {
            let routes = self.router.into_iter().flat_map(|router| &router.routes);
            let routes = routes.filter(|route| if route.addr().is_ipv4() { *v4 } else { *v6 });
            let led = routes.fold(AddressSet::default(), |led, route| led.union(&led_to(*route)));
            let set = rule.destinations.intersection(&led);
            if set.is_empty() {
                continue;
            }
            for protocol in &rule.protocols {
                let ports: &[PortRange] = if protocol.has_ports() { &rule.ports } else { &[PortRange::ALL] };
                let terms = (*protocol, rule.conditions.as_ref().map(ToString::to_string));
                granted.entry(terms).or_default().extend(ports.iter().map(|ports| (set.clone(), *ports)));
            }
        }
        granted
    }
}

/// What of one is not in the other.
fn minus(from: &Granted, taken: &Granted) -> Vec<(Terms, Area)> {
    let mut left = Vec::new();
    for (terms, areas) in from {
        let others = taken.get(terms).map_or(&[][..], Vec::as_slice);
        left.extend(without(areas, others).into_iter().map(|area| (terms.clone(), area)));
    }
    left
}

/// Port range by port range: between two borders of ranges the same addresses are granted on every port.
fn without(areas: &[Area], others: &[Area]) -> Vec<Area> {
    let borders: BTreeSet<u32> = areas
        .iter()
        .chain(others)
        .flat_map(|(_, ports)| [u32::from(ports.first), u32::from(ports.last) + 1])
        .collect();
    let on = |areas: &[Area], port: u16| {
        let there = areas.iter().filter(|(_, ports)| ports.contains(port));
        there.fold(AddressSet::default(), |all, (set, _)| all.union(set))
    };
    let mut left: Vec<Area> = Vec::new();
    for (first, next) in borders.iter().zip(borders.iter().skip(1)) {
        let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(next - 1)) else { continue };
        let set = on(areas, first).without(&on(others, first));
        match left.last_mut() {
            Some((known, ports)) if *known == set && u32::from(ports.last) + 1 == u32::from(first) => {
                ports.last = last
            }
            _ => left.push((set, PortRange { first, last })),
        }
    }
    left.retain(|(set, _)| !set.is_empty());
    left
}
