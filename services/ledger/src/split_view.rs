//! Proof that a log has shown two histories, in one JSON file that anyone can check.
//!
//! # The format `writ-split-view/v1`
//!
//! One JSON object with these members, and no others:
//!
//! | member | what it is |
//! |---|---|
//! | `format` | the text `writ-split-view/v1` |
//! | `vkey` | the log's public key, `name+hash+base64`; whoever checks the file compares it with the one that they trust |
//! | `older` | a signed note: the checkpoint of the smaller tree, whole, with whatever signatures it has |
//! | `newer` | a signed note: the checkpoint of the larger tree, or of the same size |
//! | `root` | only where the sizes differ: the root, base64, that the first records of the newer tree have, as many as the older one has |
//! | `consistency` | only where the sizes differ: the consistency proof (RFC 6962 §2.1.2) from `root` to the newer checkpoint's root, base64 |
//! | `rotations` | only where two keys of the log have signed: the changes of its key from `vkey` on, `index` and `statement` each |
//!
//! **What it proves.** Both checkpoints are signed by the log's key (each by the one that signs for its size), and they cannot both be true. Two of the same size have
//! different roots. Of two sizes, the consistency proof holds between `root` and the newer checkpoint's root, so the newer tree begins
//! with records that have `root`, and the older checkpoint says that they have another. Nobody without the log's key can make such
//! a file about a log that kept one history.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::key::VerifierKey;
use crate::proof::{ConsistencyProof, ProofError};
use crate::rotation::{LogKeys, Rotation, RotationError};
use crate::tree::Hash;

/// The name of the format.
pub const FORMAT: &str = "writ-split-view/v1";

/// The largest file that is read: two notes with sixteen signatures each and a proof are a tenth of it.
pub const MAX_SPLIT_VIEW_BYTES: usize = 256 * 1024;

/// Two checkpoints of one log, and what shows that they contradict each other. Nothing in it is to be believed before
/// [`SplitView::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitView {
    format: String,
    vkey: String,
    older: String,
    newer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consistency: Option<Vec<Hash>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<Rotation>,
}

/// Why a file does not show a split view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitViewError {
    /// It is not in the format.
    #[error("not a file of the format {FORMAT}: {0}")]
    Malformed(String),
    /// A checkpoint does not hold.
    #[error("the {which} {source}")]
    Checkpoint {
        /// `older` or `newer`.
        which: &'static str,
        /// Why.
        source: CheckpointError,
    },
    /// A change of the log's key does not hold.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The checkpoints are in the wrong order.
    #[error("the older checkpoint has {older} records, more than the newer one's {newer}")]
    Order {
        /// Size of the one called older.
        older: u64,
        /// Size of the one called newer.
        newer: u64,
    },
    /// The sizes differ, and nothing is said about how the trees do.
    #[error(
        "it holds two checkpoints of {older} and {newer} records, but no proof of how they differ: both may be true"
    )]
    Unproven {
        /// Size of the older one.
        older: u64,
        /// Size of the newer one.
        newer: u64,
    },
    /// The proof does not hold.
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// The checkpoints agree.
    #[error("the two checkpoints do not contradict each other")]
    Agree,
}

/// What a file that holds proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitViewReport {
    /// The checkpoint of the smaller tree.
    pub older: Checkpoint,
    /// The other one.
    pub newer: Checkpoint,
    /// What the first records of the newer tree have for a root, where `older` has its own.
    pub root_in_newer: Hash,
}

impl SplitView {
    /// Puts two checkpoints of one log together. `begins_with` says what the larger tree begins with where sizes differ: the
    /// root, and the proof that leads from it to the larger tree's root. Without it the file shows both, but proves nothing.
    #[must_use]
    pub fn new(
        a: &SignedCheckpoint,
        b: &SignedCheckpoint,
        begins_with: Option<(Hash, &ConsistencyProof)>,
    ) -> Self {
        let (older, newer) = if a.checkpoint().size <= b.checkpoint().size { (a, b) } else { (b, a) };
        Self {
            format: FORMAT.to_owned(),
            vkey: newer.key().to_string(),
            older: older.text().to_owned(),
            newer: newer.text().to_owned(),
            root: begins_with.map(|(root, _)| root),
            consistency: begins_with.map(|(_, proof)| proof.hashes.clone()),
            rotations: Vec::new(),
        }
    }

    /// The same, of checkpoints that different keys of the log have signed: with the changes of its key, of which those that
    /// come after the first of the two keys are taken. `keys` are the log's, as these changes make them.
    #[must_use]
    pub fn across(self, keys: &LogKeys, rotations: &[Rotation]) -> Self {
        let opened = [&self.older, &self.newer].map(|note| keys.open(note).ok());
        let signers: Vec<&VerifierKey> = opened.iter().flatten().map(SignedCheckpoint::key).collect();
        let Some(first) = keys.all().find(|key| signers.contains(key)) else { return self };
        if signers.iter().all(|key| *key == first) {
            return self;
        }
        let introduces = |rotation: &Rotation| rotation.next_key().is_ok_and(|next| next == *first);
        let after = rotations.iter().rposition(introduces).map_or(0, |at| at + 1);
        let rotations = rotations.get(after..).unwrap_or_default().to_vec();
        Self { vkey: first.to_string(), rotations, ..self }
    }

