//! Checkpoints (C2SP tlog-checkpoint): what the log has committed to, as a signed note.

use std::fmt;

use crate::key::{SignError, Signer, VerifierKey};
use crate::note::{MAX_SIGNATURES, Note, NoteError, NoteSignature};
use crate::tree::Hash;

/// Size and root of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, also the name of its key.
    pub origin: String,
    /// How many records the tree holds.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
}

/// Why a checkpoint cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it does not hold.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// A line is not what the format has there.
    #[error("checkpoint line {line} is not {expected}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// It is signed by a key that was the log's before, for a size at which it was not any more.
    #[error(
        "the checkpoint of size {size} is signed by {key}, but the log changed its key at size {until}: whoever holds the old \
         key made it"
    )]
    FormerKey {
        /// The checkpoint's size.
        size: u64,
        /// The largest size that the key signs for.
        until: u64,
        /// The former key.
        key: String,
    },
    /// It is of another log.
    #[error("the checkpoint is of the log {found:?}, not of {expected:?}")]
    OtherLog {
        /// The origin it names.
        found: String,
        /// The origin asked for.
        expected: String,
    },
}

impl Checkpoint {
    /// Reads the text of a checkpoint's note. Extension lines are kept by the note and ignored here.
    ///
    /// # Errors
    /// When a line is malformed, a number has a leading zero or a line break is missing.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |line, expected| CheckpointError::Malformed { line, expected };
        let body = text.strip_suffix('\n').ok_or(malformed(1, "ended by a line break"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(malformed(1, "the log's origin"))?;
        let size = lines.next().and_then(parse_decimal).ok_or(malformed(2, "the tree's size in decimal"))?;
        let root =
            lines.next().and_then(|line| line.parse().ok()).ok_or(malformed(3, "the root hash in base64"))?;
        if let Some(empty) = lines.position(str::is_empty) {
            return Err(malformed(4 + empty, "an extension line"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Signs it.
    ///
    /// # Errors
    /// When the signer cannot sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<SignedCheckpoint, SignError> {
        let mut note = Note::new(self.to_string()).map_err(|_| SignError::Unsignable)?;
        note.sign(signer)?;
        Ok(SignedCheckpoint { checkpoint: self.clone(), text: note.to_string(), key: signer.verifier_key() })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

/// A checkpoint with the signed note that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    text: String,
    key: VerifierKey,
}

impl SignedCheckpoint {
    /// What was signed.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note, as published.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was signed, exactly: the note's text without its signatures.
    #[must_use]
    pub fn checkpoint_text(&self) -> &str {
        self.text.rfind("\n\n").map_or(self.text.as_str(), |end| &self.text[..=end])
    }

    /// The log's key, which signed it.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The same checkpoint with further signatures, such as witnesses' cosignatures. One by the same key as an earlier one takes
    /// its place. Nothing depends on whether they are right before somebody who knows their keys relies on them.
    #[must_use]
    pub fn with_signatures(&self, signatures: &[NoteSignature]) -> Self {
        let Ok(mut note) = self.text.parse::<Note>() else { return self.clone() };
        for signature in signatures {
            note.retain(|held| held.name != signature.name || held.key_id != signature.key_id);
            note.add(signature.clone());
        }
        // Too many for a reader: better none than a checkpoint that nobody can read.
        let text =
            if note.signatures().len() > MAX_SIGNATURES { self.text.clone() } else { note.to_string() };
        Self { checkpoint: self.checkpoint.clone(), text, key: self.key.clone() }
    }

    /// Checks a signed note and returns the checkpoint in it.
    ///
    /// # Errors
    /// When the log's key did not sign it, it is malformed, or it is of another log.
    pub fn verify(text: &str, key: &VerifierKey, origin: &str) -> Result<Checkpoint, CheckpointError> {
        let note: Note = text.parse().map_err(CheckpointError::Note)?;
        note.verify(&[key])?;
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::OtherLog { found: checkpoint.origin, expected: origin.to_owned() });
        }
        Ok(checkpoint)
    }

    /// Like [`SignedCheckpoint::verify`], keeping the note; the origin must be the key's name.
    ///
    /// # Errors
    /// As for [`SignedCheckpoint::verify`].
    pub fn open(text: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::verify(text, key, key.name())?;
        Ok(Self { checkpoint, text: text.to_owned(), key: key.clone() })
    }
}

/// Reads a decimal number without sign or leading zero.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::tree::leaf_hash;

    fn signed() -> (SignedCheckpoint, VerifierKey) {
        let key = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "writ.example/log".into(), size: 42, root: leaf_hash(b"r") };
        (checkpoint.sign(&key).unwrap(), key.verifier_key())
    }

    #[test]
    fn a_signed_checkpoint_is_read_back() {
        let (signed, key) = signed();
        let read = SignedCheckpoint::verify(signed.text(), &key, "writ.example/log").unwrap();
        assert_eq!(&read, signed.checkpoint());
        assert!(matches!(
            SignedCheckpoint::verify(signed.text(), &key, "other.example"),
            Err(CheckpointError::OtherLog { .. })
        ));
    }

    #[test]
    fn cosignatures_are_added_and_replaced_and_change_nothing_for_who_does_not_know_them() {
        let (signed, key) = signed();
        let witness = crate::key::CosigningKey::from_seed("witness.example/w", [3; 32]).unwrap();
        let note: Note = signed.text().parse().unwrap();
        let cosigned = signed.with_signatures(&[witness.cosign(&note, 5)]);
        let cosigned = cosigned.with_signatures(&[witness.cosign(&note, 6)]);
        let note: Note = cosigned.text().parse().unwrap();
        assert_eq!(note.signatures().len(), 2);
        assert_eq!(witness.cosigner_key().cosigned(&note), Ok(Some(6)));
        assert_eq!(SignedCheckpoint::open(cosigned.text(), &key).unwrap(), cosigned);
        let many: Vec<_> = (0..MAX_SIGNATURES)
            .map(|number| NoteSignature { name: format!("w{number}"), key_id: [0; 4], bytes: vec![0] })
            .collect();
        assert_eq!(signed.with_signatures(&many), signed);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (signed, key) = signed();
        for at in 0..signed.text().len() {
            for bit in 0..8 {
                let mut bytes = signed.text().as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                assert!(SignedCheckpoint::open(&text, &key).is_err(), "byte {at} bit {bit}: {text}");
            }
        }
    }

    #[test]
    fn malformed_text_names_the_line() {
        let root = leaf_hash(b"r");
        for (text, line) in [
            (String::new(), 1),
            (format!("\n1\n{root}\n"), 1),
            (format!("o\n01\n{root}\n"), 2),
            (format!("o\n-1\n{root}\n"), 2),
            (format!("o\n99999999999999999999\n{root}\n"), 2),
            ("o\n1\nAAAA\n".into(), 3),
            ("o\n1\n".into(), 3),
            (format!("o\n1\n{root}\n\nx\n"), 4),
        ] {
            let found = Checkpoint::parse(&text);
            assert!(
                matches!(found, Err(CheckpointError::Malformed { line: at, .. }) if at == line),
                "{text:?}: {found:?}"
            );
        }
    }
}
