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
use writ_ledger::Log;
use writ_schema::protocol::AUTHORIZATION_SECONDS;

use crate::vault::Vault;

use handle::{Message, Shared};
use writer::Writer;

pub use handle::{Commit, OpenRecord, Outcome, SequencerHandle, SubmitError};
pub use metrics::Metrics;
pub use replay::{ReplayError, open_record};
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
    /// The clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            authorization_life: SignedDuration::from_secs(AUTHORIZATION_SECONDS),
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
        log: Log,
        vault: Vault,
        options: Options,
    ) -> Result<(SequencerHandle, SequencerGuard), StartError> {
        let state = replay::replay(log.reader(), &vault)?;
        let (queue, waiting) = mpsc::sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            committed: RwLock::new(state.clone()),
            commits: broadcast::Sender::new(SUBSCRIBER_LAG),
            log: log.reader().clone(),
            signer: log.signer(),
            vault,
            metrics: Metrics::default(),
            problem: RwLock::new(None),
        });
        let mut writer = Writer::new(log, shared.clone(), state, options);
        writer.open();
        let thread = std::thread::Builder::new().name("sequencer".to_owned());
        let thread = thread.spawn(move || writer.run(&waiting))?;
        let guard = SequencerGuard { queue: queue.clone(), thread };
        Ok((SequencerHandle { shared, queue }, guard))
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
