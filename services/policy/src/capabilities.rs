//! Application capabilities: what a grant's `app` hands to the destination's own programs.

use serde::Serialize;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::document::Document;
use crate::error::PolicyError;
use crate::hujson::Value;
use crate::nodes::Node;
use crate::rules::{Rule, RuleRef, Target};
use crate::selector::{Autogroup, Selector, SelectorKind};

/// Capabilities of the tailscale.com domain that a policy may grant.
const GRANTABLE: [&str; 7] = [
    "tailscale.com/cap/drive",
    "tailscale.com/cap/golink",
    "tailscale.com/cap/kubernetes",
    "tailscale.com/cap/relay",
    "tailscale.com/cap/secrets",
    "tailscale.com/cap/tsidp",
    "tailscale.com/cap/webui",
];

/// Reads an `app` object: capability names, each with a list of values.
pub(crate) fn read(
    document: &Document<'_>,
    value: &Value,
) -> Result<Vec<(String, Vec<serde_json::Value>)>, PolicyError> {
    document.note_unsupported(value.start, "\"app\" is not supported");
    let mut capabilities = Vec::new();
    for member in document.object(value)? {
        check_name(&member.key).map_err(|message| document.refuse(member.key_start, message))?;
        let values = document.array(&member.value)?.iter().map(Value::to_json).collect();
        capabilities.push((member.key.clone(), values));
    }
    Ok(capabilities)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let has_form = name.split_once('/').is_some_and(|(domain, path)| {
        let is_domain = domain.contains('.')
            && domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        is_domain && !path.is_empty()
    });
    if !has_form {
        return Err("capability name must have the form {domain}/{path}");
    }
    if name.starts_with("tailscale.com/") && !GRANTABLE.contains(&name) {
        return Err("capability name must not be in the tailscale.com domain");
    }
    Ok(())
}

/// Capabilities whose grant also tells the source which destinations hold it.
const COMPANIONS: [(&str, &str); 2] = [
    ("tailscale.com/cap/drive", "tailscale.com/cap/drive-sharer"),
    ("tailscale.com/cap/relay", "tailscale.com/cap/relay-target"),
];

/// Application capabilities that peers have at a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapabilityRule {
    /// The grant that they come from.
    pub rule: RuleRef,
    /// The peers.
    pub sources: AddressSet,
    /// The node's addresses, or the prefixes behind it, that they hold at.
    pub destinations: AddressSet,
    /// The capability.
    pub capability: String,
    /// Its values; none for one that only marks.
    pub values: Vec<serde_json::Value>,
}

impl Compiled {
    /// The application capabilities that peers have at a node, in order of the file.
    pub fn capabilities(&self, node: &NodeId) -> Vec<CapabilityRule> {
        let Some(node) = self.node(node) else { return Vec::new() };
        let mut found = Vec::new();
        // What goes through chosen routers carries no capabilities.
        for rule in self.policy.rules.iter().filter(|rule| !rule.app.is_empty() && rule.via.is_empty()) {
            for target in &rule.targets {
                self.granted(rule, target, node, &mut found);
                self.companions(rule, target, node, &mut found);
            }
        }
        found
    }

    fn granted(&self, rule: &Rule, target: &Target, node: &Node, found: &mut Vec<CapabilityRule>) {
        let own = AddressSet::from_addresses(node.addresses.iter().copied());
        let inbound = self.inbound(rule, target, node);
        // A prefix of the policy stays whole for a router, and is narrowed to the node itself for any other.
        let is_routed = inbound != AddressSet::all()
            && inbound.intersects(&AddressSet::from_prefixes(node.subnet_routes()));
        let destinations = if is_routed { inbound } else { inbound.intersection(&own) };
        let sources = self.sources(rule, target, node);
        if destinations.is_empty() || sources.is_empty() {
            return;
        }
        found.extend(rule.app.iter().map(|(name, values)| CapabilityRule {
            rule: rule.at,
            sources: sources.clone(),
            destinations: destinations.clone(),
            capability: name.clone(),
            values: values.clone(),
        }));
    }

    /// The same grant seen from its source.
    fn companions(&self, rule: &Rule, target: &Target, node: &Node, found: &mut Vec<CapabilityRule>) {
        let companions =
            rule.app.iter().filter_map(|(name, _)| COMPANIONS.iter().find(|(main, _)| main == name));
        let mut companions = companions.peekable();
        let named: Vec<&Selector> =
            rule.src.iter().filter(|selector| self.names_node(selector, node)).collect();
        if companions.peek().is_none() || named.is_empty() {
            return;
        }
        let sources = match target.dst.kind {
            SelectorKind::Autogroup(Autogroup::Own) => self.sources(rule, target, node),
            _ => self.source(&target.dst),
        };
        if sources.is_empty() {
            return;
        }
        let destinations = AddressSet::from_addresses(node.addresses.iter().copied());
        found.extend(companions.map(|(_, companion)| CapabilityRule {
            rule: rule.at,
            sources: sources.clone(),
            destinations: destinations.clone(),
            capability: (*companion).to_owned(),
            values: Vec::new(),
        }));
    }
}
