//! The request to cosign, `add-checkpoint`: read by the witness, written by the log.

use std::fmt;

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError};
use crate::tree::Hash;

/// The most hashes of a consistency proof that a request may have (C2SP tlog-witness).
pub const MAX_PROOF_HASHES: usize = 63;

/// The largest request that is read: the old size, the hashes, and a note.
pub const MAX_REQUEST_BYTES: usize = 64 + 45 * MAX_PROOF_HASHES + MAX_NOTE_BYTES;

/// A checkpoint, with the proof that it continues the one of an old size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness is taken to hold; 0 if none.
    pub old_size: u64,
    /// The consistency proof from that size; empty from 0.
    pub proof: Vec<Hash>,
    /// The checkpoint's signed note.
    pub note: Note,
    /// The checkpoint in it.
    pub checkpoint: Checkpoint,
}

/// Why a request is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is too large.
    #[error("the request has {0} bytes; at most {MAX_REQUEST_BYTES} are read")]
    TooLarge(usize),
    /// It is not in the format.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// A line of the proof is not a hash.
    #[error("line {0} of the request is not a hash in base64")]
    BadHash(usize),
    /// Its note is malformed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its checkpoint is malformed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl AddCheckpoint {
    /// A request to cosign a checkpoint.
    ///
    /// # Errors
    /// When the note is not a checkpoint.
    pub fn new(old_size: u64, proof: Vec<Hash>, note: &str) -> Result<Self, RequestError> {
        let note: Note = note.parse()?;
        let checkpoint = Checkpoint::parse(note.text())?;
        Ok(Self { old_size, proof, note, checkpoint })
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// When it is too large or not in the format.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let malformed = RequestError::Malformed;
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge(body.len()));
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| parse_decimal(line.strip_prefix("old ")?));
        let old_size = old_size.ok_or(malformed("the first line must be \"old <size>\""))?;
        let mut proof = Vec::new();
        for (number, line) in (2..).zip(lines) {
            if proof.len() == MAX_PROOF_HASHES {
                return Err(malformed("the proof has more than 63 hashes"));
            }
            proof.push(line.parse().map_err(|_| RequestError::BadHash(number))?);
        }
        Self::new(old_size, proof, note)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}
