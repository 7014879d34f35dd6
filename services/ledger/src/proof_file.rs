//! The proof of one record as a text file (C2SP tlog-proof), checked with the record and the log's key alone.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, parse_decimal};
use crate::key::VerifierKey;
use crate::note::MAX_NOTE_BYTES;
use crate::proof::{InclusionProof, ProofError};
use crate::tree::{Hash, leaf_hash};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// An inclusion proof in a tree of fewer than 2^64 leaves has at most this many hashes.
const MAX_HASHES: usize = 64;

/// The position of a record, its inclusion proof and the signed checkpoint that the proof leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// The record's sequence number.
    pub index: u64,
    /// The inclusion proof.
    pub hashes: Vec<Hash>,
    /// The checkpoint's signed note.
    pub checkpoint: String,
    /// What the maker of the file added; it proves nothing.
    pub extra: Option<Vec<u8>>,
}

/// Why a proof file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// It is not in the format.
    #[error("not a proof file: {0}")]
    Malformed(&'static str),
    /// Its checkpoint does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl ProofFile {
    /// Checks that this is the record at the file's index, in the log that this key signs for.
    ///
    /// # Errors
    /// When the checkpoint or the proof does not hold.
    pub fn verify(&self, record: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofFileError> {
        let checkpoint = SignedCheckpoint::verify(&self.checkpoint, key, key.name())?;
        let proof = InclusionProof { index: self.index, size: checkpoint.size, hashes: self.hashes.clone() };
        proof.verify(&leaf_hash(record), &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for ProofFile {
    type Err = ProofFileError;

    fn from_str(text: &str) -> Result<Self, ProofFileError> {
        let malformed = ProofFileError::Malformed;
        if text.len() > 2 * MAX_NOTE_BYTES {
            return Err(malformed("it is too large"));
        }
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed("the first line must be c2sp.org/tlog-proof@v1"));
        }
        let extra =
            lines.next_if(|line| line.starts_with("extra ")).map(|line| BASE64.decode(&line.as_bytes()[6..]));
        let extra = extra.transpose().map_err(|_| malformed("the extra data is not base64"))?;
        let index = lines.next().and_then(|line| parse_decimal(line.strip_prefix("index ")?));
        let index = index.ok_or(malformed("expected a line \"index <number>\""))?;
        let hashes: Vec<Hash> = lines
            .take(MAX_HASHES + 1)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| malformed("a line of the proof is not a hash in base64"))?;
        if hashes.len() > MAX_HASHES {
            return Err(malformed("the proof has more than 64 hashes"));
        }
        Ok(Self { index, hashes, checkpoint: checkpoint.to_owned(), extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::tree::MemoryTree;

    fn file() -> (ProofFile, VerifierKey) {
        let key = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap();
        let mut tree = MemoryTree::new();
        (0..13_u8).for_each(|n| tree.push(leaf_hash(&[n])));
        let root = tree.root();
        let signed =
            Checkpoint { origin: key.verifier_key().name().into(), size: 13, root }.sign(&key).unwrap();
        let hashes = InclusionProof::build(&tree, 9, 13).unwrap().unwrap().hashes;
        let file = ProofFile { index: 9, hashes, checkpoint: signed.text().to_owned(), extra: None };
        (file, key.verifier_key())
    }

    #[test]
    fn a_proof_file_proves_its_record_and_no_other() {
        let (file, key) = file();
        let read: ProofFile = file.to_string().parse().unwrap();
        assert_eq!(read, file);
        assert_eq!(read.verify(&[9], &key).unwrap().size, 13);
        assert_eq!(read.verify(&[8], &key), Err(ProofError::RootMismatch.into()));
        let with_extra = ProofFile { extra: Some(b"note".to_vec()), ..file };
        assert_eq!(with_extra.to_string().parse(), Ok(with_extra));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (file, key) = file();
        let text = file.to_string();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                let refused = changed.parse().and_then(|file: ProofFile| file.verify(&[9], &key)).is_err();
                assert!(refused, "byte {at} bit {bit}");
            }
        }
    }
}
