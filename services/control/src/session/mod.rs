//! Agents' sessions: who is connected, what they ask, and what they are told.
//!
//! An HTTP handler moves frames; [`Sessions`] is everything else. Whatever an agent wishes becomes a command for the
//! sequencer, and whatever it is told comes from a committed record by way of the [`hub`].

mod asked;
mod entry;
mod hub;
pub mod netmap;
pub mod outbox;
pub mod pace;
pub mod proofs;
pub mod pushes;
mod requests;
pub mod token;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use writ_ledger::store::Reader;
use writ_schema::event::SessionEnd;
use writ_schema::{Actor, CommandId, NodeId};

use crate::core::{Command, Rejection, Submission};
use crate::entropy;
use crate::metrics::Metrics;
use crate::sequencer::{SequencerHandle, SubmitError};

pub use entry::Stop;
pub use hub::Parts;
pub use token::{TokenGate, TokenRefusal};

use asked::AskedBook;
use hub::{Attached, Hub, Input};
use pace::Pace;

/// Messages that may wait for the hub. When it is this far behind, sessions wait.
const HUB_QUEUE: usize = 4096;

/// Locks by which beginnings and ends of one node's sessions follow one another. Nodes share them by chance.
const LIFECYCLE_LOCKS: usize = 256;

/// Questions about the policy a second, and at once, that one agent is answered.
const QUESTIONS_PER_SECOND: u32 = 1;
const QUESTION_BURST: u32 = 16;

/// Attempts to record the end of a session while the sequencer is busy.
const END_ATTEMPTS: u32 = 8;

/// The sessions of all agents. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    sequencer: SequencerHandle,
    log: Reader,
    hub: mpsc::Sender<Input>,
    asked: Arc<AskedBook>,
    gate: TokenGate,
    lifecycle: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
    metrics: Arc<Metrics>,
}

/// A session that is open. Frames come out of it; [`Sessions::close`] must be called when its socket is gone.
pub struct OpenSession {
    node: NodeId,
    number: u64,
    frames: mpsc::Receiver<Arc<str>>,
    behind: Arc<AtomicBool>,
    stop: oneshot::Receiver<Stop>,
    questions: Arc<Mutex<Pace>>,
}

/// What a session has for its socket.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame to send.
    Frame(Arc<str>),
    /// The session is to end.
    Stop(Stop),
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The agent has verified a larger log than this server holds: one of them was rolled back or forked.
    #[error(
        "the agent has verified a log of {verified} records, and this server's has {size}: the log was cut or is \
         not the same one; restore it from a complete copy"
    )]
    LogBehind {
        /// What the agent has verified.
        verified: u64,
        /// What there is.
        size: u64,
    },
    /// The beginning could not be recorded.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The server is going down.
    #[error("the control plane is stopping")]
    Stopping,
}

impl Sessions {
    /// Whether the session's node carries packets for others.
    pub fn carries_routes(&self, open: &OpenSession) -> bool {
        let state = self.shared.sequencer.state();
        state.node(&open.node).is_some_and(|node| node.routes().next().is_some())
    }

    /// Starts the hub on a thread of its own. It ends after [`stop`](Self::stop).
    pub fn start(parts: Parts, gate: TokenGate) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (hub, inputs) = mpsc::channel(HUB_QUEUE);
        let asked = Arc::new(AskedBook::default());
        let shared = Shared {
            sequencer: parts.sequencer.clone(),
            log: parts.log.clone(),
            hub,
            asked: asked.clone(),
            gate,
            lifecycle: (0..LIFECYCLE_LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: RandomState::new(),
            metrics: parts.metrics.clone(),
        };
        // Subscribed before anything can be committed by a session, so that nothing is missed.
        let commits = parts.sequencer.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new()
            .name("hub".to_owned())
            .spawn(move || runtime.block_on(Hub::new(parts, asked).run(inputs, commits)))?;
        Ok((Self { shared: Arc::new(shared) }, thread))
    }

    /// Ends every session and the hub.
    pub async fn stop(&self) {
        // If the hub is gone already there is nothing to end.
        let _ = self.shared.hub.send(Input::Stop).await;
    }

    /// Checks a session token, once.
    pub fn admit(&self, token: &str, now_unix: u64) -> Result<NodeId, TokenRefusal> {
        let state = self.shared.sequencer.state();
        let network = state.network().map(|network| network.created.network.clone());
        let network = network.ok_or(TokenRefusal::WrongNetwork)?;
        self.shared
            .gate
            .admit(token, &network, now_unix, |node| state.node(node).map(|node| node.identity_key))
    }

