//! The `nodeAttrs` section: attributes that the policy puts on nodes.

use std::collections::BTreeSet;

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::document::Document;
use crate::error::PolicyError;
use crate::hujson::Value;
use crate::nodes::Node;
use crate::ranges;
use crate::rules::Fields;
use crate::selector::{self, Autogroup, Names, Selector, SelectorKind};

/// Attributes and the nodes that get them.
#[derive(Debug)]
pub(crate) struct NodeAttrs {
    pub(crate) targets: Vec<Selector>,
    pub(crate) attributes: Vec<String>,
}

/// The attribute that takes a node's IPv4 address out of use.
const DISABLE_IPV4: &str = "disable-ipv4";

/// Attributes that bring another with them: who may open a funnel is told through which ports.
const IMPLIED: [(&str, &str); 1] =
    [("funnel", "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000")];

/// The attribute that `randomizeClientPort` puts on every node.
pub(crate) const RANDOMIZE_CLIENT_PORT: &str = "randomize-client-port";

pub(crate) fn read(
    document: &Document<'_>,
    names: &Names,
    value: &Value,
) -> Result<Vec<NodeAttrs>, PolicyError> {
    document.array(value)?.iter().map(|entry| read_entry(document, names, entry)).collect()
}

fn read_entry(document: &Document<'_>, names: &Names, entry: &Value) -> Result<NodeAttrs, PolicyError> {
    let fields = Fields::read(document, entry, &["target", "attr", "ipPool"])?;
    let mut targets = Vec::new();
    for token in document.strings(fields.required("target")?)? {
        let selector = names.selector(document, token, &format!("target={:?}", token.text))?;
        if let SelectorKind::Autogroup(Autogroup::Own | Autogroup::Internet | Autogroup::DangerAll) =
            selector.kind
        {
            return Err(document.refuse(token.offset, format!("invalid target {:?}", token.text)));
        }
        targets.push(selector);
    }
    if let Some(value) = fields.get("ipPool") {
        for token in document.strings(value)? {
            check_pool(token.text).map_err(|message| document.refuse(token.offset, message))?;
        }
    }
    let attributes = match fields.get("attr") {
        Some(value) => document.strings(value)?.iter().map(|token| token.text.to_owned()).collect(),
        None => Vec::new(),
    };
    Ok(NodeAttrs { targets, attributes })
}

fn check_pool(text: &str) -> Result<(), String> {
    let pool: IpNet = selector::parse_prefix(text)?;
    if ranges::reserved().intersects(&AddressSet::from_prefixes([pool])) {
        return Err(format!("IPPool({text}): network within reserved range"));
    }
    Ok(())
}

impl Compiled {
    /// The attributes that the policy puts on a node.
    pub fn attributes(&self, node: &NodeId) -> BTreeSet<String> {
        let Some(node) = self.node(node) else { return BTreeSet::new() };
        let mut attributes: BTreeSet<String> = self.node_attributes(node).map(str::to_owned).collect();
        for (_, with) in IMPLIED.iter().filter(|(name, _)| self.node_attributes(node).any(|own| own == *name))
        {
            attributes.insert((*with).to_owned());
        }
        attributes
    }

    /// Whether the policy has taken the node's IPv4 address out of use.
    pub(crate) fn has_no_ipv4(&self, node: &Node) -> bool {
        self.node_attributes(node).any(|name| name == DISABLE_IPV4)
    }

    fn node_attributes<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a str> {
        let entries = self.policy.node_attrs.iter();
        let fitting =
            entries.filter(|entry| entry.targets.iter().any(|target| self.names_node(target, node)));
        let everywhere = self.policy.randomizes_client_port.then_some(RANDOMIZE_CLIENT_PORT);
        fitting.flat_map(|entry| entry.attributes.iter().map(String::as_str)).chain(everywhere)
    }
}
