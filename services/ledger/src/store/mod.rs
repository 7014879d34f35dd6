//! Where records live: the trait that every store keeps, and the store of plain files.
//!
//! # Files
//!
//! ```text
//! DIR/segments/<first sequence number, 20 digits>.jsonl       the records: one JSON object a line;
//!                                                             an empty line ends a commit
//! DIR/segments/<first sequence number, 20 digits>.jsonl.zst   the same lines, sealed: see `sealed`
//! DIR/tiles/<level>                                           the tree's hashes, tile behind tile (8192 bytes each)
//! DIR/checkpoint                                              the newest signed checkpoint
//! DIR/lock                                                    held by the one writer; its content means nothing
//! ```
//!
//! Names that end in `.new` are files that are not whole yet; they mean nothing. Only the segments are the truth; tiles and
//! checkpoint are derived from them. They are made again on opening when they are missing or behind, and opening refuses when the
//! records are not what the signed checkpoint covers.
//!
//! # A commit
//!
//! 1. Its records are checked; nothing of a commit with a bad one stays.
//! 2. The tree's new hashes go to the tiles. Readers look only below the published size, so they see none of this yet.
//! 3. The lines go to the last segment in one write, and one fdatasync makes them durable: the only one of a commit. Of a large
//!    commit, 2 and most of 1 are done while the disk is busy with this (`hashing`).
//! 4. The checkpoint is signed, shown to readers and returned; its file follows within moments, without a sync of its own.
//!
//! A commit that cannot be completed is cut off again, and the cut synced; a sync that fails leaves the store taking nothing until it is opened
//! again, for after it nobody can tell what the disk holds. A segment that has reached its size gets no more commits.
//!
//! # What holds, whatever happens between any two steps
//!
//! - What was acknowledged is in a segment that was synced, under a name whose folder was synced.
//! - No file is changed before its end except what is written there a second time with the same content.
//! - A commit is there as a whole or not at all: it counts from the empty line at its end, and where it was cut, the cut was synced
//!   before anything else was written there, so no torn rest can make up another commit.
//! - The hashes of sealed records, the frames and their names were synced before a sealed segment counts.
//! - A record is held to its hash in the tree whenever it is read, so a bit that was flipped is an error and never an answer.
//!
//! `tests/it/torture.rs` holds all of it to a disk that forgets what was not synced, in any part, and to thousands of kills.
//!
//! # Opening
//!
//! The last sealed segment names the edge of the tree after it. If the checkpoint covers that size, the tiles give that root there,
//! and the records after it, which are read, lead to the signed root, then no sealed record is read: opening takes as long as the
//! segments that are not sealed, however long the log. Whatever is odd about that is judged by reading everything. The index in
//! memory is that of blocks, not of records: under a quarter of a byte a record.
//!
//! # Backup
//!
//! What is copied of a running log is a log, as long as the checkpoint is copied first, then the segments, then the tiles: a commit
//! that was caught half-way is cut off, and a plain copy that an earlier run left behind stands back behind the sealed segment.
//! `rsync` lists all names before it copies, so the checkpoint takes a run of its own; should a segment be sealed twice over while
//! the other run takes, `rsync` says that a file vanished: run it again.
//! [`back_up`](crate::back_up) does that by itself, and verifies.

pub(crate) mod blocks;
mod checkpoint_file;
mod copy;
mod damage;
pub mod entry;
mod error;
mod file;
pub mod fold;
mod hashing;
mod json;
#[cfg(feature = "kafka")]
pub mod kafka;
pub(crate) mod load;
mod log;
mod reader;
mod record;
mod replay;
pub(crate) mod scan;
pub(crate) mod sealed;
mod sealer;
mod segments;
pub(crate) mod tiles;

pub use checkpoint_file::CHECKPOINT_INTERVAL;
pub use copy::{Copied, CopyError, copy_log};
pub use damage::{Damage, Problem};
pub use error::{AppendError, HandOverError, OpenError, ReadError, StoreError};
pub use file::{FileLog, Options};
pub use log::{Commit, Log, Recovery};
pub use reader::{Reader, Records};
pub use record::{RecordProblem, check_record};
pub use sealer::Sealing;

use std::ops::Range;

use record::{check_line, check_text};

use crate::tree::Hash;

pub(crate) const SEGMENTS: &str = "segments";
pub(crate) const TILES: &str = "tiles";
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The newest checkpoint that witnesses have cosigned, beside the log's own.
pub const COSIGNED: &str = "checkpoint.cosigned";
pub(crate) const LOCK: &str = "lock";

