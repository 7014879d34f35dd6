//! The hub: who is connected, and what each node is told.
//!
//! One task follows the commits in order and owns everything that is said to nodes, so that frames are numbered, proven
//! and queued in one place. It never waits for a node: a socket that is too slow gets everything anew once it has
//! caught up. Relay permits are changed first with each commit, then the ends of connections are told, and only then are
//! netmaps computed, a few at a time between commits.

mod answers;
mod frames;
mod netmaps;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use writ_ledger::store::Reader;
use writ_relay::RelayHandle;
use writ_schema::event::{SessionEnd, Side};
use writ_schema::protocol::{Candidate, ServerMessage};
use writ_schema::{AuthorizationId, NodeId, RequestId, Seq};
use zeroize::Zeroizing;

use super::asked::AskedBook;
use super::entry::{Entry, Live, QUEUE_FRAMES, Stop};
use super::outbox::Outbox;
use super::pushes::{Push, changes_netmaps, peers, pushes, withdrawn_by};
use crate::cosigners::Cosigners;
use crate::metrics::Metrics;
use crate::relay;
use crate::sequencer::{Commit, SequencerHandle};

/// How long a node's frames are kept after its session ended.
const KEPT_AFTER_SESSION: Duration = Duration::from_secs(300);

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
    /// STUN servers beside the relay.
    pub stun_servers: Vec<SocketAddr>,
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
        let (mut told, mut withdrawn) = (Vec::new(), Vec::new());
        let mut netmaps = false;
        {
            let state = self.parts.sequencer.state();
            for record in &commit.records {
                relay::follow(&self.parts.relay, record, &state, now);
                let trace = self.asked.trace_of(&record.record.command.id);
                told.extend(
                    pushes(record, &state, now).into_iter().map(|(node, push)| (node, push, trace.clone())),
                );
                withdrawn.extend(withdrawn_by(record, &state));
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
        for node in withdrawn {
            self.push_next_withdrawal(&node);
        }
        if netmaps {
            self.schedule_netmaps();
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
}
