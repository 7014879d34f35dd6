//! What ends together with a node: its session and what it may do or others may do with it.

use writ_schema::event::{
    ConnectionRevoked, NodeRemoval, NodeRemoved, RevocationReason, SessionEnd, SessionTerminated, Version,
};

use super::{Case, Draft};
use crate::core::state::{Authorization, Node};

/// Removes nodes, ends their sessions and revokes their authorizations; all of it is a consequence of one draft.
pub(super) fn remove_nodes<'a>(
    case: &Case<'_>,
    cause: Option<usize>,
    nodes: impl Iterator<Item = &'a Node>,
    removal: NodeRemoval,
    reason: RevocationReason,
) -> Vec<Draft> {
    let nodes: Vec<&Node> = nodes.collect();
    let removed = nodes.iter().map(|node| {
        let event = NodeRemoved { v: Version, node: node.id.clone(), reason: removal };
        Draft { cause, ..case.draft(event) }
    });
    let mut drafts: Vec<Draft> = removed.collect();
    // A single node is removed without a cause before it; then its own removal is the cause of the rest.
    let cause = cause.unwrap_or(0);
    drafts.extend(nodes.iter().filter(|node| node.session.is_some()).map(|node| {
        let reason = SessionEnd::NodeRemoved;
        case.consequence(cause, SessionTerminated { v: Version, node: node.id.clone(), reason })
    }));
    let now = case.context.now;
    let mut revoked = std::collections::BTreeSet::new();
    for node in &nodes {
        for authorization in case.state.live_authorizations_of(&node.id, now) {
            // An authorization between two of the nodes comes up twice.
            if revoked.insert(&authorization.id) {
                drafts.push(case.consequence(cause, revocation(authorization, reason)));
            }
        }
    }
    drafts
}

pub(super) fn revocation(authorization: &Authorization, reason: RevocationReason) -> ConnectionRevoked {
    ConnectionRevoked::new(authorization.id.clone(), reason)
}
