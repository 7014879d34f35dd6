//! The `autoApprovers` section: whose routes need nobody's approval.

use ipnet::IpNet;
use writ_schema::NodeId;

use crate::compile::Compiled;
use crate::document::Document;
use crate::error::PolicyError;
use crate::hujson::Value;
use crate::rules::Fields;
use crate::selector::{self, Autogroup, Names, Selector, SelectorKind};

/// Who may offer which routes without being asked.
#[derive(Debug, Default)]
pub(crate) struct AutoApprovers {
    routes: Vec<(IpNet, Vec<Selector>)>,
    exit_node: Vec<Selector>,
}

pub(crate) fn read(
    document: &Document<'_>,
    names: &Names,
    value: &Value,
) -> Result<AutoApprovers, PolicyError> {
    let fields = Fields::read(document, value, &["routes", "exitNode"])?;
    let mut approvers = AutoApprovers::default();
    if let Some(routes) = fields.get("routes") {
        for member in document.object(routes)? {
            let prefix =
                selector::parse_prefix(&member.key).map_err(|m| document.refuse(member.key_start, m))?;
            approvers.routes.push((prefix, read_approvers(document, names, &member.value)?));
        }
    }
    if let Some(exit_node) = fields.get("exitNode") {
        approvers.exit_node = read_approvers(document, names, exit_node)?;
    }
    Ok(approvers)
}

fn read_approvers(
    document: &Document<'_>,
    names: &Names,
    value: &Value,
) -> Result<Vec<Selector>, PolicyError> {
    let mut approvers = Vec::new();
    for token in document.strings(value)? {
        let selector = names.selector(document, token, &format!("approver={:?}", token.text))?;
        let is_fit = match selector.kind {
            SelectorKind::User(_) | SelectorKind::Group(_) | SelectorKind::Tag(_) => true,
            SelectorKind::Autogroup(autogroup) => autogroup.is_role() || autogroup == Autogroup::Member,
            _ => false,
        };
        if !is_fit {
            let message = format!("{:?} cannot approve routes", token.text);
            return Err(document.refuse(token.offset, message).with_help("name users, groups or tags"));
        }
        approvers.push(selector);
    }
    Ok(approvers)
}

impl Compiled {
    /// Whether a route that a node offers is approved without asking: it lies in a prefix that the node may offer, or leads to the
    /// whole Internet and the node may be an exit.
    pub fn auto_approves(&self, node: &NodeId, route: &IpNet) -> bool {
        let Some(node) = self.node(node) else { return false };
        let approvers = &self.policy.auto_approvers;
        let names = |selectors: &[Selector]| selectors.iter().any(|selector| self.names_node(selector, node));
        if route.prefix_len() == 0 {
            return names(&approvers.exit_node);
        }
        // A prefix of length nought covers no subnet here: exits are approved as such.
        let covering =
            approvers.routes.iter().filter(|(prefix, _)| prefix.prefix_len() > 0 && prefix.contains(route));
        covering.into_iter().any(|(_, selectors)| names(selectors))
    }
}