/// The most bytes of one commit's records. Together with the size at which a segment rolls it keeps offsets in 32 bits.
pub const MAX_COMMIT_BYTES: usize = 64 * 1024 * 1024;

/// The most records of one commit.
pub const MAX_COMMIT_RECORDS: usize = 65_536;

/// One commit: records that become part of the log together or not at all.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The sequence number of the first record: the size that the writer believes the log to have.
    pub first: u64,
    /// The root of the tree before this batch.
    pub previous_root: Hash,
    /// The records' exact bytes.
    pub records: &'a [&'a [u8]],
}

impl Batch<'_> {
    /// Checks what no store takes, for one of a size that takes `max_bytes` at once; but not whether the records are JSON.
    pub(crate) fn check(&self, size: u64, max_bytes: usize) -> Result<(), StoreError> {
        if self.first != size {
            return Err(StoreError::NotNext { found: self.first, size });
        }
        if self.records.is_empty() {
            return Err(StoreError::EmptyBatch);
        }
        let (records, bytes) = (self.records.len(), self.records.iter().map(|r| r.len()).sum());
        if records > MAX_COMMIT_RECORDS || bytes > max_bytes {
            let max_records = MAX_COMMIT_RECORDS;
            return Err(StoreError::BatchTooLarge { records, bytes, max_records, max_bytes });
        }
        self.check_each(check_line)
    }

    /// Checks that each record is JSON, which takes as long as hashing them.
    pub(crate) fn check_texts(&self) -> Result<(), StoreError> {
        self.check_each(check_text)
    }

    fn check_each(&self, check: impl Fn(&[u8]) -> Result<(), RecordProblem>) -> Result<(), StoreError> {
        let bad = |(index, record): (usize, &&[u8])| {
            check(record).map_err(|problem| StoreError::BadRecord { index, problem })
        };
        self.records.iter().enumerate().try_for_each(bad)
    }
}

/// A place that keeps a log's records in order: files here, a replicated log elsewhere.
///
/// Any number of processes may follow a store; one of them leads. A store that others can reach shuts out the one that
/// led before: its batches are refused as [`StoreError::Deposed`], by the store and by every follower alike.
pub trait LogStore: Send {
    /// The number of records that are durably stored, as far as this store has looked.
    fn size(&self) -> u64;

    /// The most bytes of records that one batch takes.
    fn max_batch_bytes(&self) -> usize;

    /// Whether other processes may write to it too, so that it is worth looking.
    fn is_shared(&self) -> bool {
        false
    }

    /// How much stands in the store that is no part of the log: what writers left that were shut out, and what does not
    /// belong there.
    fn ignored_entries(&self) -> u64 {
        0
    }

    /// What could not be done beside appending, and will be tried again: an operator should look at it, but no record is lost.
    fn upkeep_failure(&self) -> Option<String> {
        None
    }

    /// Who became the writer after this process was, as far as was read.
    fn deposed_by(&self) -> Option<String> {
        None
    }

    /// Becomes the writer: shuts out whoever led before, then takes in everything that is stored. Only a leader's
    /// batches are taken. It is asked again after any failed append, and then settles what became of that batch.
    ///
    /// # Errors
    /// When the store cannot be written now, or another process became the writer at the same moment.
    fn lead(&mut self) -> Result<(), StoreError>;

    /// Takes in what is stored by now, whoever wrote it.
    ///
    /// # Errors
    /// When the store cannot be read, or is not the one that it was.
    fn catch_up(&mut self) -> Result<(), StoreError>;

    /// Checks what the store needs of a batch before anything is written: its place, its size, and that each record is one line.
    ///
    /// # Errors
    /// When the batch does not continue the store, or cannot be stored.
    fn check(&self, batch: &Batch<'_>) -> Result<(), StoreError>;

    /// Stores a batch durably and whole. When this returns, every reader will find it where the batch says.
    ///
    /// `besides` is the rest of what a commit needs, done or waited for when it suits the store. If it fails, nothing of the batch
    /// is stored.
    ///
    /// # Errors
    /// When the batch does not continue the store, or was not stored; [`StoreError::is_unknown`] says whether it may yet be.
    fn append(
        &mut self,
        batch: &Batch<'_>,
        besides: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Reads records from the start of the range: at least one if the range is stored, and as many as one read yields.
    ///
    /// # Errors
    /// When the range is not stored or the medium fails.
    fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError>;
}
