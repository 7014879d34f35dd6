//! What a committed record means to whom.

use jiff::Timestamp;
use writ_schema::event::{AcknowledgedAction, Event, RevocationReason, Side};
use writ_schema::{AuthorizationId, CommandId, NodeId, Seq};

use crate::core::State;
use crate::core::state::Authorization;
use crate::sequencer::OpenRecord;

/// Something to tell one node, before it is made into a frame with proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// A connection may be made.
    Authorized {
        /// Which.
        authorization: AuthorizationId,
        /// Its record.
        record: Seq,
        /// The command that asked for it.
        command: CommandId,
        /// Which end is told.
        side: Side,
        /// The other end.
        peer: NodeId,
    },
    /// An authorization has ended.
    Revoked {
        /// Which.
        authorization: AuthorizationId,
        /// Its record.
        record: Seq,
        /// Why.
        reason: RevocationReason,
    },
    /// A peer, or the node itself, has a new key.
    PeerKey {
        /// Whose.
        node: NodeId,
        /// Its record.
        record: Seq,
    },
    /// The node is no part of the network any more.
    Removed {
        /// Its record.
        record: Seq,
    },
}

/// Whom a record is to be told to, and what.
///
/// The state may be newer than the record; what is told is what the record says.
pub fn pushes(record: &OpenRecord, state: &State, now: Timestamp) -> Vec<(NodeId, Push)> {
    let seq = record.record.seq;
    match &record.record.event {
        Event::ConnectionAuthorized(body) => {
            let Some(source) = body.source.value() else { return Vec::new() };
            let push = |side, peer: &NodeId| Push::Authorized {
                authorization: body.authorization.clone(),
                record: seq,
                command: record.record.command.id.clone(),
                side,
                peer: peer.clone(),
            };
            vec![
                (source.node.clone(), push(Side::Source, &body.destination)),
                (body.destination.clone(), push(Side::Destination, &source.node)),
            ]
        }
        Event::ConnectionRevoked(body) => {
            let push =
                Push::Revoked { authorization: body.authorization.clone(), record: seq, reason: body.reason };
            let ends = state.authorization(&body.authorization).map(ends).unwrap_or_default();
            ends.into_iter().map(|node| (node, push.clone())).collect()
        }
        Event::KeyRotated(body) => {
            let push = Push::PeerKey { node: body.node.clone(), record: seq };
            let mut told = peers(state, &body.node, now);
            told.push(body.node.clone());
            told.into_iter().map(|node| (node, push.clone())).collect()
        }
        Event::NodeRemoved(body) => vec![(body.node.clone(), Push::Removed { record: seq })],
        _ => Vec::new(),
    }
}

/// Who has carried out a withdrawal, by this record: it may be told of the next one that waits.
pub fn withdrawn_by(record: &OpenRecord, state: &State) -> Option<NodeId> {
    let Event::ConnectionAcknowledged(body) = &record.record.event else { return None };
    let authorization = state.authorization(&body.authorization)?;
    let acknowledged =
        || ends(authorization).into_iter().find(|node| authorization.side_of(node) == Some(body.side));
    (body.action == AcknowledgedAction::Withdrawn).then(acknowledged)?
}

/// The nodes at the other end of a node's live authorizations, each once.
pub fn peers(state: &State, node: &NodeId, now: Timestamp) -> Vec<NodeId> {
    let mut peers: Vec<NodeId> =
        state.live_authorizations_of(node, now).flat_map(ends).filter(|end| end != node).collect();
    peers.sort();
    peers.dedup();
    peers
}

/// Whether netmaps may have changed with this record.
pub fn changes_netmaps(record: &OpenRecord) -> bool {
    matches!(
        record.record.event,
        Event::PolicyActivated(_)
            | Event::NodeJoined(_)
            | Event::NodeRemoved(_)
            | Event::NodeRoutesAdvertised(_)
            | Event::NodeRoutesApproved(_)
            | Event::UserProvisioned(_)
            | Event::UserDisabled(_)
            | Event::KeyShredded(_)
            | Event::RetentionLapsed(_)
    )
}

fn ends(authorization: &Authorization) -> Vec<NodeId> {
    let source = authorization.source.as_ref().map(|source| source.node.clone());
    source.into_iter().chain([authorization.destination.clone()]).collect()
}