    /// Records the beginning of a session and puts it in the place of an older one of the same node.
    pub async fn open(
        &self,
        node: NodeId,
        agent: String,
        checkpoint_size: u64,
        last_frame: Option<u64>,
    ) -> Result<OpenSession, OpenError> {
        let size = self.shared.log.size();
        if checkpoint_size > size {
            return Err(OpenError::LogBehind { verified: checkpoint_size, size });
        }
        let _in_turn = self.lifecycle(&node).lock().await;
        self.submit(Actor::Node(node.clone()), Command::StartSession { node: node.clone(), agent }).await?;
        let (answer, attached) = oneshot::channel();
        let attach = Input::Attach { node: node.clone(), checkpoint_size, last_frame, answer };
        self.shared.hub.send(attach).await.map_err(|_| OpenError::Stopping)?;
        let Attached { number, frames, behind, stop } = attached.await.map_err(|_| OpenError::Stopping)?;
        let questions = Pace::per_second(QUESTIONS_PER_SECOND, QUESTION_BURST, Instant::now());
        let questions = Arc::new(Mutex::new(questions));
        Ok(OpenSession { node, number, frames, behind, stop, questions })
    }

    /// Records the end of a session, unless a newer one has taken its place.
    pub async fn close(&self, session: OpenSession, reason: SessionEnd) {
        let OpenSession { node, number, .. } = session;
        let _in_turn = self.lifecycle(&node).lock().await;
        let (answer, was_current) = oneshot::channel();
        let detach = Input::Detach { node: node.clone(), number, answer };
        if self.shared.hub.send(detach).await.is_err() {
            return;
        }
        if was_current.await != Ok(true) || reason == SessionEnd::ControlPlaneStopped {
            return;
        }
        for _ in 0..END_ATTEMPTS {
            let command = Command::EndSession { node: node.clone(), reason };
            match self.submit(Actor::System, command).await {
                Err(SubmitError::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
                // The node's removal ended the session already.
                Ok(_)
                | Err(SubmitError::Rejected {
                    reason: Rejection::NoSession(_) | Rejection::UnknownNode(_),
                    ..
                }) => {
                    return;
                }
                Err(error) => {
                    return tracing::warn!(%node, %error, "the end of a session could not be recorded");
                }
            }
        }
        tracing::warn!(%node, "the end of a session could not be recorded: the sequencer is busy");
    }

    /// Says that a socket has sent all that was queued.
    async fn caught_up(&self, node: NodeId, number: u64) {
        // The hub ends with the process only.
        let _ = self.shared.hub.send(Input::CaughtUp { node, number }).await;
    }

    async fn submit(&self, actor: Actor, command: Command) -> Result<(), SubmitError> {
        let id = entropy::bytes().map_err(|error| SubmitError::Unavailable { why: error.to_string() })?;
        let submission = Submission { id: CommandId::from_bytes(id), actor, command, trace: None };
        self.shared.sequencer.submit(submission).await.map(drop)
    }

    fn lifecycle(&self, node: &NodeId) -> &tokio::sync::Mutex<()> {
        // Never empty: there are always as many as the constant says.
        let index = usize::try_from(self.shared.hasher.hash_one(node)).unwrap_or_default() % LIFECYCLE_LOCKS;
        &self.shared.lifecycle[index]
    }
}

impl OpenSession {
    /// The node.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The next thing for the socket.
    pub async fn next(&mut self) -> Outgoing {
        tokio::select! {
            biased;
            frame = self.frames.recv() => match frame {
                Some(frame) => Outgoing::Frame(frame),
                None => Outgoing::Stop(self.reason().await),
            },
            stop = &mut self.stop => Outgoing::Stop(stop.unwrap_or(Stop::Resync)),
        }
    }

    /// A frame that is waiting, if there is one.
    pub fn waiting(&mut self) -> Option<Arc<str>> {
        self.frames.try_recv().ok()
    }

    /// Tells the hub when a socket that was too slow has sent everything.
    pub async fn sent(&self, sessions: &Sessions) {
        if self.frames.is_empty() && self.behind.load(Ordering::SeqCst) {
            sessions.caught_up(self.node.clone(), self.number).await;
        }
    }

    async fn reason(&mut self) -> Stop {
        match tokio::time::timeout(Duration::from_millis(100), &mut self.stop).await {
            Ok(Ok(stop)) => stop,
            _ => Stop::Resync,
        }
    }
}
