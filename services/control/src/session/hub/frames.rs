//! What nodes are told, as frames: numbered, proven and queued.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use jiff::Timestamp;
use writ_relay::relay_key;
use writ_schema::event::Side;
use writ_schema::protocol::{
    Authorized, MAX_SERVER_FRAME_BYTES, Peer, RelayAccess, ServerFrame, ServerMessage, Snapshot,
};
use writ_schema::{NodeId, RequestId, Seq};

use super::super::entry::{Entry, QUEUE_FRAMES, Stop};
use super::super::proofs::{ProofFailure, Prover};
use super::super::pushes::Push;
use super::Hub;
use crate::core::State;
use crate::core::state::AuthorizationEnd;
use crate::vault::Vault;

/// How long a removed node may still send its last acknowledgements.
const REMOVAL_GRACE: Duration = Duration::from_secs(3);

/// Authorizations in one snapshot: at some three thousand bytes each they take half of the longest frame.
const MAX_SNAPSHOT_AUTHORIZATIONS: usize = 640;

/// Withdrawals that a node is told of in one go after a snapshot: half of what its socket's queue takes.
const WITHDRAWALS_AT_ONCE: usize = QUEUE_FRAMES / 2;

impl Hub {
    /// Tells a node what a record means to it, with proof.
    pub(super) fn push(
        &mut self,
        node: &NodeId,
        push: Push,
        request: Option<RequestId>,
        trace: Option<String>,
    ) {
        let Some(entry) = self.entries.get_mut(node) else { return };
        let record = match &push {
            Push::Authorized { record, .. }
            | Push::Revoked { record, .. }
            | Push::PeerKey { record, .. }
            | Push::Removed { record } => *record,
        };
        if matches!(push, Push::Removed { .. }) {
            self.removed.push((node.clone(), Instant::now() + REMOVAL_GRACE));
        }
        // A withdrawal is told even to a node whose snapshot has it already, so that it can be acknowledged.
        let is_known = record.0 < entry.known && !matches!(push, Push::Revoked { .. });
        if is_known && request.is_none() {
            return;
        }
        self.frame(node, trace, |hub, prover| hub.message(prover, push, request));
    }

    /// Tells a node of the next withdrawal that waits for earlier ones to be carried out.
    pub(super) fn push_next_withdrawal(&mut self, node: &NodeId) {
        let waiting = self.entries.get_mut(node).and_then(|entry| entry.later_withdrawals.pop_front());
        if let Some(next) = waiting {
            self.push(node, next, None, None);
        }
    }

    /// Tells a node what needs no proof.
    pub(super) fn tell(&mut self, node: &NodeId, message: ServerMessage, trace: Option<String>) {
        self.frame(node, trace, |_, _| Ok((message, false)));
    }

    /// Everything anew. What the node is to withdraw and has not acknowledged is told once more after it, by this or an
    /// earlier run of the control plane: the log knows.
    pub(super) fn tell_everything(&mut self, node: &NodeId) {
        let made = {
            let state = self.parts.sequencer.state();
            let own = state.node(node).map(|node| {
                (
                    self.netmap_of(&state, node),
                    self.live_of(&state, &node.id),
                    withdrawals_of(&state, &node.id),
                )
            });
            own.map(|own| (own, state.size()))
        };
        let Some(((netmap, live, mut withdrawals), known)) = made else { return };
        let Some(entry) = self.entries.get_mut(node) else { return };
        entry.known = known;
        entry.later_withdrawals = withdrawals.split_off(withdrawals.len().min(WITHDRAWALS_AT_ONCE));
        entry.netmap = Some(netmap.clone());
        let relay = RelayAccess {
            address: self.parts.relay_address,
            key: BASE64.encode(relay_key(&self.parts.relay_secret, node).expose_bytes()),
            stun: self.parts.stun_servers.clone(),
        };
        self.frame(node, None, |hub, prover| {
            let authorized =
                |(record, side, peer): (Seq, Side, NodeId)| hub.authorized(prover, record, side, &peer, None);
            // A node that holds more than fit asks for the others anew when it has packets for them.
            let told = live.into_iter().take(MAX_SNAPSHOT_AUTHORIZATIONS);
            let authorizations = told.map(authorized).collect::<Result<_, _>>()?;
            Ok((ServerMessage::Snapshot(Snapshot { netmap, authorizations, relay }), true))
        });
        for withdrawal in withdrawals {
            self.push(node, withdrawal, None, None);
        }
    }

