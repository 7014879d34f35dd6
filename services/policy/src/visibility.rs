//! Which nodes a node is told of, and with which addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::{Compiled, Node};

impl Compiled {
    /// The nodes that a node is told of: those that either of the two lets in, in order of their identifiers.
    pub fn visible(&self, node: &NodeId) -> Vec<NodeId> {
        let Some(own) = self.node(node) else { return Vec::new() };
        let admitted = self.admitted(node);
        let own_side = own.side();
        let others = self.nodes.iter().filter(|other| other.id != own.id);
        let seen = others.filter(|other| {
            admitted.intersects(&other.side()) || self.admitted(&other.id).intersects(&own_side)
        });
        seen.map(|other| other.id.clone()).collect()
    }

    /// Everyone whom the node's filter lets in for anything.
    fn admitted(&self, node: &NodeId) -> AddressSet {
        let ports = self.filter(node).into_iter().map(|rule| rule.sources);
        let capabilities = self.capabilities(node).into_iter().map(|rule| rule.sources);
        let all = ports.chain(capabilities).flat_map(|set| set.ranges().collect::<Vec<_>>());
        AddressSet::from_ranges(all)
    }

    /// The subnet routes that the node is first in line for: of several routers for one prefix, the first by the order that
    /// the inventory lists them in.
    pub fn primary_routes(&self, node: &NodeId) -> Vec<IpNet> {
        let Some(own) = self.node(node) else { return Vec::new() };
        let is_first = |route: &IpNet| {
            let routers =
                self.nodes.iter().filter(|other| other.subnet_routes().any(|other| other == *route));
            routers.min_by_key(|router| router.rank).is_some_and(|first| first.id == own.id)
        };
        own.subnet_routes().filter(is_first).collect()
    }

    /// The prefixes that a viewer may send to a peer: its addresses, the routes it is first in line for as far as the
    /// viewer may reach them, and the Internet if it leads there and the viewer may use it.
    pub fn allowed_prefixes(&self, viewer: &NodeId, peer: &NodeId) -> Vec<IpNet> {
        let (Some(from), Some(to)) = (self.node(viewer), self.node(peer)) else { return Vec::new() };
        let mut allowed: Vec<IpNet> = to.addresses.iter().copied().map(IpNet::from).collect();
        let filter = self.filter(peer);
        let from_side = from.side();
        let reaching: Vec<_> = filter.iter().filter(|rule| rule.sources.intersects(&from_side)).collect();
        let admitted = self.admitted(viewer);
        // Packets may go there because the peer lets them in, or because the viewer lets in what comes from there and
        // has to answer.
        let may_reach = |route: &IpNet| {
            let prefix = AddressSet::from_prefixes([*route]);
            reaching.iter().any(|rule| rule.destinations.intersects(&prefix))
                || (route.prefix_len() > 0 && admitted.intersects(&prefix))
        };
        allowed.extend(self.primary_routes(peer).into_iter().filter(may_reach));
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
