//! What the rest of the control plane holds of the sequencer.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};
use writ_ledger::store::HandOverError;
use writ_ledger::{Bundle, Hash, Reader, SignError, Signer};
use writ_schema::{Actor, CommandId, NodeId, Record, Seq};

use super::Metrics;
use super::digest::confidential_id;
use super::replay::open_record;
use crate::core::state::Answered;
use crate::core::{Rejection, State, Submission};
use crate::vault::Vault;

/// When it is worth coming back to a full queue: a few commits later.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// A record as it stands in the log, and opened.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRecord {
    /// The record, its sealed fields open as far as keys exist.
    pub record: Record,
    /// Its exact bytes.
    pub bytes: Arc<str>,
    /// Its RFC 6962 leaf hash.
    pub leaf: Hash,
}

/// A durable commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its records, in order.
    pub records: Vec<Arc<OpenRecord>>,
    /// The checkpoint that covers them: a signed note.
    pub checkpoint: Arc<str>,
    /// How many records the log holds with them.
    pub size: u64,
    /// How long the append took.
    pub append_time: Duration,
}

/// The answer to a command that was carried out.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Position of the first record.
    pub first: Seq,
    /// The records; none if there was nothing to do.
    pub records: Vec<Arc<OpenRecord>>,
    /// Whether this is the answer to an earlier submission of the same command.
    pub repeated: bool,
}

/// The answer to a command that was not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// It was decided, and the answer is no.
    #[error("{reason}")]
    Rejected {
        /// Why.
        reason: Rejection,
        /// The record of the refusal, where it is one that is recorded: the first of its window.
        record: Option<Seq>,
    },
    /// The queue is full: nothing was decided.
    #[error("too many commands are waiting; try again in {} ms", retry_after.as_millis())]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Another command had the same id.
    #[error("another command had the id {0}; choose a new one for each command")]
    ConflictingCommand(CommandId),
    /// The log's store did not say whether the commit was stored. The same command under the same id tells, once the log can
    /// be written again.
    #[error("it is not known yet whether this was done: {why}")]
    Undecided {
        /// What is wrong.
        why: String,
    },
    /// The log cannot be written: nothing took effect.
    #[error("nothing was done: {why}")]
    Unavailable {
        /// What is wrong, and what to do.
        why: String,
    },
}

/// Why the log's key was not changed, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// It was not recorded: the present key goes on.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// One of both keys cannot sign the change: nothing was done.
    #[error("the change of the key cannot be signed, and nothing was done: {0}")]
    Sign(#[source] SignError),
    /// It is recorded, and nothing more is written until it is finished.
    #[error(
        "the key is changed in record {seq}, but the new one cannot take over yet: {source}; restart writd, which finishes it"
    )]
    Unfinished {
        /// The record.
        seq: Seq,
        /// What is wrong.
        source: HandOverError,
    },
}

/// A handle to the sequencer. Cheap to clone.
#[derive(Clone)]
pub struct SequencerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: SyncSender<Message>,
}

pub(super) struct Shared {
    pub(super) committed: RwLock<State>,
    pub(super) commits: broadcast::Sender<Arc<Commit>>,
    pub(super) log: Reader,
    /// Who signs the log now.
    pub(super) signer: RwLock<Arc<dyn Signer>>,
    pub(super) vault: Vault,
    pub(super) metrics: Metrics,
    /// Why the log cannot be written, from a commit that failed until one succeeds.
    pub(super) problem: RwLock<Option<String>>,
    pub(super) has_changed_key: bool,
}

impl Shared {
    pub(super) fn set_problem(&self, problem: Option<String>) {
        *self.problem.write().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// The first answer to a command again, from the log.
    pub(super) fn repeat(&self, answered: &Answered) -> Result<Outcome, SubmitError> {
        let unavailable = |why: String| SubmitError::Unavailable { why };
        let first = answered.first.0;
        let mut records = Vec::new();
        for entry in self.log.read_range(first..first.saturating_add(u64::from(answered.count))) {
            let (seq, bytes) = entry.map_err(|error| unavailable(error.to_string()))?;
            let open = open_record(seq, &bytes, &self.vault);
            records.push(Arc::new(open.map_err(|error| unavailable(error.to_string()))?));
        }
        Ok(Outcome { first: answered.first, records, repeated: true })
    }
}

/// What the thread is sent.
#[derive(Debug)]
pub(super) enum Message {
    Submit(Box<Pending>),
    RotateKey(Box<KeyChange>),
    Stop,
}

/// The log's next key, who brings it in, and whom to tell.
pub(super) struct KeyChange {
    pub(super) next: Box<dyn Signer>,
    pub(super) id: CommandId,
    pub(super) actor: Actor,
    pub(super) answer: oneshot::Sender<Result<Outcome, KeyChangeError>>,
}

impl fmt::Debug for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyChange")
    }
}