    fn live_of(&self, state: &State, node: &NodeId) -> Vec<(Seq, Side, NodeId)> {
        let live = state.live_authorizations_of(node, Timestamp::now());
        live.filter(|authorization| !authorization.is_closed())
            .filter_map(|authorization| {
                let side = authorization.side_of(node)?;
                let peer = match side {
                    Side::Source => authorization.destination.clone(),
                    Side::Destination => authorization.source.as_ref()?.node.clone(),
                };
                Some((authorization.record, side, peer))
            })
            .collect()
    }

    /// Makes a frame for a node, numbers it and queues it.
    pub(super) fn frame(
        &mut self,
        node: &NodeId,
        trace: Option<String>,
        make: impl FnOnce(&Self, &Prover<'_, Vault>) -> Result<(ServerMessage, bool), ProofFailure>,
    ) {
        let Some(entry) = self.entries.get(node).filter(|entry| entry.takes_frames()) else { return };
        let (number, told) = (entry.outbox.next(), entry.outbox.told());
        let prover = Prover::new(
            &self.parts.log,
            self.parts.sequencer.vault(),
            self.parts.cosigners.newest(),
            self.parts.sequencer.state().log_key_changes(),
        );
        let made = make(self, &prover).and_then(|(message, has_proofs)| {
            let is_newer = has_proofs && prover.size() > told;
            let checkpoint = is_newer.then(|| prover.checkpoint_from(told)).transpose()?;
            let told = if is_newer { prover.size() } else { told };
            let frame = ServerFrame { frame: number, trace, checkpoint, message };
            Ok((serde_json::to_string(&frame).unwrap_or_default(), told))
        });
        let Some(entry) = self.entries.get_mut(node) else { return };
        match made {
            Ok((text, told)) if !text.is_empty() && text.len() <= MAX_SERVER_FRAME_BYTES => {
                let text: Arc<str> = text.into();
                entry.outbox.push(text.clone(), told);
                if let Some(live) = &entry.live {
                    live.queue(text);
                }
            }
            Ok((text, _)) => {
                tracing::error!(%node, bytes = text.len(), "a frame is too long to be sent; the session is ended");
                Self::give_up(entry);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(%node, error, "a frame could not be proven; the session is ended");
                Self::give_up(entry);
            }
        }
    }

    /// The node comes back and gets everything anew.
    fn give_up(entry: &mut Entry) {
        let told = entry.outbox.told();
        entry.outbox.start_anew(told);
        if let Some(live) = &mut entry.live {
            live.stop(Stop::Resync);
        }
    }

    fn message(
        &self,
        prover: &Prover<'_, Vault>,
        push: Push,
        request: Option<RequestId>,
    ) -> Result<(ServerMessage, bool), ProofFailure> {
        let message = match push {
            Push::Authorized { record, side, peer, .. } => {
                ServerMessage::Authorized(Box::new(self.authorized(prover, record, side, &peer, request)?))
            }
            Push::Revoked { authorization, record, reason } => {
                ServerMessage::Revoked { authorization, reason, record: prover.prove(record)? }
            }
            Push::PeerKey { node, record } => ServerMessage::PeerKey { node, record: prover.prove(record)? },
            Push::Removed { record } => ServerMessage::Removed { record: prover.prove(record)? },
        };
        Ok((message, true))
    }

    fn authorized(
        &self,
        prover: &Prover<'_, Vault>,
        record: Seq,
        side: Side,
        peer: &NodeId,
        request: Option<RequestId>,
    ) -> Result<Authorized, ProofFailure> {
        let keys = {
            let state = self.parts.sequencer.state();
            state.node_ever(peer).map(|node| (node.joined, node.rotated))
        };
        let (joined, rotated) = keys.ok_or(ProofFailure::Record(record))?;
        let candidates = self.entries.get(peer).map(|entry| entry.candidates.clone()).unwrap_or_default();
        let peer = Peer {
            node: peer.clone(),
            join: prover.prove(joined)?,
            rotation: rotated.map(|seq| prover.prove(seq)).transpose()?,
            candidates,
        };
        Ok(Authorized { request, side, record: prover.prove_authorized(record)?, peer })
    }
}

/// What a node is still to withdraw.
fn withdrawals_of(state: &State, node: &NodeId) -> VecDeque<Push> {
    let waiting = state.unacknowledged_withdrawals_of(node).into_iter();
    let told = waiting.map(|(authorization, AuthorizationEnd { record, reason })| Push::Revoked {
        authorization: authorization.id.clone(),
        record,
        reason,
    });
    told.collect()
}
