//! How a connection would be decided, and why: for a node that asks about itself. Nothing comes of it.

use std::net::IpAddr;

use jiff::Timestamp;
use writ_policy::Decision;
use writ_schema::event::DenialReason;
use writ_schema::net::Protocol;
use writ_schema::protocol::{Destination, Explained};
use writ_schema::{NodeId, RequestId};

use super::decide::{Denial, Granted, Wanted, display_name, grant};
use super::policy::policy_protocols;
use super::rejection::Rejection;
use super::state::{Node, State};

/// What a node asks about itself.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its name for the request.
    pub request: RequestId,
    /// Whom it wants to reach.
    pub destination: Destination,
    /// The exit node that would carry the packets to the Internet.
    pub exit: Option<NodeId>,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port; means nothing where the protocol has none.
    pub port: u16,
}

impl State {
    /// How a connection of a node would be decided at this moment.
    pub fn explain_connection(
        &self,
        node: &NodeId,
        now: Timestamp,
        question: Question,
    ) -> Result<Explained, Rejection> {
        let source = self.node(node).ok_or_else(|| Rejection::UnknownNode(node.clone()))?;
        let Question { request, destination, exit, protocol, port } = question;
        let port = if protocol.has_ports() { port } else { 0 };
        let policy = self.policy().map(|active| active.version);
        let found = match &destination {
            Destination::Address(address) => self.node_by_address(*address),
            Destination::Name(name) => self.node_by_name(name),
        };
        let address = match (&destination, found) {
            (Destination::Address(address), _) => Some(*address),
            (Destination::Name(_), found) => found.map(|node| IpAddr::from(node.address_v4)),
        };
        let decided = match address {
            Some(address) => {
                grant(self, now, &Wanted { source, address, exit: exit.as_ref(), protocol, port })
            }
            None => Err(Denial {
                reason: DenialReason::UnknownDestination,
                explanation: "no node of the network has this name".to_owned(),
                rule: None,
            }),
        };
        let destination = found.map(Node::described);
        Ok(match decided {
            Ok(granted) => {
                let explanation = self.allowance(source, &granted, protocol, port);
                let rule = Some(granted.rule);
                Explained { request, destination, denied: None, rule, policy, explanation }
            }
            Err(Denial { reason, explanation, rule }) => {
                Explained { request, destination, denied: Some(reason), rule, policy, explanation }
            }
        })
    }

    /// What allows a connection, in words.
    fn allowance(&self, source: &Node, granted: &Granted<'_>, protocol: Protocol, port: u16) -> String {
        let Granted { destination, route, rule, ports, policy, until } = granted;
        let name = display_name(destination);
        let to = route.map_or_else(|| name.to_owned(), |route| format!("{route} through {name}"));
        let mut text =
            format!("{rule} of policy version {policy} allows this node to reach {to} on {protocol}");
        if protocol.has_ports() {
            text.push_str(&format!(" port {ports}"));
        }
        if let Some((by, to)) = self.named_by(source, granted, protocol, port) {
            text.push_str(&format!(": the source is named by {by}, the destination by {to}"));
        }
        if let Some(until) = until {
            text.push_str(&format!("; until {until}"));
        }
        text
    }

    /// As whom the rule names the two ends.
    fn named_by(
        &self,
        source: &Node,
        granted: &Granted<'_>,
        protocol: Protocol,
        port: u16,
    ) -> Option<(String, String)> {
        let compiled = self.compiled_policy()?;
        let explain = |named| match granted.route {
            None => compiled.explain(&source.id, &granted.destination.id, named, port),
            Some(route) => {
                let exit = route.is_everything().then_some(&granted.destination.id);
                compiled.explain_address(&source.id, (route.example(), exit), named, port)
            }
        };
        let mut reasons = policy_protocols(protocol).map(explain);
        // The rule that allows it now is another than the first one, where that has conditions.
        let why = reasons.find(
            |why| matches!(&why.decision, Decision::Allowed { rule, .. } if rule.to_string() == granted.rule),
        )?;
        Some((why.source_by?, why.destination_by?))
    }
}
