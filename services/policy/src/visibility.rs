//! Which nodes a node is told of, and with which addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::nodes::Node;
use crate::rules::Rule;
use crate::selector::SelectorKind;

/// The attribute by which a peer is told to offer a way to the Internet.
const SUGGEST_EXIT_NODE: &str = "suggest-exit-node";

impl Compiled {
    /// The nodes that a node is told of: those that either of the two lets in, in order of their identifiers.
    pub fn visible(&self, node: &NodeId) -> Vec<NodeId> {
        let Some(own) = self.node(node) else { return Vec::new() };
        let admitted = self.admitted(own);
        let own_side = own.side();
        let others = self.nodes.iter().filter(|other| other.id != own.id);
        let seen = others
            .filter(|other| admitted.intersects(&other.side()) || self.admitted(other).intersects(&own_side));
        let mut ids: Vec<NodeId> = seen.map(|other| other.id.clone()).collect();
        ids.sort();
        ids
    }

    /// What a viewer is told that a peer offers: an exit node that it may use is one to suggest.
    pub fn peer_attributes(&self, viewer: &NodeId, peer: &NodeId) -> BTreeSet<String> {
        let leads_out = self.allowed_prefixes(viewer, peer).iter().any(|prefix| prefix.prefix_len() == 0);
        leads_out.then(|| SUGGEST_EXIT_NODE.to_owned()).into_iter().collect()
    }

    /// Whether a rule that names no routers lets the viewer reach what a route leads to; it then goes through
    /// whoever carries the route.
    fn is_plainly_granted(&self, route: &IpNet, viewer: &Node) -> bool {
        let prefix = AddressSet::from_prefixes([*route]);
        let side = viewer.side();
        self.policy.rules.iter().filter(|rule| rule.via.is_empty()).any(|rule| {
            let is_meant = rule.targets.iter().any(|target| match &target.dst.kind {
                SelectorKind::Any => true,
                SelectorKind::Host(name) => self.policy.names.host(name).intersects(&prefix),
                SelectorKind::Addresses(set) => set.intersects(&prefix),
                _ => false,
            });
            is_meant && rule.src.iter().any(|selector| self.source(selector).intersects(&side))
        })
    }

    /// Whether a rule sends the viewer through this router for a route: it is the first of those that the
    /// rule names.
    fn is_steered(&self, route: &IpNet, viewer: &Node, router: &Node) -> bool {
        let prefix = AddressSet::from_prefixes([*route]);
        let side = viewer.side();
        let named = |rule: &Rule, node: &Node| rule.via.iter().any(|tag| self.names_node(tag, node));
        self.policy.rules.iter().filter(|rule| named(rule, router)).any(|rule| {
            let routers = self
                .nodes
                .iter()
                .filter(|node| named(rule, node) && node.subnet_routes().any(|r| r == *route));
            let is_first = routers.min_by_key(|node| node.rank).is_some_and(|first| first.id == router.id);
            is_first
                && rule.targets.iter().any(|target| {
                    self.inbound(rule, target, router).intersects(&prefix)
                        && self.sources(rule, target, router).intersects(&side)
                })
        })
    }

    /// Everyone who may do anything at a node, and at which addresses.
    fn accesses(&self, node: &Node) -> Vec<(AddressSet, AddressSet)> {
        let ports = self.filter(&node.id).into_iter().map(|rule| (rule.sources, rule.destinations));
        let capabilities =
            self.capabilities(&node.id).into_iter().map(|rule| (rule.sources, rule.destinations));
        // Routers that a grant of capabilities chooses are told of, though it gives them nothing to filter by.
        let chosen = self.policy.rules.iter().filter(|rule| !rule.via.is_empty() && !rule.app.is_empty());
        let chosen = chosen.flat_map(|rule| rule.targets.iter().map(move |target| (rule, target)));
        let chosen =
            chosen.map(|(rule, target)| (self.sources(rule, target, node), self.inbound(rule, target, node)));
        ports.chain(capabilities).chain(chosen).filter(|(_, destinations)| !destinations.is_empty()).collect()
    }

    /// Everyone who may do anything at a node.
    fn admitted(&self, node: &Node) -> AddressSet {
        let sources = self.accesses(node).into_iter().map(|(sources, _)| sources);
        AddressSet::from_ranges(sources.flat_map(|set| set.ranges().collect::<Vec<_>>()))
    }

    /// The subnet routes that the node is first in line for: of several routers for one prefix, the first by
    /// the order that the inventory lists them in.
    pub fn primary_routes(&self, node: &NodeId) -> Vec<IpNet> {
        let Some(own) = self.node(node) else { return Vec::new() };
        let is_first = |route: &IpNet| {
            let routers =
                self.nodes.routers().filter(|other| other.subnet_routes().any(|other| other == *route));
            routers.min_by_key(|router| router.rank).is_some_and(|first| first.id == own.id)
        };
        own.subnet_routes().filter(is_first).collect()
    }

    /// The prefixes that a viewer may send to a peer: its addresses, the routes it is first in line for as
    /// far as the viewer may reach them, and the Internet if it leads there and the viewer may use it.
    pub fn allowed_prefixes(&self, viewer: &NodeId, peer: &NodeId) -> Vec<IpNet> {
        let (Some(from), Some(to)) = (self.node(viewer), self.node(peer)) else { return Vec::new() };
        let has_no_ipv4 = self.has_no_ipv4(from) || self.has_no_ipv4(to);
        let own = to.addresses.iter().copied().filter(|address| address.is_ipv6() || !has_no_ipv4);
        let mut allowed: Vec<IpNet> = own.map(IpNet::from).collect();
        let accesses = self.accesses(to);
        let from_side = from.side();
        let reaching: Vec<_> =
            accesses.iter().filter(|(sources, _)| sources.intersects(&from_side)).collect();
        let admitted = self.admitted(from);
        // Packets may go there because the peer lets them in, or because the viewer lets in what comes from
        // there and has to answer.
        let may_reach = |route: &IpNet| {
            let prefix = AddressSet::from_prefixes([*route]);
            reaching.iter().any(|(_, destinations)| destinations.intersects(&prefix))
                || (route.prefix_len() > 0 && admitted.intersects(&prefix))
                // A router that stands by for a prefix is told who carries it.
                || from.subnet_routes().any(|own| own == *route)
        };
        let primary = self.primary_routes(peer);
        let is_steered =
            |route: &IpNet| !self.is_plainly_granted(route, from) && self.is_steered(route, from, to);
        let steered = to.subnet_routes().filter(|route| !primary.contains(route) && is_steered(route));
        allowed.extend(steered);
        allowed.extend(primary.into_iter().filter(may_reach));
        allowed.extend(to.routes.iter().filter(|route| route.prefix_len() == 0 && may_reach(route)));
        allowed
    }
}

impl Node {
    /// The addresses for which the node sends: its own and those behind it.
    fn side(&self) -> AddressSet {
        let own: Vec<IpAddr> = self.addresses.clone();
        AddressSet::from_addresses(own).union(&AddressSet::from_prefixes(self.subnet_routes()))
    }
}
