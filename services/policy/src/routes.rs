//! Decisions about addresses that belong to no node and lie behind a router.

use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;
use writ_schema::net::Prefix;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::conditions::{Circumstances, Unmet};
use crate::decide::{Permit, Refused};
use crate::filter::FilterRule;
use crate::nodes::Node;
use crate::ranges::led_to;
use crate::rules::RuleRef;
use crate::service::Protocol;

/// A way to an address behind a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The node that carries the packets.
    pub router: NodeId,
    /// The addresses around the one asked for that the router carries packets for and the rule grants: the widest such prefix.
    pub prefix: IpNet,
    /// What allows it.
    pub permit: Permit,
}

impl Compiled {
    /// Whether any router carries packets for an address that is no node's own; of exit nodes only the one that is chosen.
    pub fn is_routed(&self, dst: IpAddr, exit: Option<&NodeId>) -> bool {
        self.routers(dst, exit).next().is_some()
    }

    /// The ways by which a node may reach an address behind routers: through those with the longest route first, then in
    /// the order of the routers' identifiers. With an exit node the question is about the Internet, and about that node's way
    /// there; without one exit nodes do not count. Conditions are taken as met, and rules without any go before those with
    /// some.
    pub fn ways(
        &self,
        src: &NodeId,
        (dst, exit): (IpAddr, Option<&NodeId>),
        protocol: Protocol,
        port: u16,
    ) -> Vec<Way> {
        let ways = self.ways_by(src, (dst, exit), protocol, port, |admitting| {
            permit_under_conditions(admitting, protocol, port)
        });
        ways.unwrap_or_default()
    }

    /// The same in these circumstances. Never empty; what keeps every rule that would allow it otherwise.
    pub fn ways_now(
        &self,
        src: &NodeId,
        destination: (IpAddr, Option<&NodeId>),
        protocol: Protocol,
        port: u16,
        known: &Circumstances,
    ) -> Result<Vec<Way>, Refused> {
        self.ways_by(src, destination, protocol, port, |admitting| {
            first_permit(admitting, protocol, port, known)
        })
    }

    /// The ways, each by the rule that is chosen of those that admit it at its router.
    fn ways_by(
        &self,
        src: &NodeId,
        (dst, exit): (IpAddr, Option<&NodeId>),
        protocol: Protocol,
        port: u16,
        permit: impl for<'r> Fn(&[&'r FilterRule]) -> Result<(&'r FilterRule, Permit), Refused>,
    ) -> Result<Vec<Way>, Refused> {
        let source = self.node(src).ok_or(Refused::NoRule)?;
        let mut routers: Vec<_> = self.routers(dst, exit).filter(|(_, to)| to.id != *src).collect();
        routers.sort_by_key(|(route, router)| (u8::MAX - route.prefix_len(), &router.id));
        let (mut ways, mut refused) = (Vec::new(), Refused::NoRule);
        for (route, router) in routers {
            let rules = self.filter(&router.id);
            let admits = |rule: &&FilterRule| rule.admits_any(&source.addresses, dst, protocol, port);
            match permit(&rules.iter().filter(admits).collect::<Vec<_>>()) {
                Ok((rule, permit)) => {
                    let prefix = widest(dst, route, &rule.destinations);
                    ways.push(Way { router: router.id.clone(), prefix, permit });
                }
                Err(Refused::NoRule) => {}
                Err(unmet) => refused = unmet,
            }
        }
        if ways.is_empty() { Err(refused) } else { Ok(ways) }
    }

    /// Whether a node may reach, in these circumstances, all that a route for a prefix leads to behind a router.
    pub fn permits_prefix_now(
        &self,
        (src, router): (&NodeId, &NodeId),
        prefix: IpNet,
        protocol: Protocol,
        port: u16,
        known: &Circumstances,
    ) -> Result<Permit, Refused> {
        let (source, to) = self.node(src).zip(self.node(router)).ok_or(Refused::NoRule)?;
        let whole = led_to(prefix);
        if !to.routes.iter().any(|route| led_to(*route).covers(&whole)) {
            return Err(Refused::NoRule);
        }
        let rules = self.filter(router);
        let example = Prefix::of(prefix).example();
        let admits = |rule: &&FilterRule| {
            rule.destinations.covers(&whole) && rule.admits_any(&source.addresses, example, protocol, port)
        };
        let admitting: Vec<_> = rules.iter().filter(admits).collect();
        first_permit(&admitting, protocol, port, known).map(|(_, permit)| permit)
    }

    /// The prefixes behind routers that a node may reach in part at least, whatever the circumstances, in order; the whole
    /// Internet is none of them.
    pub fn routes_for(&self, node: &NodeId) -> Vec<IpNet> {
        let mut routes: Vec<IpNet> = self
            .nodes
            .routers()
            .flat_map(|router| self.reached(node, router, router.subnet_routes().collect()))
            .collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }

    /// The exit nodes that a node may use, whatever the circumstances, in order of their identifiers; with everything, of
    /// the families that each carries for it.
    pub fn exits_for(&self, node: &NodeId) -> Vec<(NodeId, Vec<IpNet>)> {
        let exits = self.nodes.routers().filter(|router| router.is_exit()).map(|router| {
            let everything = router.routes.iter().copied().filter(|route| route.prefix_len() == 0);
            (router.id.clone(), self.reached(node, router, everything.collect()))
        });
        let mut exits: Vec<_> = exits.filter(|(_, routes)| !routes.is_empty()).collect();
        exits.sort_unstable();
        exits
    }

    /// Those of a router's routes that a node may use in part at least.
    fn reached(&self, node: &NodeId, router: &Node, routes: Vec<IpNet>) -> Vec<IpNet> {
        let Some(viewer) = self.node(node).filter(|_| router.id != *node && !routes.is_empty()) else {
            return Vec::new();
        };
        let rules = self.filter(&router.id);
        let is_source = |rule: &FilterRule, is_ipv4: bool| {
            viewer.addresses.iter().any(|own| own.is_ipv4() == is_ipv4 && rule.sources.contains(*own))
        };
        let is_reached = |route: &IpNet| {
            let led_to = led_to(*route);
            let is_ipv4 = route.addr().is_ipv4();
            rules.iter().any(|rule| rule.destinations.intersects(&led_to) && is_source(rule, is_ipv4))
        };
        routes.into_iter().filter(is_reached).collect()
    }

    /// The routers that lead to an address, each with its longest route: the chosen exit node by its way to everything, or the
    /// others.
    fn routers(&self, dst: IpAddr, exit: Option<&NodeId>) -> impl Iterator<Item = (IpNet, &Node)> {
        let is_nodes = self.node_at(dst).is_some();
        let is_asked = move |router: &Node, route: &IpNet| match exit {
            Some(exit) => route.prefix_len() == 0 && router.id == *exit,
            None => route.prefix_len() > 0,
        };
        self.nodes.routers().filter(move |_| !is_nodes).filter_map(move |router| {
            let leading = router.routes.iter().copied();
            let leading = leading.filter(|it| is_asked(router, it) && Prefix::of(*it).leads_to(dst));
            Some((leading.max_by_key(IpNet::prefix_len)?, router))
        })
    }
}

