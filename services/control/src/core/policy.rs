//! The policy in force, compiled for the users and nodes of the state.

use std::sync::Arc;

use writ_policy::{Compiled, Inventory, InventoryNode, InventoryUser, Owner, Policy};
use writ_schema::NodeId;
use writ_schema::event::NodeOwner;
use writ_schema::net::{PortRange, Protocol};

use super::state::{ActivePolicy, Authorization, State};

impl State {
    /// The policy in force, compiled. It is made when it is first asked for after a change.
    pub fn compiled_policy(&self) -> Option<&Arc<Compiled>> {
        self.policies.compiled(|active| compile_active(self, active))
    }

    /// The users and nodes that a policy is compiled for. People are named by their pseudonyms only.
    pub fn inventory(&self) -> Inventory {
        let users = self
            .users()
            .map(|user| InventoryUser { id: user.id.clone(), login: user.id.to_string() })
            .collect();
        let nodes = self.nodes().map(|node| {
            let owner = match &node.owner {
                NodeOwner::User(user) => Owner::User(user.clone()),
                NodeOwner::Tags(tags) => Owner::Tags(tags.iter().map(ToString::to_string).collect()),
            };
            InventoryNode::new(node.id.clone(), owner, node.addresses().to_vec())
        });
        Inventory { users, nodes: nodes.collect() }
    }

    /// Takes over the compiled policy of another state that is equal to this one.
    pub(crate) fn adopt_compiled_policy(&self, other: &Self) {
        self.policies.adopt_compiled(&other.policies);
    }
}

/// A policy that was activated was compiled before, against users who are still known: this does not fail unless its
/// text cannot be read any more, and then nothing is permitted.
fn compile_active(state: &State, active: &ActivePolicy) -> Option<Arc<Compiled>> {
    let policy = Policy::parse(active.text.as_deref()?).ok()?;
    Compiled::new(Arc::new(policy), &state.inventory()).ok().map(Arc::new)
}

/// The policy engine's names for a protocol of a record: ICMP is two protocols there.
pub(crate) fn policy_protocols(protocol: Protocol) -> impl Iterator<Item = writ_policy::Protocol> {
    let (first, second) = match protocol {
        Protocol::Tcp => (writ_policy::Protocol::Tcp, None),
        Protocol::Udp => (writ_policy::Protocol::Udp, None),
        Protocol::Icmp => (writ_policy::Protocol::Icmp, Some(writ_policy::Protocol::Other(58))),
        Protocol::Other(number) => (writ_policy::Protocol::from_number(number), None),
    };
    std::iter::once(first).chain(second)
}

/// The ports of a record: `0` alone where the protocol has none.
pub(crate) fn record_ports(protocol: Protocol, ports: writ_policy::PortRange) -> PortRange {
    if !protocol.has_ports() {
        return PortRange::single(0);
    }
    PortRange::new(ports.first, ports.last).unwrap_or(PortRange::single(ports.first))
}

/// A rule that allows, and the ports around the one asked for.
pub(crate) fn permits(
    compiled: &Compiled,
    source: &NodeId,
    destination: &NodeId,
    protocol: Protocol,
    port: u16,
) -> Option<(String, PortRange)> {
    policy_protocols(protocol).find_map(|named| {
        let (rule, ports) = compiled.permits(source, destination, named, port)?;
        Some((rule.to_string(), record_ports(protocol, ports)))
    })
}

/// Whether a policy allows all that an authorization permits.
pub(crate) fn still_allows(compiled: &Compiled, authorization: &Authorization) -> bool {
    let Some(source) = &authorization.source else { return false };
    let mut port = authorization.ports.first();
    loop {
        let allowed =
            permits(compiled, &source.node, &authorization.destination, authorization.protocol, port);
        let Some((_, ports)) = allowed else { return false };
        if ports.last() >= authorization.ports.last() {
            return true;
        }
        port = ports.last().saturating_add(1);
    }
}
