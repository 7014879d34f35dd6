//! The hub: who is connected, and what each node is told.
//!
//! One task follows the commits in order and owns everything that is said to nodes, so that frames are numbered, proven
//! and queued in one place. It never waits for a node: a socket that is too slow gets everything anew once it has
//! caught up. Relay permits are changed first with each commit, then the ends of connections are told, and only then are
//! netmaps computed, a few at a time between commits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use writ_ledger::store::Reader;
use writ_relay::{RelayHandle, relay_key};
use writ_schema::event::{SessionEnd, Side};
use writ_schema::protocol::{
    Authorized, Candidate, MAX_SERVER_FRAME_BYTES, Netmap, Peer, Reachable, RelayAccess, ServerFrame,
    ServerMessage, Snapshot,
};
use writ_schema::{AuthorizationId, CommandId, NodeId, RequestId, Seq};
use zeroize::Zeroizing;

use super::asked::AskedBook;
use super::entry::{Entry, Live, QUEUE_FRAMES, Stop};
use super::netmap::{Routes, difference, netmap};
use super::outbox::Outbox;
use super::proofs::{ProofFailure, Prover};
use super::pushes::{Push, changes_netmaps, peers, pushes};
use crate::core::State;
use crate::core::state::{AuthorizationEnd, Node};
use crate::cosigners::Cosigners;
use crate::metrics::Metrics;
use crate::relay;
use crate::sequencer::{Commit, SequencerHandle};
use crate::vault::Vault;

/// Changes of the network within this time are told in one netmap.
const NETMAP_DEBOUNCE: Duration = Duration::from_millis(50);

/// Netmaps that are computed before commits are looked at again.
const NETMAPS_AT_ONCE: usize = 32;

/// How long a node's frames are kept after its session ended.
const KEPT_AFTER_SESSION: Duration = Duration::from_secs(300);

/// How long a removed node may still send its last acknowledgements.
const REMOVAL_GRACE: Duration = Duration::from_secs(3);

/// Authorizations in one snapshot: at some three thousand bytes each they take half of the longest frame.
const MAX_SNAPSHOT_AUTHORIZATIONS: usize = 640;

/// Withdrawals that a node is told of in one go after a snapshot: half of what its socket's queue takes.
const WITHDRAWALS_AT_ONCE: usize = QUEUE_FRAMES / 2;

const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What sessions ask of the hub.
pub(super) enum Input {
    Attach {
        node: NodeId,
        checkpoint_size: u64,
        last_frame: Option<u64>,
        answer: oneshot::Sender<Attached>,
    },
    Detach {
        node: NodeId,
        number: u64,
        answer: oneshot::Sender<bool>,
    },
    CaughtUp {
        node: NodeId,
        number: u64,
    },
    Candidates {
        node: NodeId,
        candidates: Vec<Candidate>,
    },
    Tell {
        node: NodeId,
        number: u64,
        message: Box<ServerMessage>,
        trace: Option<String>,
    },
    AuthorizedAgain {
        node: NodeId,
        authorization: AuthorizationId,
        request: RequestId,
        trace: Option<String>,
    },
    KeyAgain {
        node: NodeId,
        record: Seq,
    },
    Consistency {
        node: NodeId,
        number: u64,
        request: RequestId,
        size: u64,
    },
    Cosigned {
        node: NodeId,
        number: u64,
        request: RequestId,
    },
    Stop,
}

/// A session as the hub has taken it.
pub(super) struct Attached {
    /// Number of the session.
    pub number: u64,
    /// Frames to send.
    pub frames: mpsc::Receiver<Arc<str>>,
    /// Set while frames are held back because the socket is too slow.
    pub behind: Arc<AtomicBool>,
    /// Resolves when the session is to end.
    pub stop: oneshot::Receiver<Stop>,
}

