//! The sequencer: the one writer of the log.
//!
//! A thread of its own drains a bounded queue, decides each command on the state as the ones before it left it, appends
//! all that results in one durable commit, makes it visible and then answers everybody. Whatever is visible is durable:
//!
//! - *working* state: what the commands of the commit in the making are decided on; only the thread sees it;
//! - *committed* state: what readers see; it follows the log after each append.
//!
//! When an append fails, the working state is thrown away for a copy of the committed one, and everybody in the commit
//! is told that nothing was done.

mod commit;
mod digest;
mod handle;
mod metrics;
mod replay;
mod seal;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::RwLock;
use std::sync::mpsc;
use std::thread::JoinHandle;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;
use writ_ledger::store::HandOverError;
use writ_ledger::{Log, Signer};
use writ_schema::Seq;
use writ_schema::protocol::AUTHORIZATION_SECONDS;

use crate::core::State;
use crate::vault::Vault;

use handle::{Message, Shared};
use writer::Writer;

pub use handle::{Commit, KeyChangeError, OpenRecord, Outcome, SequencerHandle, SubmitError};
pub use metrics::Metrics;
pub use replay::{ReplayError, bind_vault, open_record};
#[cfg(test)]
pub(crate) use seal::seal as seal_records;

/// Most commands that wait. At 1,000 a second, whoever comes after them would wait for more than a second.
const QUEUE: usize = 1024;

/// Most commits that a subscriber may lag behind before it has to read from the log.
const SUBSCRIBER_LAG: usize = 1024;

/// How the sequencer works.
pub struct Options {
    /// Version of the program, for `log.opened`.
    pub program: String,
    /// How long an authorization lasts.
    pub authorization_life: SignedDuration,
    /// The key that a change of the log's key, begun before, was to bring: if it is recorded, it is finished.
    pub next_key: Option<Box<dyn Signer>>,
    /// The clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            authorization_life: SignedDuration::from_secs(AUTHORIZATION_SECONDS),
            next_key: None,
            clock: Arc::new(Timestamp::now),
        }
    }
}

/// Why the sequencer did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be folded into a state.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The key in hand is not the one that signs the log.
    #[error(
        "the log's key is {log_key} since record {since}, but the one in hand is {found}: set `log_key` to the former, or bring \
         its file back"
    )]
    OtherKey {
        /// The log's key.
        log_key: String,
        /// The record that made it so.
        since: Seq,
        /// The key that was given.
        found: String,
    },
    /// A change of the log's key that was recorded cannot be finished.
    #[error("the change of the log's key cannot be finished: {0}")]
    HandOver(#[from] HandOverError),
    /// No thread could be started.
    #[error("the sequencer's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The sequencer. It runs until it is stopped or every handle is gone.
#[derive(Debug)]
pub struct Sequencer;

impl Sequencer {
    /// Folds the log into a state, carries out erasures that were recorded and not finished, and starts to write.
    pub fn start(
        mut log: Log,
        vault: Vault,
        mut options: Options,
    ) -> Result<(SequencerHandle, SequencerGuard), StartError> {
        let state = replay::replay(log.reader(), &vault)?;
        let has_changed_key = take_key(&mut log, &state, options.next_key.take())?;
        let (queue, waiting) = mpsc::sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            committed: RwLock::new(state.clone()),
            commits: broadcast::Sender::new(SUBSCRIBER_LAG),
            log: log.reader().clone(),
            signer: RwLock::new(log.signer()),
            vault,
            metrics: Metrics::default(),
            problem: RwLock::new(None),
            has_changed_key,
        });
        let mut writer = Writer::new(log, shared.clone(), state, options);
        writer.open();
        let thread = std::thread::Builder::new().name("sequencer".to_owned());
        let thread = thread.spawn(move || writer.run(&waiting))?;
        let guard = SequencerGuard { queue: queue.clone(), thread };
        Ok((SequencerHandle { shared, queue }, guard))
    }
}

/// Signs on with the key that the log says, finishing a change that was recorded and not carried out. Whether there was one.
fn take_key(log: &mut Log, state: &State, next: Option<Box<dyn Signer>>) -> Result<bool, StartError> {
    let Some(network) = state.network() else { return Ok(false) };
    let Some(change) = network.log_keys.last() else { return Ok(false) };
    for change in &network.log_keys {
        log.keep_rotation(&change.rotation())?;
    }
    if change.key == log.verifier_key().to_string() {
        return Ok(false);
    }
    match next.filter(|next| next.verifier_key().to_string() == change.key) {
        Some(next) => {
            log.hand_over(next, &change.rotation())?;
            Ok(true)
        }
        None => Err(StartError::OtherKey {
            log_key: change.key.clone(),
            since: change.seq,
            found: log.verifier_key().to_string(),
        }),
    }
}

/// Whoever holds this can stop the sequencer in order.
#[derive(Debug)]
pub struct SequencerGuard {
    queue: mpsc::SyncSender<Message>,
    thread: JoinHandle<()>,
}

impl SequencerGuard {
    /// Finishes what is in the queue, records that the log is closed, and waits for the end. Later commands are answered
    /// [`SubmitError::Unavailable`]. It blocks: call it off the async runtime.
    pub fn stop(self) {
        // Fails only if the thread has ended already.
        let _ = self.queue.send(Message::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the sequencer's thread ended by a panic; what was answered is in the log");
        }
    }
}
