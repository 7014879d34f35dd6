//! The policy in force, compiled for the users and nodes of the state.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use writ_policy::{
    Attribute, Circumstances, Compiled, Inventory, InventoryNode, InventoryUser, Owner, Permit, Policy,
    Refused, Way,
};
use writ_schema::NodeId;
use writ_schema::event::NodeOwner;
use writ_schema::net::{PortRange, Prefix, Protocol};

use super::state::{ActivePolicy, Authorization, Node, State, User};

impl State {
    /// The policy in force, compiled. It is made when it is first asked for after a change.
    pub fn compiled_policy(&self) -> Option<&Arc<Compiled>> {
        self.policies.compiled(|active| compile_active(self, active))
    }

    /// The users and nodes that a policy is compiled for. People are named by their pseudonyms only.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            users: self.users().map(inventory_user).collect(),
            nodes: self.nodes().map(inventory_node).collect(),
        }
    }

    /// Takes over the compiled policy of another state that is equal to this one.
    pub(crate) fn adopt_compiled_policy(&self, other: &Self) {
        self.policies.adopt_compiled(&other.policies);
    }
}

/// A user as a policy knows one.
pub(in crate::core) fn inventory_user(user: &User) -> InventoryUser {
    InventoryUser { id: user.id.clone(), login: user.id.to_string() }
}

/// A node as a policy knows one.
pub(in crate::core) fn inventory_node(node: &Node) -> InventoryNode {
    let owner = match &node.owner {
        NodeOwner::User(user) => Owner::User(user.clone()),
        NodeOwner::Tags(tags) => Owner::Tags(tags.iter().map(ToString::to_string).collect()),
    };
    let mut known = InventoryNode::new(node.id.clone(), owner, node.addresses().to_vec());
    known.routes = node.routes().map(Prefix::net).collect();
    known
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

/// What is known of a node's owner and device. Sign-ins of people are not known yet: a node is known by the key that it
/// joined with, so a rule that asks for a sign-in does not allow anything.
pub(crate) fn circumstances(node: &Node, now: Timestamp) -> Circumstances {
    let agent = node.session.as_ref().map(|session| Attribute::Text(session.agent.clone()));
    let attributes = agent.map(|agent| (AGENT_VERSION.to_owned(), agent)).into_iter().collect();
    Circumstances { now, sign_in: None, attributes }
}

/// The attribute of a device that holds the version of its agent.
const AGENT_VERSION: &str = "node:agentVersion";

/// A rule that allows in these circumstances, and the ports around the one asked for.
pub(crate) fn permits(
    compiled: &Compiled,
    (source, destination): (&NodeId, &NodeId),
    protocol: Protocol,
    port: u16,
    known: &Circumstances,
) -> Result<Permit, Refused> {
    first_allowed(protocol, |named| compiled.permits_now(source, destination, named, port, known))
}

/// The ways to an address behind routers, or on the Internet behind a chosen exit node, best first; never empty.
pub(crate) fn ways(
    compiled: &Compiled,
    source: &NodeId,
    destination: (IpAddr, Option<&NodeId>),
    protocol: Protocol,
    port: u16,
    known: &Circumstances,
) -> Result<Vec<Way>, Refused> {
    first_allowed(protocol, |named| compiled.ways_now(source, destination, named, port, known))
}

fn permits_route(
    compiled: &Compiled,
    ends: (&NodeId, &NodeId),
    route: Prefix,
    protocol: Protocol,
    port: u16,
    known: &Circumstances,
) -> Result<Permit, Refused> {
    first_allowed(protocol, |named| compiled.permits_prefix_now(ends, route.net(), named, port, known))
}

fn first_allowed<T>(
    protocol: Protocol,
    decide: impl Fn(writ_policy::Protocol) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let mut refused = Refused::NoRule;
    for named in policy_protocols(protocol) {
        match decide(named) {
            Ok(allowed) => return Ok(allowed),
            Err(Refused::NoRule) => {}
            Err(unmet) => refused = unmet,
        }
    }
    Err(refused)
}

/// Whether a policy allows, at a moment, all that an authorization permits.
pub(crate) fn still_allows(
    state: &State,
    compiled: &Compiled,
    authorization: &Authorization,
    now: Timestamp,
) -> bool {
    let source = authorization.source.as_ref().and_then(|source| state.node(&source.node));
    let Some(source) = source else { return false };
    let known = circumstances(source, now);
    let ends = (&source.id, &authorization.destination);
    let mut port = authorization.ports.first();
    loop {
        let permit = match authorization.route {
            None => permits(compiled, ends, authorization.protocol, port, &known),
            Some(route) => permits_route(compiled, ends, route, authorization.protocol, port, &known),
        };
        let Ok(permit) = permit else { return false };
        let ports = record_ports(authorization.protocol, permit.ports);
        if permit.until.is_some_and(|until| until < authorization.expires_at) {
            return false;
        }
        if ports.last() >= authorization.ports.last() {
            return true;
        }
        port = ports.last().saturating_add(1);
    }
}
