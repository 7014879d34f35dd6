//! What the rest of the control plane holds of the sequencer.

use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::broadcast;
use writ_ledger::Hash;
use writ_schema::{Record, Seq};

use super::Metrics;
use crate::core::{Rejection, State, Submission};
use crate::vault::Vault;

/// A record as it stands in the log, and opened.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, thiserror::Error)]
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
    #[error("busy; try again in {} ms", retry_after.as_millis())]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Another command had the same id.
    #[error("another command had the id {0}; choose a new one for each command")]
    ConflictingCommand(writ_schema::CommandId),
    /// The log cannot be written: nothing took effect.
    #[error("nothing was done, for the log cannot be written: {why}")]
    Unavailable {
        /// What is wrong, and what to do.
        why: String,
    },
}

/// A handle to the sequencer. Cheap to clone.
#[derive(Clone)]
pub struct SequencerHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) committed: RwLock<State>,
    pub(super) commits: broadcast::Sender<Arc<Commit>>,
    pub(super) vault: Vault,
    pub(super) metrics: Metrics,
}

impl SequencerHandle {
    /// Submits a command and waits for its durable answer. The id of a command that was not answered (for whatever
    /// reason) may be submitted again.
    pub async fn submit(&self, submission: Submission) -> Result<Outcome, SubmitError> {
        let _ = submission;
        Err(SubmitError::Unavailable { why: "not started".to_owned() })
    }

    /// The state of all that is durable. Hold the guard shortly, and not across an `await`.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.committed.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Every commit from now on. A receiver that lags is told so, and reads what it missed from the log.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.shared.commits.subscribe()
    }

    /// The vault.
    pub fn vault(&self) -> &Vault {
        &self.shared.vault
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}
