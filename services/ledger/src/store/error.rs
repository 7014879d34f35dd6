//! Why a store did not take a batch.

use std::io;
use std::path::PathBuf;

use super::record::RecordProblem;

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing in the batch.
    #[error("a commit needs at least one record")]
    EmptyBatch,
    /// The batch is too large.
    #[error(
        "the commit has {records} records of {bytes} bytes; at most {max_records} and {max_bytes} are taken"
    )]
    BatchTooLarge {
        /// Its records.
        records: usize,
        /// Their bytes.
        bytes: usize,
        /// The most records that the store takes at once.
        max_records: usize,
        /// The most bytes that the store takes at once.
        max_bytes: usize,
    },
    /// One of the records is none.
    #[error("record {index} of the commit is refused: {problem}")]
    BadRecord {
        /// Its place in the batch, from 0.
        index: usize,
        /// What is wrong.
        problem: RecordProblem,
    },
    /// The batch does not continue the log.
    #[error("the commit begins at record {found}, but the log has {size}: another writer was here")]
    NotNext {
        /// Where the batch begins.
        found: u64,
        /// The log's size.
        size: u64,
    },
    /// The medium refused; nothing of the batch is stored.
    #[error("{path}: nothing of the commit was stored: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The medium failed so that nobody can tell; the store takes no more until it is opened again.
    #[error("{path}: the commit may or may not have been stored; open the log again to find out: {source}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody newer writes. This writer may never go on; whoever is to write must become the writer anew.
    #[error("{newer} writes this log now: nothing of the commit was stored; ask that one")]
    Deposed {
        /// Who, as far as the store tells.
        newer: String,
    },
    /// This process does not write the log: it follows it, or has not taken it up again since a commit failed.
    #[error("this process is not the writer of the log now: nothing of the commit was stored")]
    NotLeading,
    /// The store cannot be reached or refuses; nothing of the batch is stored.
    #[error("{place}: nothing of the commit was stored: {problem}")]
    Unavailable {
        /// The store.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The store did not say what became of the batch.
    #[error(
        "{place}: the commit may or may not have been stored: {problem}; ask again with the same command id"
    )]
    Undecided {
        /// The store.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A log was to be made where there is one.
    #[error("{place} holds a log already ({origin}, log {log}): name another place for a new one")]
    Taken {
        /// The store.
        place: String,
        /// The origin of the log that is there.
        origin: String,
        /// What tells that log from another of its origin.
        log: String,
    },
    /// What the store holds is not this log any more.
    #[error("{place}: {problem}")]
    Foreign {
        /// The store.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// An earlier failure left the store in doubt.
    #[error("an earlier write or sync failed; open the log again")]
    Poisoned,
}

impl StoreError {
    /// Whether the batch may be stored all the same.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Undecided { .. })
    }
}