/// What the hub works with.
pub struct Parts {
    /// Where commits come from.
    pub sequencer: SequencerHandle,
    /// The log.
    pub log: Reader,
    /// The relay, whose permits follow the commits.
    pub relay: RelayHandle,
    /// The secret that the nodes' relay keys follow from.
    pub relay_secret: Zeroizing<[u8; 32]>,
    /// The relay's address as agents see it.
    pub relay_address: SocketAddr,
    /// Who cosigns the log.
    pub cosigners: Cosigners,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

pub(super) struct Hub {
    parts: Parts,
    asked: Arc<AskedBook>,
    entries: HashMap<NodeId, Entry>,
    next_session: u64,
    stale_netmaps: VecDeque<NodeId>,
    netmaps_due: Option<Instant>,
    removed: Vec<(NodeId, Instant)>,
}

impl Hub {
    pub(super) fn new(parts: Parts, asked: Arc<AskedBook>) -> Self {
        Self {
            parts,
            asked,
            entries: HashMap::new(),
            next_session: 1,
            stale_netmaps: VecDeque::new(),
            netmaps_due: None,
            removed: Vec::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut commits: broadcast::Receiver<Arc<Commit>>,
    ) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        relay::set_all(&self.parts.relay, &self.parts.sequencer.state(), Timestamp::now());
        loop {
            let netmaps_wait = self.netmaps_wait();
            tokio::select! {
                biased;
                commit = commits.recv() => match commit {
                    Ok(commit) => self.handle_commit(&commit),
                    Err(RecvError::Lagged(missed)) => self.start_over(missed),
                    Err(RecvError::Closed) => break,
                },
                input = inputs.recv() => match input {
                    Some(Input::Stop) | None => break,
                    Some(input) => self.handle_input(input),
                },
                _ = housekeeping.tick() => self.keep_house(Instant::now()),
                () = tokio::time::sleep(netmaps_wait.unwrap_or_default()), if netmaps_wait.is_some() => {
                    self.tell_netmaps();
                }
            }
        }
        for entry in self.entries.values_mut() {
            if let Some(live) = &mut entry.live {
                live.stop(Stop::End(SessionEnd::ControlPlaneStopped));
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::Attach { node, checkpoint_size, last_frame, answer } => {
                let attached = self.attach(&node, checkpoint_size, last_frame);
                // Whoever asked may be gone; then the session ends like any other whose socket closed.
                if answer.send(attached).is_err() {
                    self.forget_session(&node);
                }
            }
            Input::Detach { node, number, answer } => {
                let was_current = self.is_current(&node, number);
                if was_current {
                    self.forget_session(&node);
                }
                let _ = answer.send(was_current);
            }
            Input::CaughtUp { node, number } if self.is_current(&node, number) => {
                if let Some(live) = self.entries.get(&node).and_then(|entry| entry.live.as_ref()) {
                    live.behind.store(false, Ordering::SeqCst);
                }
                self.tell_everything(&node);
            }
            Input::Candidates { node, candidates } => self.take_candidates(&node, candidates),
            Input::Tell { node, number, message, trace } if self.is_current(&node, number) => {
                self.tell(&node, *message, trace);
            }
            Input::AuthorizedAgain { node, authorization, request, trace } => {
                self.answer_again(&node, &authorization, request, trace);
            }
            Input::KeyAgain { node, record } => {
                self.push(&node, Push::PeerKey { node: node.clone(), record }, None, None);
            }
            Input::Consistency { node, number, request, size } if self.is_current(&node, number) => {
                self.prove_consistency(&node, request, size);
            }
            Input::Cosigned { node, number, request } if self.is_current(&node, number) => {
                self.show_cosigned(&node, request);
            }
            Input::CaughtUp { .. }
            | Input::Tell { .. }
            | Input::Consistency { .. }
            | Input::Cosigned { .. }
            | Input::Stop => {}
        }
    }

    fn handle_commit(&mut self, commit: &Commit) {
        let now = Timestamp::now();
        let mut told = Vec::new();
        let mut netmaps = false;
        {
            let state = self.parts.sequencer.state();
            for record in &commit.records {
                relay::follow(&self.parts.relay, record, &state, now);
                let trace = self.asked.trace_of(&record.record.command.id);
                told.extend(
                    pushes(record, &state, now).into_iter().map(|(node, push)| (node, push, trace.clone())),
                );
                netmaps |= changes_netmaps(record);
            }
        }
        // Removal last: a node that is told so stops, and would not acknowledge what comes after.
        told.sort_by_key(|(_, push, _)| matches!(push, Push::Removed { .. }));
        for (node, push, trace) in told {
            let request = match &push {
                Push::Authorized { command, side: Side::Source, .. } => self.asked.take(command, &node),
                _ => None,
            };
            self.push(&node, push, request, trace);
        }
        if netmaps {
            self.netmaps_due.get_or_insert_with(|| Instant::now() + NETMAP_DEBOUNCE);
        }
        self.parts.metrics.commit(commit);
    }

    /// Commits were missed: everybody gets everything anew from the state, which has them.
    fn start_over(&mut self, missed: u64) {
        tracing::warn!(missed, "sessions fell behind the log; every node is told everything anew");
        relay::set_all(&self.parts.relay, &self.parts.sequencer.state(), Timestamp::now());
        let nodes: Vec<NodeId> = self.entries.keys().cloned().collect();
        for node in nodes {
            self.tell_everything(&node);
        }
        let authorized = self.asked.take_authorized(&self.parts.sequencer.state(), Timestamp::now());
        for (node, request, authorization) in authorized {
            self.answer_again(&node, &authorization, request, None);
        }
    }

    fn attach(&mut self, node: &NodeId, checkpoint_size: u64, last_frame: Option<u64>) -> Attached {
        let number = self.next_session;
        self.next_session += 1;
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES);
        let (stop, stopped) = oneshot::channel();
        let behind = Arc::new(AtomicBool::new(false));
        // Of a node that this hub does not know, nobody can say what it has missed.
        let is_known = self.entries.contains_key(node);
        let entry = self
            .entries
            .entry(node.clone())
            .or_insert_with(|| Entry::new(Outbox::new(last_frame, checkpoint_size), Instant::now()));
        if let Some(older) = &mut entry.live {
            older.stop(Stop::End(SessionEnd::Replaced));
        }
        let live = Live { number, queue, behind: behind.clone(), stop: Some(stop) };
        let missed = last_frame
            .filter(|_| is_known)
            .and_then(|last| entry.outbox.missed(last, checkpoint_size))
            .filter(|missed| missed.len() < QUEUE_FRAMES);
        match missed {
            Some(missed) => {
                missed.into_iter().for_each(|text| live.queue(text));
                entry.live = Some(live);
                self.stale_netmaps.push_back(node.clone());
            }
            None => {
                entry.outbox.start_anew(checkpoint_size);
                entry.outbox.go_on_after(last_frame);
                entry.live = Some(live);
                self.tell_everything(node);
            }
        }
        self.parts.metrics.sessions(self.live_sessions());
        Attached { number, frames, behind, stop: stopped }
    }