impl FilterRule {
    fn admits_any(&self, sources: &[IpAddr], dst: IpAddr, protocol: Protocol, port: u16) -> bool {
        sources.iter().any(|source| self.admits(*source, dst, protocol, port))
    }
}

/// The first rule without conditions, or else the first.
fn permit_under_conditions<'r>(
    rules: &[&'r FilterRule],
    protocol: Protocol,
    port: u16,
) -> Result<(&'r FilterRule, Permit), Refused> {
    let plain = rules.iter().find(|rule| rule.conditions.is_none());
    let rule = plain.or(rules.first()).ok_or(Refused::NoRule)?;
    let ports = rule.range(protocol, port).ok_or(Refused::NoRule)?;
    Ok((*rule, Permit { rule: rule.rule, ports, until: None }))
}

/// The first rule whose conditions are met, or what keeps each of them.
fn first_permit<'r>(
    rules: &[&'r FilterRule],
    protocol: Protocol,
    port: u16,
    known: &Circumstances,
) -> Result<(&'r FilterRule, Permit), Refused> {
    let mut refused: Vec<(RuleRef, Vec<Unmet>)> = Vec::new();
    for rule in rules {
        let Some(ports) = rule.range(protocol, port) else { continue };
        let conditions = rule.conditions.as_deref();
        let unmet = conditions.map(|conditions| conditions.unmet(known)).unwrap_or_default();
        if unmet.is_empty() {
            let until = conditions.and_then(|conditions| conditions.holds_until(known));
            return Ok((*rule, Permit { rule: rule.rule, ports, until }));
        }
        if refused.last().is_none_or(|(last, _)| *last != rule.rule) {
            refused.push((rule.rule, unmet));
        }
    }
    Err(if refused.is_empty() { Refused::NoRule } else { Refused::Unmet(refused) })
}

/// The widest prefix around an address such that a route for it leads only where a route leads and a rule grants. The address
/// itself is granted.
fn widest(dst: IpAddr, route: IpNet, granted: &AddressSet) -> IpNet {
    let longest = IpNet::from(dst);
    let around = (route.prefix_len()..longest.prefix_len())
        .filter_map(|length| IpNet::new(dst, length).ok().map(|net| net.trunc()));
    let allowed = granted.intersection(&led_to(route));
    around.into_iter().find(|net| allowed.covers(&led_to(*net))).unwrap_or(longest)
}
