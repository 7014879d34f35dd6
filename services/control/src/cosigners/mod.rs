//! The witnesses of this network's log: they are asked to cosign its checkpoints, after commits and never in their way.
//!
//! One round at a time: the newest checkpoint goes to every witness at once, and what they answer is added to it. Commits
//! that come meanwhile share the next round.
//!
//! **What is published.** As long as witnesses keep up, `/log/checkpoint` is the newest checkpoint that a quorum has
//! cosigned, a fraction of a second behind the log. When they have been behind for [`MAX_LAG`], it is the newest signed one
//! again, so that the log does not seem to stand still; it says itself who has cosigned it. What was published once
//! is never followed by a smaller one.

mod client;
mod file;
mod round;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use writ_ledger::store::Reader;
use writ_ledger::{CosignedHistory, SignedCheckpoint};

use crate::config::{Panel, Witness};
use crate::sequencer::SequencerHandle;

/// How long witnesses may be behind before the newest checkpoint is published without them.
pub const MAX_LAG: Duration = Duration::from_secs(60);

/// How long evidence may wait for cosignatures.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a witness is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Who.
    pub witness: Witness,
    /// Size of the newest checkpoint that it has cosigned for this process.
    pub cosigned_size: Option<u64>,
    /// When, by the witness's clock, in Unix seconds.
    pub cosigned_at: Option<u64>,
    /// Requests that it did not answer with a cosignature.
    pub failures: u64,
    /// What was wrong with the last request, if something was.
    pub problem: Option<String>,
}

/// What the witnesses have cosigned.
#[derive(Debug)]
struct Board {
    log: Reader,
    panel: Panel,
    statuses: RwLock<Vec<WitnessStatus>>,
    /// The newest checkpoint that a quorum has cosigned.
    cosigned: RwLock<Option<Arc<SignedCheckpoint>>>,
    /// Some of those before it.
    history: RwLock<CosignedHistory>,
    /// Since when there has been a checkpoint without quorum that is newer.
    behind_since: RwLock<Option<Instant>>,
    /// The largest size that was published.
    published: AtomicU64,
    file: PathBuf,
}

/// The witnesses of the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cosigners(Arc<Board>);

impl Cosigners {
    /// Asks nobody until [`Cosigners::run`]. What was cosigned before is read from the file.
    pub fn new(log: Reader, panel: Panel, file: PathBuf) -> Self {
        let status = |witness: &Witness| WitnessStatus {
            witness: witness.clone(),
            cosigned_size: None,
            cosigned_at: None,
            failures: 0,
            problem: None,
        };
        let statuses = panel.witnesses.iter().map(status).collect();
        let cosigned = file::read(&file, &log, &panel).map(Arc::new);
        let history = file::read_history(&file);
        Self(Arc::new(Board {
            log,
            panel,
            statuses: RwLock::new(statuses),
            cosigned: RwLock::new(cosigned),
            history: RwLock::new(history),
            behind_since: RwLock::new(None),
            published: AtomicU64::new(0),
            file,
        }))
    }

    /// Asks after every commit, until it is stopped.
    pub fn run(&self, sequencer: &SequencerHandle, stopping: CancellationToken) {
        if !self.0.panel.witnesses.is_empty() {
            tokio::spawn(round::run(self.clone(), sequencer.subscribe(), stopping));
        }
    }

    /// The checkpoint that the log shows to everybody.
    pub fn published(&self) -> Arc<SignedCheckpoint> {
        let newest = self.newest();
        let chosen = match self.cosigned() {
            Some(cosigned) if !self.is_late() => cosigned,
            _ => newest.clone(),
        };
        let size = chosen.checkpoint().size;
        let before = self.0.published.fetch_max(size, Ordering::Relaxed);
        if size < before { newest } else { chosen }
    }

    /// The newest signed checkpoint, with its cosignatures where it has any already.
    pub fn newest(&self) -> Arc<SignedCheckpoint> {
        let newest = self.0.log.checkpoint();
        match self.cosigned() {
            Some(cosigned) if cosigned.checkpoint() == newest.checkpoint() => cosigned,
            _ => newest,
        }
    }

    /// A checkpoint that covers this many records: a cosigned one if it can be, else the newest.
    pub fn covering(&self, size: u64) -> Arc<SignedCheckpoint> {
        match self.cosigned() {
            Some(cosigned) if cosigned.checkpoint().size >= size => cosigned,
            _ => self.newest(),
        }
    }

    /// The same, but a cosigned one is waited for as long as one comes soon: witnesses are a fraction of a second behind.
    pub async fn covering_soon(&self, size: u64) -> Arc<SignedCheckpoint> {
        let since = *self.0.behind_since.read().unwrap_or_else(PoisonError::into_inner);
        let is_away = since.is_some_and(|since| since.elapsed() > PATIENCE);
        let deadline = Instant::now() + if is_away || self.quorum() == 0 { Duration::ZERO } else { PATIENCE };
        loop {
            let is_covered = self.cosigned().is_some_and(|signed| signed.checkpoint().size >= size);
            if is_covered || Instant::now() >= deadline {
                return self.covering(size);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The newest checkpoint that a quorum has cosigned.
    pub fn cosigned(&self) -> Option<Arc<SignedCheckpoint>> {
        self.0.cosigned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checkpoints that a quorum has cosigned before, thinned with age.
    pub fn history(&self) -> CosignedHistory {
        self.0.history.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the witnesses are doing.
    pub fn statuses(&self) -> Vec<WitnessStatus> {
        self.0.statuses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many have to cosign what is published; 0 without witnesses.
    pub fn quorum(&self) -> usize {
        self.0.panel.quorum
    }

    fn is_late(&self) -> bool {
        let since = *self.0.behind_since.read().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > MAX_LAG)
    }

    fn note_behind(&self, behind: bool) {
        let mut since = self.0.behind_since.write().unwrap_or_else(PoisonError::into_inner);
        *since = if behind { since.or_else(|| Some(Instant::now())) } else { None };
    }

    fn note(&self, at: usize, change: impl FnOnce(&mut WitnessStatus)) {
        let mut statuses = self.0.statuses.write().unwrap_or_else(PoisonError::into_inner);
        statuses.get_mut(at).map(change).unwrap_or_default();
    }

    /// Takes in a checkpoint that a quorum has cosigned.
    fn publish(&self, cosigned: SignedCheckpoint) {
        if let Err(error) = file::write(&self.0.file, cosigned.text()) {
            tracing::warn!(%error, file = %self.0.file.display(), "the cosigned checkpoint cannot be kept on disk");
        }
        self.remember(&cosigned);
        *self.0.cosigned.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(cosigned));
    }

    fn remember(&self, cosigned: &SignedCheckpoint) {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let mut history = self.0.history.write().unwrap_or_else(PoisonError::into_inner);
        if history.add(now, cosigned.text())
            && let Err(error) = file::write_history(&self.0.file, &history)
        {
            tracing::warn!(%error, file = %self.0.file.display(), "the history of cosigned checkpoints cannot be kept on disk");
        }
    }
}
