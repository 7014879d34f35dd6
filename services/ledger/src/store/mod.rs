//! Where records live: the trait that every store keeps, and the store of plain files.
//!
//! ```text
//! DIR/segments/<first sequence number, 20 digits>.jsonl   the records: one JSON object a line;
//!                                                         an empty line ends a commit
//! DIR/tiles/<level>                                       the tree's hashes, tile behind tile (8192 bytes each)
//! DIR/checkpoint                                          the newest signed checkpoint
//! DIR/lock                                                held by the one writer
//! ```
//!
//! Only the segments are the truth; tiles and checkpoint are derived from them. They are made again on opening when they are
//! missing or behind, and opening refuses when the records are not what the signed checkpoint covers.

mod file;
pub(crate) mod load;
mod reader;
mod record;
pub(crate) mod scan;
mod segments;
pub(crate) mod tiles;

pub use file::{AppendError, Commit, FileLog, Options, Recovery};
pub use load::OpenError;
pub use reader::{ReadError, Reader, Records};
pub use record::{RecordProblem, check_record};
pub use scan::{Damage, Problem};
pub use segments::{MAX_COMMIT_BYTES, MAX_COMMIT_RECORDS, StoreError};

use std::ops::Range;

use crate::tree::Hash;

pub(crate) const SEGMENTS: &str = "segments";
pub(crate) const TILES: &str = "tiles";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const LOCK: &str = "lock";

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

/// A place that keeps records in order: files here, a replicated log elsewhere.
pub trait LogStore {
    /// The number of records that are durably stored.
    fn size(&self) -> u64;

    /// Stores a batch durably and whole.
    ///
    /// # Errors
    /// When the batch does not continue the store, or was not stored; [`StoreError`] says whether it may yet be.
    fn append(&mut self, batch: &Batch<'_>) -> Result<(), StoreError>;

    /// Reads records from the start of the range: at least one if the range is stored, and as many as one read yields.
    ///
    /// # Errors
    /// When the range is not stored or the medium fails.
    fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError>;
}
