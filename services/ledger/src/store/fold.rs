//! The rule by which every reader of a topic arrives at the same log. Pure: entries go in, verdicts come out.
//!
//! Anybody who may write to the topic can add an entry at any time: a writer that was shut out and does not know it yet, a
//! retry that was thought lost, a program that has nothing to do with this. So the topic's order decides, and nothing else:
//!
//! - an `open` of a **newer epoch** makes its writer the one whose batches count;
//! - a `batch` counts if it is of the **current epoch** and **continues the log**: its first sequence number is the log's size
//!   and its previous root the log's root;
//! - anything else is ignored, and counted by its [`Reason`].
//!
//! What a broker says of transactions (committed, aborted) is no part of the rule: a reader that is shown more or less of
//! them would arrive at another log. Everything that is in the topic is judged.

use std::cmp::Ordering;

use super::entry::{BatchHead, Entry, EntryProblem, Epoch, LogId, Open, WriterId};
use crate::tree::{Frontier, leaf_hash};

/// How far one `open` may raise the epoch: far more than anybody needs, and too little to use all numbers up.
pub const MAX_EPOCH_STEP: u64 = 1 << 32;

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Its writer is now the one whose batches count.
    Opened,
    /// Its records are now the last of the log.
    Continued(Vec<&'a [u8]>),
    /// Nothing.
    Ignored(Reason),
}

/// Why an entry is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is no entry.
    Malformed,
    /// It belongs to another log, or comes before any writer has opened this one.
    OtherLog,
    /// A writer that was shut out, or that opened too late.
    OldEpoch,
    /// An epoch too far ahead, or a batch of one that nobody has opened.
    UnopenedEpoch,
    /// A batch that does not begin where the log ends.
    OtherSize,
    /// A batch that does not continue this log's tree.
    OtherRoot,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::OtherLog,
        Self::OldEpoch,
        Self::UnopenedEpoch,
        Self::OtherSize,
        Self::OtherRoot,
    ];
}

/// The writer whose batches count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentWriter {
    /// Which log.
    pub log: LogId,
    /// The log's origin, as its first writer gave it.
    pub origin: String,
    /// The epoch.
    pub epoch: Epoch,
    /// Who.
    pub writer: WriterId,
    /// What an operator calls it.
    pub name: String,
}

/// An entry of a newer version. Newer readers may let it count, so that this one cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of version {version} is in the topic, which this program does not know: use a newer one")]
pub struct UnknownVersion {
    /// The entry's version.
    pub version: u32,
}

/// A log as far as its topic was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold {
    current: Option<CurrentWriter>,
    frontier: Frontier,
    ignored: [u64; Reason::ALL.len()],
}

impl Fold {
    /// Before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where an earlier fold has come to.
    #[must_use]
    pub fn resume(current: CurrentWriter, frontier: Frontier) -> Self {
        Self { current: Some(current), frontier, ignored: Default::default() }
    }

    /// The writer whose batches count; none before the first one.
    #[must_use]
    pub fn current(&self) -> Option<&CurrentWriter> {
        self.current.as_ref()
    }

    /// The epoch that counts; 0 before the first one.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.current.as_ref().map_or(Epoch(0), |current| current.epoch)
    }

    /// The tree of the log.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// How many entries were ignored for a reason.
    #[must_use]
    pub fn ignored(&self, reason: Reason) -> u64 {
        self.ignored.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many entries were ignored.
    #[must_use]
    pub fn ignored_entries(&self) -> u64 {
        self.ignored.iter().sum()
    }

    /// Judges the next entry of the topic.
    ///
    /// # Errors
    /// When it is of a newer version. Nothing has changed then.
    pub fn apply<'a>(&mut self, entry: &'a [u8]) -> Result<Verdict<'a>, UnknownVersion> {
        let judged = match Entry::decode(entry) {
            Ok(Entry::Open(open)) => self.judge_open(&open).map(|()| {
                self.take_over(open);
                Verdict::Opened
            }),
            Ok(Entry::Batch(head, records)) => self.judge_batch(&head).map(|()| {
                for record in &records {
                    self.frontier.push(leaf_hash(record));
                }
                Verdict::Continued(records)
            }),
            Err(EntryProblem::Malformed) => Err(Reason::Malformed),
            Err(EntryProblem::Unknown(log, version)) => match &self.current {
                Some(current) if current.log != log => Err(Reason::OtherLog),
                Some(_) | None => return Err(UnknownVersion { version }),
            },
        };
        Ok(judged.unwrap_or_else(|reason| {
            if let Some(count) = self.ignored.get_mut(reason as usize) {
                *count += 1;
            }
            Verdict::Ignored(reason)
        }))
    }

    fn judge_open(&self, open: &Open) -> Result<(), Reason> {
        let epoch = self.epoch();
        match &self.current {
            Some(current) if current.log != open.log || current.origin != open.origin => {
                Err(Reason::OtherLog)
            }
            _ if open.epoch <= epoch => Err(Reason::OldEpoch),
            _ if open.epoch.0 - epoch.0 > MAX_EPOCH_STEP => Err(Reason::UnopenedEpoch),
            _ => Ok(()),
        }
    }

    fn take_over(&mut self, open: Open) {
        let Open { log, epoch, writer, name, origin, .. } = open;
        self.current = Some(CurrentWriter { log, origin, epoch, writer, name });
    }

    fn judge_batch(&self, batch: &BatchHead) -> Result<(), Reason> {
        let Some(current) = self.current.as_ref().filter(|current| current.log == batch.log) else {
            return Err(Reason::OtherLog);
        };
        match batch.epoch.cmp(&current.epoch) {
            Ordering::Less => Err(Reason::OldEpoch),
            Ordering::Greater => Err(Reason::UnopenedEpoch),
            Ordering::Equal if batch.first != self.frontier.size() => Err(Reason::OtherSize),
            Ordering::Equal if batch.previous_root != self.frontier.root() => Err(Reason::OtherRoot),
            Ordering::Equal => Ok(()),
        }
    }
}
