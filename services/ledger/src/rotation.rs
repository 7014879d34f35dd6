//! Changes of a log's key, and which key signs for which sizes of the log.
//!
//! A log whose key changes says so in a record of its own, under the old key: the record carries a *rotation*, a note that
//! both keys have signed. It names the position of that record, the root of the tree before it and the next key. The
//! old key signs checkpoints up to the one that covers the record; from that size on the next key signs. So whoever trusts
//! the first key can follow the log through any number of changes with nothing but the rotations, and since each
//! commits to the whole tree before it, not even the thief of a later key can change what an earlier one has signed.
//!
//! The records themselves are the caller's: this module sees the notes in them.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, parse_decimal};
use crate::disk::{Disk, replace};
use crate::key::{SignError, Signer, VerifierKey};
use crate::note::{Note, NoteError};
use crate::tree::Hash;

/// The first line of a rotation.
const HEADER: &str = "writ-key-rotation/v1";

/// The file beside a log's checkpoint with the rotations: one JSON object a line.
pub const ROTATIONS: &str = "rotations";

/// The largest file of rotations that is read: some thousand of them.
const MAX_ROTATIONS_BYTES: u64 = 4 * 1024 * 1024;

/// A rotation and the position of the record that carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The record's sequence number.
    pub index: u64,
    /// The note that both keys have signed.
    pub statement: String,
}

/// Why a rotation is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// It is not signed by the key before it, or not by the key that it names.
    #[error("the change of the log's key in record {index} does not hold: {source}")]
    Note {
        /// The record.
        index: u64,
        /// What is wrong.
        source: NoteError,
    },
    /// It is not in the format.
    #[error("the change of the log's key in record {index} is malformed: {problem}")]
    Malformed {
        /// The record.
        index: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// It was made for another place.
    #[error("the change of the log's key in record {index} was made for record {stated}")]
    OtherPlace {
        /// The record.
        index: u64,
        /// The record that it names.
        stated: u64,
    },
    /// It is older than one that was followed.
    #[error("the change of the log's key in record {index} comes before an earlier one")]
    OutOfOrder {
        /// The record.
        index: u64,
    },
    /// The key was the log's before.
    #[error("record {index} makes {key} the log's key a second time")]
    Reused {
        /// The record.
        index: u64,
        /// The key.
        key: String,
    },
}

/// Why the rotations beside a log's checkpoint cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RotationsError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of them does not hold.
    #[error("{path}: {source}; restore the file from a copy of this log")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RotationError,
    },
}

impl RotationsError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// What a rotation says.
struct Statement {
    origin: String,
    index: u64,
    root: Hash,
    next: VerifierKey,
}

impl Rotation {
    /// Makes the rotation that the record at `index` is to carry, after which the tree with this root lies.
    ///
    /// # Errors
    /// When one of the keys cannot sign, or both are the same, or they are of different logs.
    pub fn sign(current: &dyn Signer, next: &dyn Signer, index: u64, root: &Hash) -> Result<Self, SignError> {
        let (old_key, next_key) = (current.verifier_key(), next.verifier_key());
        if old_key.name() != next_key.name() || old_key.id() == next_key.id() {
            return Err(SignError::Unsignable);
        }
        let text = format!("{HEADER}\n{}\n{index}\n{root}\n{next_key}\n", old_key.name());
        let mut note = Note::new(text).map_err(|_| SignError::Unsignable)?;
        note.sign(current)?;
        note.sign(next)?;
        Ok(Self { index, statement: note.to_string() })
    }

    fn read(&self) -> Result<(Note, Statement), RotationError> {
        let index = self.index;
        let malformed = |problem| RotationError::Malformed { index, problem };
        let note: Note = self.statement.parse().map_err(|source| RotationError::Note { index, source })?;
        let lines: Vec<&str> = note.text().lines().collect();
        let [HEADER, origin, stated, root, next] = lines[..] else {
            return Err(malformed("expected writ-key-rotation/v1, origin, position, root and next key"));
        };
        let statement = Statement {
            origin: origin.to_owned(),
            index: parse_decimal(stated).ok_or(malformed("the position is not a number"))?,
            root: root.parse().map_err(|_| malformed("the root is not a hash"))?,
            next: next.parse().map_err(|_| malformed("the next key is none"))?,
        };
        if statement.index != index {
            return Err(RotationError::OtherPlace { index, stated: statement.index });
        }
        Ok((note, statement))
    }