    /// Whether a file says that it is of this format.
    #[must_use]
    pub fn is_named_by(bytes: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Named {
            format: String,
        }
        bytes.len() <= MAX_SPLIT_VIEW_BYTES
            && serde_json::from_slice::<Named>(bytes).is_ok_and(|named| named.format == FORMAT)
    }

    /// Reads a file. Its form is checked, not what it says.
    ///
    /// # Errors
    /// When it is too large or not in the format.
    pub fn parse(bytes: &[u8]) -> Result<Self, SplitViewError> {
        let malformed = |why: String| SplitViewError::Malformed(why);
        if bytes.len() > MAX_SPLIT_VIEW_BYTES {
            return Err(malformed(format!("it is larger than {MAX_SPLIT_VIEW_BYTES} bytes")));
        }
        let parsed: Self = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if parsed.format != FORMAT {
            return Err(malformed(format!("it calls itself {:?}", parsed.format)));
        }
        if parsed.root.is_some() != parsed.consistency.is_some() {
            return Err(malformed("`root` and `consistency` belong together".to_owned()));
        }
        Ok(parsed)
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and lists of texts can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The log's key, as the file names it.
    #[must_use]
    pub fn vkey(&self) -> &str {
        &self.vkey
    }

    /// Checks that the holder of this key signed two checkpoints that cannot both be true.
    ///
    /// # Errors
    /// When it does not show that; the error says why.
    pub fn verify(&self, key: &VerifierKey) -> Result<SplitViewReport, SplitViewError> {
        if self.vkey != key.to_string() {
            return Err(SplitViewError::Malformed(format!("it is about the key {}, not {key}", self.vkey)));
        }
        self.verify_by(&LogKeys::of(key.clone()))
    }

    /// Checks that the holders of a log's keys signed two checkpoints that cannot both be true, each by the key that signs
    /// for its size. Later changes of the key are taken from the file.
    ///
    /// # Errors
    /// When it does not show that; the error says why.
    pub fn verify_by(&self, keys: &LogKeys) -> Result<SplitViewReport, SplitViewError> {
        let keys = keys.clone().followed_by(&self.rotations)?;
        let open = |which, note: &str| {
            let opened = keys.open(note).map_err(|source| SplitViewError::Checkpoint { which, source })?;
            Ok::<_, SplitViewError>(opened.checkpoint().clone())
        };
        let (older, newer) = (open("older", &self.older)?, open("newer", &self.newer)?);
        if older.size > newer.size {
            return Err(SplitViewError::Order { older: older.size, newer: newer.size });
        }
        let root_in_newer = match (&self.root, &self.consistency) {
            (None, None) if older.size == newer.size => newer.root,
            (Some(root), Some(hashes)) if older.size < newer.size => {
                let hashes = hashes.clone();
                ConsistencyProof { old_size: older.size, new_size: newer.size, hashes }
                    .verify(root, &newer.root)?;
                *root
            }
            (None, None) => return Err(SplitViewError::Unproven { older: older.size, newer: newer.size }),
            _ => return Err(SplitViewError::Malformed("checkpoints of one size need no proof".to_owned())),
        };
        if root_in_newer == older.root {
            return Err(SplitViewError::Agree);
        }
        Ok(SplitViewReport { older, newer, root_in_newer })
    }
}

impl fmt::Display for SplitViewReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { older, newer, root_in_newer } = self;
        let (origin, size) = (&older.origin, older.size);
        if older.size == newer.size {
            write!(
                f,
                "the log {origin} has signed two different histories of {size} records: one with the root {}, one with the \
                 root {}",
                older.root, newer.root
            )
        } else {
            write!(
                f,
                "the log {origin} has signed two different histories: of {size} records with the root {}, and of {} records \
                 whose first {size} have the root {root_in_newer}",
                older.root, newer.size
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::tree::{MemoryTree, leaf_hash, root_at};

    fn key() -> SigningKey {
        SigningKey::from_seed("writ.example/log", [7; 32]).unwrap()
    }

    /// A history that parts from the others after `common` records.
    fn history(branch: u8, common: u8, size: u8) -> MemoryTree {
        let mut tree = MemoryTree::new();
        (0..size).for_each(|n| tree.push(leaf_hash(&[n, if n < common { 0 } else { branch }])));
        tree
    }

    fn signed(tree: &MemoryTree, by: &SigningKey) -> SignedCheckpoint {
        let origin = by.verifier_key().name().to_owned();
        Checkpoint { origin, size: tree.size(), root: tree.root() }.sign(by).unwrap()
    }

    /// Evidence from the point of view of whoever holds the larger tree.
    fn evidence(older: &MemoryTree, newer: &MemoryTree) -> SplitView {
        let (a, b) = (signed(older, &key()), signed(newer, &key()));
        let proof = ConsistencyProof::build(newer, older.size(), newer.size()).unwrap().unwrap();
        let begins_with =
            (older.size() != newer.size()).then(|| (root_at(newer, older.size()).unwrap(), &proof));
        SplitView::new(&b, &a, begins_with)
    }

    #[test]
    fn two_histories_of_any_sizes_are_proven_and_one_history_never_is() {
        for common in 0..12 {
            for older in common + 1..14 {
                for newer in older..16 {
                    let (a, b) = (history(1, common, older), history(2, common, newer));
                    let split = evidence(&a, &b);
                    let read = SplitView::parse(split.to_json().as_bytes()).unwrap();
                    assert!(SplitView::is_named_by(split.to_json().as_bytes()));
                    let report = read.verify(&key().verifier_key()).unwrap();
                    assert_eq!((report.older.size, report.newer.size), (older.into(), newer.into()));
                    let one = evidence(&history(2, common, older), &b);
                    assert_eq!(one.verify(&key().verifier_key()), Err(SplitViewError::Agree));
                }
            }
        }
    }

    #[test]
    fn every_altered_character_is_refused() {
        for newer in [9, 13] {
            let text = evidence(&history(1, 5, 9), &history(2, 5, newer)).to_json();
            for at in 0..text.len() {
                for bit in [0, 1, 5] {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] ^= 1 << bit;
                    let proves =
                        SplitView::parse(&bytes).is_ok_and(|it| it.verify(&key().verifier_key()).is_ok());
                    let is_space =
                        text.as_bytes()[at].is_ascii_whitespace() || bytes[at].is_ascii_whitespace();
                    assert!(!proves || is_space, "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn histories_on_both_sides_of_a_change_of_the_key_are_proven_by_the_first_key() {
        let next = SigningKey::from_seed("writ.example/log", [8; 32]).unwrap();
        let (older, newer) = (history(1, 5, 9), history(2, 5, 13));
        let rotation = Rotation::sign(&key(), &next, 10, &root_at(&newer, 10).unwrap()).unwrap();
        let keys = LogKeys::trace(key().verifier_key(), std::slice::from_ref(&rotation)).unwrap();
        let proof = ConsistencyProof::build(&newer, 9, 13).unwrap().unwrap();
        let begins_with = Some((root_at(&newer, 9).unwrap(), &proof));
        let split = SplitView::new(&signed(&newer, &next), &signed(&older, &key()), begins_with);
        let unexplained = split.verify(&next.verifier_key());
        assert!(matches!(unexplained, Err(SplitViewError::Checkpoint { which: "older", .. })));
        let split = split.across(&keys, std::slice::from_ref(&rotation));
        let read = SplitView::parse(split.to_json().as_bytes()).unwrap();
        let report = read.verify(&key().verifier_key()).unwrap();
        assert_eq!((report.older.size, report.newer.size), (9, 13));
        assert!(read.verify_by(&keys).is_ok(), "who knows of the change already");
        // A former key that signs on is not the log's.
        let late = SplitView::new(&signed(&history(1, 5, 13), &key()), &signed(&newer, &next), None);
        let late = late.across(&keys, std::slice::from_ref(&rotation)).verify_by(&keys);
        assert!(matches!(late, Err(SplitViewError::Checkpoint { which: "older", .. })), "{late:?}");
        // Evidence of one key needs no changes.
        assert_eq!(evidence(&older, &newer).across(&keys, &[rotation]), evidence(&older, &newer));
    }

    #[test]
    fn what_is_no_evidence_is_told_apart() {
        let (a, b) = (history(1, 5, 9), history(2, 5, 13));
        let (ours, other) = (key(), SigningKey::from_seed("writ.example/log", [8; 32]).unwrap());
        let unproven = SplitView::new(&signed(&a, &ours), &signed(&b, &ours), None);
        let verify = |split: &SplitView| split.verify(&ours.verifier_key()).unwrap_err();
        assert_eq!(verify(&unproven), SplitViewError::Unproven { older: 9, newer: 13 });
        let foreign = SplitView::new(&signed(&a, &other), &signed(&b, &ours), None);
        assert!(matches!(verify(&foreign), SplitViewError::Checkpoint { which: "older", .. }));
        let elsewhere = evidence(&a, &b).verify(&other.verifier_key());
        assert!(matches!(elsewhere, Err(SplitViewError::Malformed(_))), "{elsewhere:?}");
        let mut turned = evidence(&a, &b);
        std::mem::swap(&mut turned.older, &mut turned.newer);
        assert_eq!(verify(&turned), SplitViewError::Order { older: 13, newer: 9 });
        // A proof from another tree.
        let mut wrong = evidence(&a, &b);
        wrong.consistency = evidence(&a, &history(3, 5, 13)).consistency;
        assert!(matches!(verify(&wrong), SplitViewError::Proof(_)));
    }
}
