//! What a node may reach by the policy in force: the substance of its netmap.

use std::collections::BTreeSet;

use writ_schema::NodeId;
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::protocol::Service;

use super::policy::record_ports;
use super::state::State;

impl State {
    /// The nodes that a node may reach and on what, in order of their identifiers; services in order and without
    /// repeats.
    pub fn reachable_from(&self, node: &NodeId) -> Vec<(NodeId, Vec<Service>)> {
        let Some(compiled) = self.compiled_policy() else { return Vec::new() };
        let peers = compiled.peers(node).into_iter();
        peers.map(|reach| (reach.node, services(&reach.services))).collect()
    }

    /// The prefixes behind routers that a node may reach in part at least, in order; the whole Internet is none of them.
    pub fn routes_for(&self, node: &NodeId) -> Vec<Prefix> {
        let Some(compiled) = self.compiled_policy() else { return Vec::new() };
        compiled.routes_for(node).into_iter().map(Prefix::of).collect()
    }

    /// The exit nodes that a node may use, in order of their identifiers; with everything, of the families that each carries
    /// for it.
    pub fn exits_for(&self, node: &NodeId) -> Vec<(NodeId, Vec<Prefix>)> {
        let Some(compiled) = self.compiled_policy() else { return Vec::new() };
        let exits = compiled.exits_for(node).into_iter();
        exits.map(|(exit, routes)| (exit, routes.into_iter().map(Prefix::of).collect())).collect()
    }

    /// The nodes that may reach a node and on what.
    pub fn who_can_reach(&self, node: &NodeId) -> Vec<(NodeId, Vec<Service>)> {
        let Some(compiled) = self.compiled_policy() else { return Vec::new() };
        let peers = compiled.who_can_reach(node).into_iter();
        peers.map(|reach| (reach.node, services(&reach.services))).collect()
    }
}

/// Services in the words of the netmap: rules are forgotten, and ranges that touch become one.
fn services(granted: &[writ_policy::Service]) -> Vec<Service> {
    let in_order: BTreeSet<Service> = granted
        .iter()
        .map(|service| {
            let protocol = Protocol::of_number(service.protocol.number());
            Service { protocol, ports: record_ports(protocol, service.ports) }
        })
        .collect();
    let mut joined: Vec<Service> = Vec::with_capacity(in_order.len());
    for service in in_order {
        match joined.last_mut().filter(|last| touches(last, &service)) {
            Some(last) => {
                let end = last.ports.last().max(service.ports.last());
                last.ports = PortRange::new(last.ports.first(), end).unwrap_or(last.ports);
            }
            None => joined.push(service),
        }
    }
    joined
}

fn touches(last: &Service, next: &Service) -> bool {
    last.protocol == next.protocol && u32::from(next.ports.first()) <= u32::from(last.ports.last()) + 1
}