    /// The key that signs after it, as it claims.
    ///
    /// # Errors
    /// When it is not in the format.
    pub fn next_key(&self) -> Result<VerifierKey, RotationError> {
        self.read().map(|(_, statement)| statement.next)
    }
}

/// A key, and the sizes of the log that it signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    key: VerifierKey,
    /// The least size that it signs for.
    from: u64,
    /// The root of the tree of one record less, which the key before has signed; `None` for the first.
    before: Option<Hash>,
}

/// The keys of a log, one after another, from the one that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeys {
    first: Span,
    later: Vec<Span>,
}

impl LogKeys {
    /// A log whose key has not changed.
    #[must_use]
    pub fn of(trusted: VerifierKey) -> Self {
        Self { first: Span { key: trusted, from: 0, before: None }, later: Vec::new() }
    }

    /// Follows the rotations of a log, in order, from a key that is trusted. Those before that key's own are passed over: they
    /// are the affair of those who trust an earlier one.
    ///
    /// # Errors
    /// When one of them does not hold.
    pub fn trace(trusted: VerifierKey, rotations: &[Rotation]) -> Result<Self, RotationError> {
        let introduced = rotations.iter().rposition(|rotation| {
            rotation
                .read()
                .is_ok_and(|(note, statement)| statement.next == trusted && note.verify(&[&trusted]).is_ok())
        });
        let mut keys = Self::of(trusted);
        let after = introduced.map_or(0, |at| at + 1);
        rotations.iter().skip(after).try_for_each(|rotation| keys.follow(rotation))?;
        Ok(keys)
    }

