//! What a policy permits at a moment: compiled for the users and nodes of that moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use writ_policy::{
    Compiled, Inventory, InventoryNode, InventoryUser, Owner, Policy, ReachBehind, RuleRef, Service,
};
use writ_schema::event::NodeOwner;
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::{NodeId, Seq, UserId};

use super::error::{Code, QueryError, fail};
use super::lookup::Lookup;
use super::rule_text::rule_text;
use super::types::{PolicyRef, Reach};
use crate::core::policy::record_ports;
use crate::views::policies::PolicyRow;
use crate::views::{nodes, policies, users};

/// Compiled policies that are kept: people ask about the same few moments.
const KEPT: usize = 8;

/// A policy and the last record that changed for whom it is compiled.
type Key = (Seq, Option<Seq>);

/// Policies of moments asked about lately, compiled.
#[derive(Default)]
pub(super) struct Policies(Mutex<VecDeque<(Key, Arc<Compiled>)>>);

/// The policy of a moment.
pub(super) struct Force {
    /// Which.
    pub(super) row: PolicyRow,
    /// Its text, people by their pseudonyms.
    pub(super) text: String,
    /// Compiled.
    pub(super) compiled: Arc<Compiled>,
}

impl Policies {
    /// The policy that was in force, if any was.
    pub(super) fn in_force(&self, lookup: &Lookup<'_>) -> Result<Option<Force>, QueryError> {
        let Some(row) = policies::active(lookup.connection, &lookup.moment)? else { return Ok(None) };
        let text = policies::text(lookup.connection, &row)?.ok_or_else(|| {
            fail(
                Code::Unavailable,
                format!("the text of policy {} was erased and cannot be read", row.version),
            )
        })?;
        let key = (row.activated, nodes::last_change(lookup.connection, &lookup.moment)?);
        if let Some(compiled) = self.find(&key) {
            return Ok(Some(Force { row, text, compiled }));
        }
        let compiled = Arc::new(compile(lookup, &text)?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((key, Arc::clone(&compiled)));
        Ok(Some(Force { row, text, compiled }))
    }

    fn find(&self, key: &Key) -> Option<Arc<Compiled>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == key).map(|(_, compiled)| Arc::clone(compiled))
    }
}

fn compile(lookup: &Lookup<'_>, text: &str) -> Result<Compiled, QueryError> {
    let unreadable =
        |error| fail(Code::Unavailable, format!("the policy of that moment cannot be read: {error}"));
    let policy = Policy::parse(text).map_err(unreadable)?;
    Ok(Compiled::new(Arc::new(policy), &inventory(lookup)?).map_err(unreadable)?)
}

/// The users and nodes of the moment; people by their pseudonyms only.
fn inventory(lookup: &Lookup<'_>) -> Result<Inventory, QueryError> {
    let users = users::pseudonyms(lookup.connection, &lookup.moment)?.into_iter();
    let nodes = nodes::members(lookup.connection, &lookup.moment)?.into_iter();
    Ok(Inventory { users: users.map(inventory_user).collect(), nodes: nodes.map(inventory_node).collect() })
}

/// A user as a policy knows one.
pub(super) fn inventory_user(id: UserId) -> InventoryUser {
    InventoryUser { login: id.to_string(), id }
}

/// A node as a policy knows one.
pub(super) fn inventory_node(node: nodes::Node) -> InventoryNode {
    let routes = node.routes().map(Prefix::net).collect();
    let owner = match node.owner {
        NodeOwner::User(user) => Owner::User(user),
        NodeOwner::Tags(tags) => Owner::Tags(tags.iter().map(ToString::to_string).collect()),
    };
    let addresses = vec![node.address_v4.into(), node.address_v6.into()];
    InventoryNode { routes, ..InventoryNode::new(node.node, owner, addresses) }
}

/// Which way to look, and on which service.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The node.
    pub(super) node: NodeId,
    /// Whether it is the one that reaches; else it is the one that is reached.
    pub(super) outward: bool,
    /// Only by this protocol.
    pub(super) protocol: Option<Protocol>,
    /// Only on this port.
    pub(super) port: Option<u16>,
}

impl Question {
    fn wants(&self, protocol: Protocol, ports: PortRange) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.port.is_none_or(|port| !protocol.has_ports() || ports.contains(port))
    }
}

/// Most permissions that one answer lists.
pub(super) const MAX_REACH: usize = 1_000;

/// What a policy permits to or from a node. Also answers whether the list was cut.
pub(super) fn could_reach(
    lookup: &Lookup<'_>,
    force: &Force,
    question: &Question,
) -> Result<(Vec<Reach>, bool), QueryError> {
    let mut found: Vec<Reach> = Vec::new();
    for Permitted { source, destination, route, services } in permitted(&force.compiled, question) {
        let mut granted: Vec<(Protocol, PortRange, RuleRef)> = Vec::new();
        for service in &services {
            let protocol = Protocol::of_number(service.protocol.number());
            let ports = record_ports(protocol, service.ports);
            let permission = (protocol, ports, service.rule);
            // ICMP is two protocols to the engine and one to everybody else.
            if question.wants(protocol, ports) && !granted.contains(&permission) {
                granted.push(permission);
            }
        }
        for (protocol, ports, rule) in granted {
            if found.len() >= MAX_REACH {
                return Ok((found, true));
            }
            found.push(Reach {
                source: lookup.node_ref(&source)?,
                destination: lookup.node_ref(&destination)?,
                route: route.map(|route| route.to_string()),
                protocol: protocol.to_string(),
                ports: ports.to_string(),
                rule_text: rule_text(&force.text, &rule.to_string()),
                conditions: force.compiled.policy().conditions(rule).map(ToString::to_string),
                rule: rule.to_string(),
                policy: force.row.version.0.into(),
                record: lookup.record(force.row.activated)?,
            });
        }
    }
    Ok((found, false))
}

/// What is granted between two nodes, or between one and what lies behind the other.
struct Permitted {
    source: NodeId,
    destination: NodeId,
    route: Option<IpNet>,
    services: Vec<Service>,
}

/// The nodes themselves first, then what lies behind nodes.
fn permitted(compiled: &Compiled, question: &Question) -> impl Iterator<Item = Permitted> {
    let Question { node, outward, .. } = question;
    let (nodes, behind) = match outward {
        true => (compiled.peers(node), compiled.reach_behind(node)),
        false => (compiled.who_can_reach(node), compiled.who_can_reach_behind(node)),
    };
    let to_node = |reach: writ_policy::Reach| {
        let (source, destination) =
            if *outward { (node.clone(), reach.node) } else { (reach.node, node.clone()) };
        Permitted { source, destination, route: None, services: reach.services }
    };
    let to_route = |ReachBehind { source, router, route, services }| Permitted {
        source,
        destination: router,
        route: Some(route),
        services,
    };
    nodes.into_iter().map(to_node).chain(behind.into_iter().map(to_route))
}

/// How an answer names the policy it stands on.
pub(super) fn policy_ref(lookup: &Lookup<'_>, row: &PolicyRow) -> Result<PolicyRef, QueryError> {
    Ok(PolicyRef {
        version: row.version.0.into(),
        proposed_by: row.proposed_by.clone(),
        activated_by: row.activated_by.clone(),
        proposed: lookup.record(row.proposed)?,
        record: lookup.record(row.activated)?,
    })
}
