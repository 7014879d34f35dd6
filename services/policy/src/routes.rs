//! Decisions about addresses that belong to no node and lie behind a router.

use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::compile::Compiled;
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

impl Compiled {
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
        if self.node_at(dst).is_some() {
            return None;
        }
        let routers = self.nodes.iter().filter(|node| node.id != source.id);
        let covering = routers.filter(|node| node.routes.iter().any(|route| route.contains(&dst)));
        let mut ways: Vec<(IpNet, usize, &NodeId)> = Vec::new();
        for router in covering {
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
        let ports = match protocol.has_ports() {
            true => rule.ports.iter().copied().find(|range| range.contains(port))?,
            false => PortRange::ALL,
        };
        Some(Routed { router: router.clone(), route, rule: rule.rule, ports })
    }
}