    /// Follows one more rotation.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn follow(&mut self, rotation: &Rotation) -> Result<(), RotationError> {
        let index = rotation.index;
        let (note, Statement { origin, root, next, .. }) = rotation.read()?;
        let current = self.current().clone();
        if index < self.last().from {
            return Err(RotationError::OutOfOrder { index });
        }
        if origin != current.name() || next.name() != current.name() {
            return Err(RotationError::Malformed { index, problem: "it is of another log" });
        }
        if self.spans().any(|span| span.key.as_bytes() == next.as_bytes()) {
            return Err(RotationError::Reused { index, key: next.to_string() });
        }
        for key in [&current, &next] {
            note.verify(&[key]).map_err(|source| RotationError::Note { index, source })?;
        }
        self.later.push(Span { key: next, from: index.saturating_add(1), before: Some(root) });
        Ok(())
    }

    /// Follows those of these rotations that come after all that were followed already.
    ///
    /// # Errors
    /// When one of them does not hold.
    pub fn followed_by(mut self, rotations: &[Rotation]) -> Result<Self, RotationError> {
        let from = self.last().from;
        rotations.iter().filter(|next| next.index >= from).try_for_each(|next| self.follow(next))?;
        Ok(self)
    }

    /// The key that signs now.
    #[must_use]
    pub fn current(&self) -> &VerifierKey {
        &self.last().key
    }

    /// The key that was trusted from the start.
    #[must_use]
    pub fn trusted(&self) -> &VerifierKey {
        &self.first.key
    }

    /// All of the keys, from the one that was trusted from the start.
    pub fn all(&self) -> impl Iterator<Item = &VerifierKey> {
        self.spans().map(|span| &span.key)
    }

    /// Whether this is one of the keys.
    #[must_use]
    pub fn holds(&self, key: &VerifierKey) -> bool {
        self.all().any(|of_log| of_log == key)
    }

    /// How many rotations were followed.
    #[must_use]
    pub fn rotations(&self) -> usize {
        self.later.len()
    }

    /// The trees that former keys have committed to, as size and root: the log has to continue each of them.
    pub fn commitments(&self) -> impl Iterator<Item = (u64, Hash)> {
        self.later.iter().filter_map(|span| Some((span.from.saturating_sub(1), span.before?)))
    }

    /// Checks a checkpoint's signed note: a key that signs for its size has to have signed it.
    ///
    /// # Errors
    /// When none has, or it is of another log.
    pub fn open(&self, text: &str) -> Result<SignedCheckpoint, CheckpointError> {
        let note: Note = text.parse().map_err(CheckpointError::Note)?;
        let Checkpoint { size, origin, .. } = Checkpoint::parse(note.text())?;
        if origin != self.current().name() {
            return Err(CheckpointError::OtherLog {
                found: origin,
                expected: self.current().name().to_owned(),
            });
        }
        let mut until = u64::MAX;
        let mut refused = None;
        for Span { key, from, .. } in self.later.iter().rev().chain([&self.first]) {
            let signed = note.verify(&[key]);
            match signed {
                Ok(_) if size >= *from && size <= until => return SignedCheckpoint::open(text, key),
                Ok(_) if size > until => {
                    refused = Some(CheckpointError::FormerKey { size, until, key: key.to_string() });
                }
                Err(wrong @ NoteError::WrongSignature(_)) => return Err(wrong.into()),
                Ok(_) | Err(_) => {}
            }
            until = *from;
        }
        Err(refused.unwrap_or_else(|| NoteError::UnknownSigner(self.current().to_string()).into()))
    }

    /// The rotations that stand beside a log's checkpoint in its folder.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kept(dir: &Path) -> Result<Vec<Rotation>, RotationsError> {
        let path = dir.join(ROTATIONS);
        let text = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_ROTATIONS_BYTES => {
                return Err(RotationsError::io(&path)(io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => std::fs::read_to_string(&path).map_err(RotationsError::io(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RotationsError::io(&path)(error)),
        };
        read_rotations(&text).map_err(RotationsError::io(&path))
    }

    /// Follows the rotations that stand beside a log's checkpoint in its folder.
    ///
    /// # Errors
    /// When the file cannot be read or a rotation does not hold.
    pub fn load(dir: &Path, trusted: VerifierKey) -> Result<Self, RotationsError> {
        let rotations = Self::kept(dir)?;
        Self::trace(trusted, &rotations)
            .map_err(|source| RotationsError::Broken { path: dir.join(ROTATIONS), source })
    }

    fn last(&self) -> &Span {
        self.later.last().unwrap_or(&self.first)
    }

    fn spans(&self) -> impl Iterator<Item = &Span> {
        std::iter::once(&self.first).chain(&self.later)
    }
}

/// Keeps a rotation in the file beside the log's checkpoint, unless it is there.
pub(crate) fn keep(disk: &dyn Disk, dir: &Path, rotation: &Rotation) -> io::Result<()> {
    let path = dir.join(ROTATIONS);
    let mut kept = match std::fs::read_to_string(&path) {
        Ok(text) => read_rotations(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if kept.contains(rotation) {
        return Ok(());
    }
    kept.push(rotation.clone());
    replace(disk, &path, write_rotations(&kept).as_bytes())
}

/// Reads rotations as they stand in their file and are published: one JSON object a line.
///
/// # Errors
/// When a line is not a rotation.
pub fn read_rotations(text: &str) -> io::Result<Vec<Rotation>> {
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}

/// Writes rotations as they stand in their file and are published.
#[must_use]
pub fn write_rotations(rotations: &[Rotation]) -> String {
    let lines = rotations.iter().filter_map(|rotation| serde_json::to_string(rotation).ok());
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::tree::leaf_hash;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed("writ.example/log", [byte; 32]).unwrap()
    }

    fn vkey(byte: u8) -> VerifierKey {
        key(byte).verifier_key()
    }

    fn rotation(from: u8, to: u8, index: u64) -> Rotation {
        Rotation::sign(&key(from), &key(to), index, &leaf_hash(b"root")).unwrap()
    }

    fn checkpoint(size: u64, signers: &[u8]) -> String {
        let checkpoint = Checkpoint { origin: "writ.example/log".into(), size, root: leaf_hash(b"r") };
        let mut note = Note::new(checkpoint.to_string()).unwrap();
        signers.iter().for_each(|by| note.sign(&key(*by)).unwrap());
        note.to_string()
    }

    fn thrice() -> Vec<Rotation> {
        vec![rotation(1, 2, 9), rotation(2, 3, 19), rotation(3, 4, 20)]
    }

    #[test]
    fn any_number_of_changes_is_followed_from_any_of_the_keys() {
        for trusted in 1..=4 {
            let keys = LogKeys::trace(vkey(trusted), &thrice()).unwrap();
            assert_eq!(keys.current(), &vkey(4));
            assert_eq!(keys.rotations(), 4 - usize::from(trusted));
            assert!(keys.open(&checkpoint(30, &[4])).is_ok(), "{trusted}");
        }
        let text = write_rotations(&thrice());
        assert_eq!(read_rotations(&text).unwrap(), thrice());
    }

    #[test]
    fn each_key_signs_for_its_own_sizes_and_no_others() {
        let keys = LogKeys::trace(vkey(1), &thrice()).unwrap();
        for (size, signer) in [(0, 1), (10, 1), (10, 2), (20, 2), (20, 3), (21, 3), (21, 4), (99, 4)] {
            let opened = keys.open(&checkpoint(size, &[signer]));
            assert_eq!(opened.unwrap().key(), &vkey(signer), "{size} {signer}");
        }
        for (size, signer) in [(11, 1), (99, 1), (21, 2), (22, 3)] {
            let refused = keys.open(&checkpoint(size, &[signer])).unwrap_err();
            assert!(matches!(refused, CheckpointError::FormerKey { .. }), "{size} {signer}: {refused}");
        }
        for (size, signer) in [(9, 2), (19, 3), (0, 4), (20, 4), (10, 5)] {
            let refused = keys.open(&checkpoint(size, &[signer])).unwrap_err();
            assert!(matches!(refused, CheckpointError::Note(_)), "{size} {signer}: {refused}");
        }
        // At the size of the change both sign, and the newer one counts.
        assert_eq!(keys.open(&checkpoint(10, &[1, 2])).unwrap().key(), &vkey(2));
    }

    #[test]
    fn a_change_that_the_old_key_did_not_sign_is_refused() {
        let mut keys = LogKeys::of(vkey(1));
        let by_thief = rotation(7, 2, 9);
        assert!(matches!(keys.follow(&by_thief), Err(RotationError::Note { index: 9, .. })));
        let mut note: Note = rotation(1, 2, 9).statement.parse().unwrap();
        note.retain(|signature| signature.key_id != vkey(2).id());
        let unpossessed = Rotation { index: 9, statement: note.to_string() };
        assert!(matches!(keys.follow(&unpossessed), Err(RotationError::Note { index: 9, .. })));
        let moved = Rotation { index: 8, ..rotation(1, 2, 9) };
        assert!(matches!(keys.follow(&moved), Err(RotationError::OtherPlace { index: 8, stated: 9 })));
        assert_eq!(keys, LogKeys::of(vkey(1)));
        keys.follow(&rotation(1, 2, 9)).unwrap();
        assert!(matches!(keys.follow(&rotation(2, 3, 9)), Err(RotationError::OutOfOrder { index: 9 })));
        assert!(matches!(keys.follow(&rotation(2, 1, 12)), Err(RotationError::Reused { index: 12, .. })));
        assert!(matches!(keys.follow(&rotation(1, 3, 12)), Err(RotationError::Note { .. })));
    }

    #[test]
    fn a_rotation_of_another_log_or_to_the_same_key_is_not_made() {
        let other = SigningKey::from_seed("other.example/log", [2; 32]).unwrap();
        assert!(Rotation::sign(&key(1), &other, 9, &leaf_hash(b"")).is_err());
        assert!(Rotation::sign(&key(1), &key(1), 9, &leaf_hash(b"")).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_rotation_is_refused() {
        let good = rotation(1, 2, 9);
        for at in 0..good.statement.len() {
            let mut bytes = good.statement.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(statement) = String::from_utf8(bytes) else { continue };
            assert!(LogKeys::of(vkey(1)).follow(&Rotation { index: 9, statement }).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_former_trees_are_committed_to() {
        let keys = LogKeys::trace(vkey(1), &thrice()).unwrap();
        let root = leaf_hash(b"root");
        assert_eq!(keys.commitments().collect::<Vec<_>>(), [(9, root), (19, root), (20, root)]);
    }
}