    fn forget_session(&mut self, node: &NodeId) {
        if let Some(entry) = self.entries.get_mut(node) {
            entry.live = None;
            entry.away_since = Instant::now();
        }
        self.parts.metrics.sessions(self.live_sessions());
    }

    fn live_sessions(&self) -> u64 {
        self.entries.values().filter(|entry| entry.live.is_some()).count() as u64
    }

    fn is_current(&self, node: &NodeId, number: u64) -> bool {
        let live = self.entries.get(node).and_then(|entry| entry.live.as_ref());
        live.is_some_and(|live| live.number == number)
    }

    fn keep_house(&mut self, now: Instant) {
        self.entries.retain(|_, entry| {
            entry.live.is_some() || now.saturating_duration_since(entry.away_since) < KEPT_AFTER_SESSION
        });
        let (over, waiting) = self.removed.drain(..).partition(|(_, until)| *until <= now);
        self.removed = waiting;
        let over: Vec<(NodeId, Instant)> = over;
        for (node, _) in over {
            if let Some(live) = self.entries.get_mut(&node).and_then(|entry| entry.live.as_mut()) {
                live.stop(Stop::End(SessionEnd::NodeRemoved));
            }
        }
    }

    fn take_candidates(&mut self, node: &NodeId, candidates: Vec<Candidate>) {
        let Some(entry) = self.entries.get_mut(node) else { return };
        if entry.candidates == candidates {
            return;
        }
        entry.candidates.clone_from(&candidates);
        let told = peers(&self.parts.sequencer.state(), node, Timestamp::now());
        for peer in told {
            let message = ServerMessage::Candidates { node: node.clone(), candidates: candidates.clone() };
            self.tell(&peer, message, None);
        }
    }

    /// Answers a request that was answered before, if the answer still holds.
    fn answer_again(
        &mut self,
        node: &NodeId,
        id: &AuthorizationId,
        request: RequestId,
        trace: Option<String>,
    ) {
        let live = {
            let state = self.parts.sequencer.state();
            let live = state.authorization(id);
            let live = live.filter(|it| it.is_live(Timestamp::now()) && !it.is_closed());
            live.map(|it| (it.record, it.destination.clone()))
        };
        match live {
            Some((record, peer)) => {
                let command = CommandId::from_bytes([0; 16]);
                let authorization = id.clone();
                let push = Push::Authorized { authorization, record, command, side: Side::Source, peer };
                self.push(node, push, Some(request), trace);
            }
            None => {
                let message = "this request was answered before, and what was authorized has ended; ask anew \
                               with a new request";
                let refused = ServerMessage::Refused {
                    request: Some(request),
                    error: "stale_request".to_owned(),
                    message: message.to_owned(),
                    retry_after_ms: None,
                };
                self.tell(node, refused, trace);
            }
        }
    }

