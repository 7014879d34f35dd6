//! Why something could not be stored, read or opened.

use std::io;
use std::path::{Path, PathBuf};

use super::damage::Damage;
use super::record::RecordProblem;
use crate::checkpoint::CheckpointError;
use crate::key::SignError;
use crate::rotation::{RotationError, RotationsError};

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

/// Why a commit was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records are stored, but their checkpoint cannot be signed; [`Log::lead`](super::Log::lead), or opening the log again, signs and shows them.
    #[error("the commit is stored but not signed, so nobody may rely on it yet; open the log again: {0}")]
    Sign(#[from] SignError),
    /// Records that the store took cannot be read back from it.
    #[error("what the store took cannot be read back: {0}")]
    Read(#[from] ReadError),
}

impl AppendError {
    /// Whether the commit may be stored all the same. Then ask again with the same commands, after [`Log::lead`](super::Log::lead).
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Store(error) => error.is_unknown(),
            Self::Sign(_) | Self::Read(_) => true,
        }
    }
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log has no such record.
    #[error("record {seq} is not in the log")]
    NotThere {
        /// Its sequence number.
        seq: u64,
    },
    /// The log is not that large.
    #[error("the log has {size} records, fewer than the {wanted} asked for")]
    Beyond {
        /// The size asked for.
        wanted: u64,
        /// The log's size.
        size: u64,
    },
    /// The sizes or positions of a proof are in the wrong order.
    #[error("no such proof: {low} is not below {high}")]
    NoSuchProof {
        /// The record or the older size.
        low: u64,
        /// The size or the newer size.
        high: u64,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The records do not give the root that they should.
    #[error(
        "the first {size} records do not give the root of the tree: run `writ log verify` on the log's folder"
    )]
    OtherRoot {
        /// How many.
        size: u64,
    },
    /// A segment was changed under the reader.
    #[error(
        "{path}: record {seq} is not the one that is in the tree, or its hash there is damaged: run `writ log verify` \
         on the log's folder to find out which"
    )]
    Changed {
        /// The segment, or the folder of segments.
        path: PathBuf,
        /// The first record that was read.
        seq: u64,
    },
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log in the folder.
    #[error("{0} holds no log (no folder \"segments\"): name another folder, or make a new log there")]
    NoLog(PathBuf),
    /// There is one already.
    #[error("{0} holds a log already: open it, or make the new one elsewhere")]
    Exists(PathBuf),
    /// Another process writes to it.
    #[error("{0} is open for writing elsewhere: only one process may write to a log; stop the other one")]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint file does not hold.
    #[error("{path}: {source}; restore the file from a copy of this log, or give the key that signed it")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The changes of the log's key cannot be followed.
    #[error(transparent)]
    Rotations(#[from] RotationsError),
    /// Records before the end are damaged.
    #[error(
        "{0}; records that were acknowledged are lost here: restore this segment from a copy, then open again"
    )]
    Damaged(Damage),
    /// Records that the checkpoint covers are not there.
    #[error(
        "the signed checkpoint covers {signed} records, but the segments hold {found} (the last is {segment}, whole \
         up to byte {end}): restore the missing segments from a copy, then open again"
    )]
    Truncated {
        /// The size that was signed.
        signed: u64,
        /// The records that are there.
        found: u64,
        /// The last segment.
        segment: String,
        /// Where its last whole commit ends.
        end: u64,
    },
    /// The records are not those that the checkpoint covers.
    #[error(
        "the records do not give the root of the signed checkpoint of size {signed}: history was changed{}; restore \
         the segments from a copy, then open again",
        .first.as_ref().map(|damage| format!(" ({damage})")).unwrap_or_default()
    )]
    HistoryChanged {
        /// The size that was signed.
        signed: u64,
        /// The first record whose hash is not the one in the tiles, where that can be told.
        first: Option<Damage>,
    },
    /// There is no checkpoint, and it cannot be made.
    #[error("{0}: there is no checkpoint of these records; open the log for writing once to make one")]
    Unsigned(PathBuf),
    /// The checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree cannot be brought up to what the store holds.
    #[error("the log cannot be taken up: {0}")]
    CatchUp(#[source] Box<AppendError>),
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Why a log goes on with its old key.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The new key cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The rotation does not hold.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The new signature does not hold.
    #[error("the new key signed wrongly: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The rotation names another key.
    #[error("the rotation is not to the key {0}")]
    OtherKey(String),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