/// A command that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) submission: Submission,
    pub(super) answer: oneshot::Sender<Result<Outcome, SubmitError>>,
}

impl fmt::Debug for SequencerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SequencerHandle")
    }
}

impl SequencerHandle {
    /// Submits a command and waits for its durable answer. A command that was not answered, for whatever reason, may be
    /// submitted again under its id.
    pub async fn submit(&self, submission: Submission) -> Result<Outcome, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let metrics = &self.shared.metrics;
        // Counted before it is sent: the thread may take it at once.
        metrics.queued.fetch_add(1, Ordering::Relaxed);
        let pending = Box::new(Pending { submission, answer });
        if let Err(error) = self.queue.try_send(Message::Submit(pending)) {
            metrics.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(match error {
                TrySendError::Full(_) => {
                    Metrics::add(&metrics.turned_away, 1);
                    SubmitError::Busy { retry_after: RETRY_AFTER }
                }
                TrySendError::Disconnected(_) => stopped(),
            });
        }
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Changes the log's key: recorded under the present one, in a commit of its own, and in force from there on. The command
    /// brings about the change to this one key: look at [`SequencerHandle::answered`] first where it may be a repeat.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn rotate_key(
        &self,
        next: Box<dyn Signer>,
        id: CommandId,
        actor: Actor,
    ) -> Result<Outcome, KeyChangeError> {
        let (answer, answered) = oneshot::channel();
        let change = Box::new(KeyChange { next, id, actor, answer });
        self.queue.try_send(Message::RotateKey(change)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy { retry_after: RETRY_AFTER },
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answered.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// The first answer to a command, if it is among the last that were carried out.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub fn answered(&self, id: &CommandId) -> Result<Option<Outcome>, SubmitError> {
        let answered = self.state().answered(id).cloned();
        answered.map(|answered| self.shared.repeat(&answered)).transpose()
    }

    /// The state of all that is durable. Hold the guard shortly, not across an `await`, and never two at once in one
    /// thread: a commit waits for it, and a second guard would wait for the commit.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.committed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every commit from now on. A receiver that lags is told so, and reads what it missed from the log.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.shared.commits.subscribe()
    }

    /// The log, for reading.
    pub fn log(&self) -> &Reader {
        &self.shared.log
    }

    /// Vouches for what a bundle says besides its records: question, answer and time. The log's key signs nothing else for
    /// anybody but the sequencer.
    pub fn seal(&self, bundle: &mut Bundle) -> Result<(), SignError> {
        let signer = self.shared.signer.read().unwrap_or_else(PoisonError::into_inner).clone();
        bundle.seal(signer.as_ref())
    }

    /// The vault.
    pub fn vault(&self) -> &Vault {
        &self.shared.vault
    }

    /// The id of a command that a node is behind, the same for a repeat of the same wish. It does not show the node.
    pub fn confidential_id(&self, node: &NodeId, wish: &[&str]) -> Result<CommandId, SubmitError> {
        confidential_id(&self.shared.vault, &self.state(), node, wish)
            .map_err(|error| SubmitError::Unavailable { why: error.to_string() })
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether the start has finished a change of the log's key.
    pub fn has_changed_key(&self) -> bool {
        self.shared.has_changed_key
    }

    /// Whether the last append succeeded.
    pub fn is_writable(&self) -> bool {
        self.problem().is_none()
    }

    /// Why the log cannot be written, and what to do.
    pub fn problem(&self) -> Option<String> {
        self.shared.problem.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn stopped() -> SubmitError {
    SubmitError::Unavailable { why: "the control plane is stopping; try again when it is back".to_owned() }
}
