//! Decisions about addresses that belong to no node and lie behind a router.

use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::conditions::{Circumstances, Unmet};
use crate::decide::{Permit, Refused};
use crate::filter::FilterRule;
use crate::nodes::Node;
use crate::ranges;
use crate::rules::RuleRef;
use crate::service::{PortRange, Protocol};

/// A permission to reach an address through a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The node that carries the packets.
    pub router: NodeId,
    /// The prefix that it carries them for.
    pub route: IpNet,
    /// The first rule that allows it.
    pub rule: RuleRef,
    /// The contiguous range of ports that the port is in.
    pub ports: PortRange,
}

/// A way to an address behind a router, at this moment.
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
    /// Whether any router carries packets for an address that is no node's own.
    pub fn is_routed(&self, dst: IpAddr) -> bool {
        self.routers(dst).next().is_some()
    }

    /// The ways by which a node may reach an address behind routers in these circumstances: the longest prefix first, then in
    /// the order of the routers' identifiers. Never empty; what keeps every rule that would allow it otherwise.
    pub fn ways_now(
        &self,
        src: &NodeId,
        dst: IpAddr,
        protocol: Protocol,
        port: u16,
        known: &Circumstances,
    ) -> Result<Vec<Way>, Refused> {
        let source = self.node(src).ok_or(Refused::NoRule)?;
        let mut routers: Vec<(IpNet, &Node)> = self.routers(dst).filter(|(_, to)| to.id != *src).collect();
        routers.sort_by_key(|(route, router)| (u8::MAX - route.prefix_len(), &router.id));
        let (mut ways, mut refused) = (Vec::new(), Refused::NoRule);
        for (route, router) in routers {
            let rules = self.filter(&router.id);
            let led_to = led_to(route);
            let admits = |rule: &&FilterRule| {
                led_to.contains(dst) && rule.admits_any(&source.addresses, dst, protocol, port)
            };
            match first_permit(rules.iter().filter(admits), protocol, port, known) {
                Ok((rule, permit)) => {
                    let prefix = widest(dst, route, &rule.destinations.intersection(&led_to));
                    ways.push(Way { router: router.id.clone(), prefix, permit });
                }
                Err(Refused::NoRule) => {}
                Err(unmet) => refused = unmet,
            }
        }
        if ways.is_empty() { Err(refused) } else { Ok(ways) }
    }

    /// Whether a node may reach, in these circumstances, all of a prefix behind a router.
    pub fn permits_prefix_now(
        &self,
        (src, router): (&NodeId, &NodeId),
        prefix: IpNet,
        protocol: Protocol,
        port: u16,
        known: &Circumstances,
    ) -> Result<Permit, Refused> {
        let (source, to) = self.node(src).zip(self.node(router)).ok_or(Refused::NoRule)?;
        let whole = AddressSet::from_prefixes([prefix]);
        if !to.routes.iter().any(|route| led_to(*route).covers(&whole)) {
            return Err(Refused::NoRule);
        }
        let rules = self.filter(router);
        let admits = |rule: &&FilterRule| {
            rule.destinations.covers(&whole)
                && rule.admits_any(&source.addresses, prefix.network(), protocol, port)
        };
        first_permit(rules.iter().filter(admits), protocol, port, known).map(|(_, permit)| permit)
    }

    /// The prefixes behind routers that a node may reach in part at least, whatever the circumstances, in order.
    pub fn routes_for(&self, node: &NodeId) -> Vec<IpNet> {
        let Some(viewer) = self.node(node) else { return Vec::new() };
        let routers = self.nodes.routers().filter(|router| router.id != *node);
        let mut routes: Vec<IpNet> = Vec::new();
        for router in routers {
            let rules = self.filter(&router.id);
            let reached = |route: &&IpNet| {
                let prefix = AddressSet::from_prefixes([**route]);
                rules.iter().any(|rule| {
                    rule.destinations.intersects(&prefix)
                        && viewer
                            .addresses
                            .iter()
                            .any(|own| own.is_ipv4() == route.addr().is_ipv4() && rule.sources.contains(*own))
                })
            };
            routes.extend(router.routes.iter().filter(reached));
        }
        routes.sort_unstable();
        routes.dedup();
        routes
    }

    /// The routers that cover an address, each with its longest route.
    fn routers(&self, dst: IpAddr) -> impl Iterator<Item = (IpNet, &Node)> {
        let is_nodes = self.node_at(dst).is_some();
        self.nodes.routers().filter(move |_| !is_nodes).filter_map(move |router| {
            let covering = router.routes.iter().copied().filter(|route| route.contains(&dst));
            Some((covering.max_by_key(IpNet::prefix_len)?, router))
        })
    }

    /// Whether a node may reach an address behind a router, and through which: the one with the longest
    /// prefix of those that the node may send to. An address of a node is no such address;
    /// [`Compiled::decide`] decides about nodes.
    pub fn permits_address(
        &self,
        src: &NodeId,
        dst: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Option<Routed> {
        let source = self.node(src)?;
        let mut ways: Vec<(IpNet, usize, &NodeId)> = Vec::new();
        for (_, router) in self.routers(dst).filter(|(_, router)| router.id != source.id) {
            let allowed = self.allowed_prefixes(src, &router.id);
            let longest =
                allowed.into_iter().filter(|prefix| prefix.contains(&dst)).max_by_key(IpNet::prefix_len);
            ways.extend(longest.map(|prefix| (prefix, router.rank, &router.id)));
        }
        let (route, _, router) =
            ways.into_iter().min_by_key(|(route, rank, _)| (u8::MAX - route.prefix_len(), *rank))?;
        let rules = self.filter(router);
        let admits = |address: &IpAddr| rules.iter().find(|rule| rule.admits(*address, dst, protocol, port));
        let rule = source.addresses.iter().find_map(admits)?;
        Some(Routed { router: router.clone(), route, rule: rule.rule, ports: rule.range(protocol, port)? })
    }
}

impl FilterRule {
    fn admits_any(&self, sources: &[IpAddr], dst: IpAddr, protocol: Protocol, port: u16) -> bool {
        sources.iter().any(|source| self.admits(*source, dst, protocol, port))
    }
}

/// The first rule whose conditions are met, or what keeps each of them.
fn first_permit<'r>(
    rules: impl Iterator<Item = &'r FilterRule>,
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
            return Ok((rule, Permit { rule: rule.rule, ports, until }));
        }
        if refused.last().is_none_or(|(last, _)| *last != rule.rule) {
            refused.push((rule.rule, unmet));
        }
    }
    Err(if refused.is_empty() { Refused::NoRule } else { Refused::Unmet(refused) })
}

/// Where a route leads: all of it, or the Internet but not what is private.
fn led_to(route: IpNet) -> AddressSet {
    let all = AddressSet::from_prefixes([route]);
    if route.prefix_len() == 0 { all.intersection(&ranges::internet()) } else { all }
}

/// The widest prefix around an address that lies in a route and in what is granted. The address itself is granted.
fn widest(dst: IpAddr, route: IpNet, granted: &AddressSet) -> IpNet {
    let longest = IpNet::from(dst);
    let around = (route.prefix_len()..longest.prefix_len())
        .filter_map(|length| IpNet::new(dst, length).ok().map(|net| net.trunc()));
    around.into_iter().find(|net| granted.covers(&AddressSet::from_prefixes([*net]))).unwrap_or(longest)
}