    /// Proves to a node that the log goes on from a checkpoint that a peer of it holds.
    fn prove_consistency(&mut self, node: &NodeId, request: RequestId, asked: u64) {
        let size = self.parts.log.size();
        if asked <= size {
            return self.frame(node, None, |_, prover| Ok((prover.consistency(request, asked)?, true)));
        }
        // Signed by this log's key: either the log was rolled back, or it was told otherwise to somebody else.
        tracing::error!(%node, asked, size, "a node holds a checkpoint of a longer log than this one");
        let message = format!("this log has {size} records, fewer than the {asked} of that checkpoint");
        let error = "beyond_log".to_owned();
        let refused = ServerMessage::Refused { request: Some(request), error, message, retry_after_ms: None };
        self.tell(node, refused, None);
    }

    /// Shows a node what witnesses have cosigned last, and proves that the log goes on from it.
    fn show_cosigned(&mut self, node: &NodeId, request: RequestId) {
        // Taken before the checkpoint of the frame, which covers it therefore.
        if let Some(cosigned) = self.parts.cosigners.cosigned() {
            return self.frame(node, None, |_, prover| Ok((prover.cosigned(request, &cosigned)?, true)));
        }
        let message =
            "no quorum of witnesses has cosigned this log since the control plane started".to_owned();
        let error = "not_cosigned".to_owned();
        let refused = ServerMessage::Refused { request: Some(request), error, message, retry_after_ms: None };
        self.tell(node, refused, None);
    }

    fn push(&mut self, node: &NodeId, push: Push, request: Option<RequestId>, trace: Option<String>) {
        let Some(entry) = self.entries.get_mut(node) else { return };
        let record = match &push {
            Push::Authorized { record, .. }
            | Push::Revoked { record, .. }
            | Push::PeerKey { record, .. }
            | Push::Removed { record } => *record,
            Push::Withdrawn => {
                if let Some(next) = entry.later_withdrawals.pop_front() {
                    self.push(node, next, None, None);
                }
                return;
            }
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

    fn tell(&mut self, node: &NodeId, message: ServerMessage, trace: Option<String>) {
        self.frame(node, trace, |_, _| Ok((message, false)));
    }

    /// Everything anew. What the node is to withdraw and has not acknowledged is told once more after it, by this or an
    /// earlier run of the control plane: the log knows.
    fn tell_everything(&mut self, node: &NodeId) {
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
            stun: Vec::new(),
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
    fn frame(
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
            Push::Withdrawn => return Err(ProofFailure::Record(Seq(0))),
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

    fn netmaps_wait(&self) -> Option<Duration> {
        if !self.stale_netmaps.is_empty() {
            return Some(Duration::ZERO);
        }
        self.netmaps_due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Tells a few nodes how their netmaps have changed.
    fn tell_netmaps(&mut self) {
        if self.netmaps_due.is_some_and(|due| due <= Instant::now()) {
            self.netmaps_due = None;
            let queued: HashSet<NodeId> = self.stale_netmaps.iter().cloned().collect();
            let live =
                self.entries.iter().filter(|(node, entry)| entry.live.is_some() && !queued.contains(*node));
            self.stale_netmaps.extend(live.map(|(node, _)| node.clone()));
        }
        for _ in 0..NETMAPS_AT_ONCE {
            let Some(node) = self.stale_netmaps.pop_front() else { return };
            self.tell_netmap(&node);
        }
    }

    fn tell_netmap(&mut self, id: &NodeId) {
        let new = {
            let state = self.parts.sequencer.state();
            state.node(id).map(|node| self.netmap_of(&state, node))
        };
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.takes_frames()) else { return };
        let (Some(new), Some(old)) = (new, entry.netmap.as_ref()) else { return };
        match difference(old, &new) {
            Some(None) => {}
            Some(Some(delta)) => {
                entry.netmap = Some(new);
                self.tell(id, ServerMessage::NetmapChanged(delta), None);
            }
            None => self.tell_everything(id),
        }
    }

    fn netmap_of(&self, state: &State, node: &Node) -> Netmap {
        let reachable = state.reachable_from(&node.id).into_iter().filter_map(|(peer, services)| {
            Some(Reachable { node: state.node(&peer)?.described(), services })
        });
        let mut reachable: Vec<Reachable> = reachable.collect();
        reachable.sort_by(|a, b| a.node.node.cmp(&b.node.node));
        let network_name = state.network().map(|network| network.created.name.clone()).unwrap_or_default();
        let routes = Routes { reached: state.routes_for(&node.id), approved: node.routes().collect() };
        netmap(network_name, node.described(), reachable, routes)
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
