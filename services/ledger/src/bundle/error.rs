//! Why a bundle cannot be made, or proves nothing.

use super::{FORMAT, MAX_BUNDLE_BYTES, MAX_ENTRIES};
use crate::checkpoint::CheckpointError;
use crate::note::NoteError;
use crate::store::ReadError;

/// Why a bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A record or hash cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Too many records.
    #[error("a bundle holds at most {MAX_ENTRIES} records, not {0}")]
    TooMany(usize),
    /// Too many bytes.
    #[error(
        "the bundle would have {0} bytes; at most {MAX_BUNDLE_BYTES} are read: make several of fewer records"
    )]
    TooLarge(usize),
    /// The statement cannot be written.
    #[error("the bundle's statement cannot be written as JSON: {0}")]
    Statement(#[from] serde_json::Error),
    /// A record is not text.
    #[error("record {0} is not text: run `log verify`")]
    NotText(u64),
}

/// Why a bundle proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file is too large.
    #[error("the bundle has {0} bytes; at most {MAX_BUNDLE_BYTES} are read")]
    TooLarge(usize),
    /// It is not in the format.
    #[error("not an evidence bundle: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another format.
    #[error("the bundle's format is {0:?}; this program reads {FORMAT:?}")]
    OtherFormat(String),
    /// It holds too many records.
    #[error("the bundle has {0} records; at most {MAX_ENTRIES} are read")]
    TooMany(usize),
    /// Its log key is not the one that is trusted.
    #[error("the bundle is of the log key {found}, not of {trusted}")]
    OtherKey {
        /// The key it names.
        found: String,
        /// The trusted key.
        trusted: String,
    },
    /// The checkpoint does not hold.
    #[error("the bundle's {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A record was altered.
    #[error("record {index} was altered: it does not have the leaf hash that stands beside it")]
    RecordAltered {
        /// Its sequence number.
        index: u64,
    },
    /// An entry is out of order or outside the tree.
    #[error("entry {position} (record {index}) is out of order or not covered by the checkpoint")]
    Misplaced {
        /// Its place in the bundle, from 0.
        position: usize,
        /// The sequence number it claims.
        index: u64,
    },
    /// A part does not have the digest that the manifest states.
    #[error("{part} was altered: it does not have the digest that the manifest states")]
    DigestMismatch {
        /// The part.
        part: &'static str,
    },
    /// The multiproof has too few or too many hashes.
    #[error("the proof has {found} hashes, which is not what these records need")]
    WrongLength {
        /// How many there are.
        found: usize,
    },
    /// The records and hashes do not lead to the signed root.
    #[error(
        "the records and hashes do not lead to the checkpoint's root: a record, its index or a hash was altered"
    )]
    RootMismatch,
    /// The seal does not hold.
    #[error("the manifest or its seal was altered: {0}")]
    Seal(#[from] NoteError),
    /// The seal is of another manifest.
    #[error("the manifest was altered: it is not the one that was sealed")]
    SealMismatch,
}
