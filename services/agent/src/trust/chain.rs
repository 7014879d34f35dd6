//! The log as this node has verified it: its key, its newest checkpoint, and what is proven to stand in it.

use std::sync::Arc;

use writ_ledger::{
    Checkpoint, ConsistencyProof, Hash, InclusionProof, LogKeys, Rotation, SignedCheckpoint, SplitView,
    SplitViewReport, VerifierKey, leaf_hash,
};
use writ_schema::protocol::{CheckpointUpdate, ProvenRecord};
use writ_schema::{Record, Seq};

use super::Refusal;

/// Most changes of the log's key that one update may bring.
const MAX_ROTATIONS: usize = 1000;

/// The newest verified checkpoint of the log.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The key that was trusted from the start, and those that followed it.
    keys: LogKeys,
    /// The changes of the key that were followed.
    rotations: Vec<Rotation>,
    held: Option<SignedCheckpoint>,
}

/// A record that is proven to stand in the log. Its sealed fields are open where their keys were handed over.
#[derive(Debug, Clone)]
pub(super) struct Included {
    pub record: Record,
    pub leaf: Hash,
}

impl Chain {
    /// A chain that begins with the log's key alone.
    pub fn new(key: VerifierKey) -> Self {
        Self { keys: LogKeys::of(key), rotations: Vec::new(), held: None }
    }

    /// A chain that begins with the log's key and the changes of it that were followed before.
    pub(super) fn begin(key: VerifierKey, rotations: &[Rotation]) -> Result<Self, Refusal> {
        let keys = LogKeys::trace(key, rotations)?;
        Ok(Self { keys, rotations: rotations.to_vec(), held: None })
    }

    /// A chain that goes on from a checkpoint that was verified before and kept. It is verified again.
    /// So are the changes of the log's key.
    pub fn resume(key: VerifierKey, rotations: &[Rotation], note: &str) -> Result<Self, Refusal> {
        let begun = Self::begin(key, rotations)?;
        let held = begun.keys.open(note)?;
        Ok(Self { held: Some(held), ..begun })
    }

    /// The newest verified checkpoint.
    pub(super) fn held(&self) -> Option<&SignedCheckpoint> {
        self.held.as_ref()
    }

    /// Begins anew with the log's keys alone.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    /// A checkpoint that one of the log's keys has signed, if it is one that signs for its size.
    pub(super) fn open(&self, note: &str) -> Result<SignedCheckpoint, Refusal> {
        Ok(self.keys.open(note)?)
    }

    /// Two checkpoints as evidence, with the changes of the log's key between them.
    pub(super) fn evidence(
        &self,
        a: &SignedCheckpoint,
        b: &SignedCheckpoint,
        begins_with: Option<(Hash, &ConsistencyProof)>,
    ) -> SplitView {
        SplitView::new(a, b, begins_with).across(&self.keys, &self.rotations)
    }

    /// What somebody's evidence proves of this log, if it proves anything.
    pub(super) fn judge(&self, evidence: &SplitView) -> Option<SplitViewReport> {
        evidence.verify_by(&self.keys).ok()
    }

    /// What a refused update proves: that the log has signed two histories.
    pub(super) fn contradiction(&self, update: &CheckpointUpdate) -> Option<SplitView> {
        let held = self.held.as_ref()?;
        let (keys, rotations) = self.follow(&update.rotations).ok()?;
        let newer = keys.open(&update.note).ok()?;
        let evidence = |begins_with| SplitView::new(held, &newer, begins_with).across(&keys, &rotations);
        let (old_size, new_size) = (held.checkpoint().size, newer.checkpoint().size);
        if old_size == new_size {
            return (held.checkpoint() != newer.checkpoint()).then(|| evidence(None));
        }
        let proof = ConsistencyProof { old_size, new_size, hashes: hashes(&update.consistency)? };
        let root = proof.older_root(&newer.checkpoint().root).filter(|_| update.from_size == old_size)?;
        (root != held.checkpoint().root).then(|| evidence(Some((root, &proof))))
    }

    /// How many records the newest verified checkpoint covers; 0 if there is none.
    pub fn size(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.checkpoint().size)
    }

    /// The newest verified checkpoint as a signed note.
    pub fn note(&self) -> Option<&str> {
        self.held.as_ref().map(SignedCheckpoint::text)
    }

    /// The same, shared with whatever is proven by it.
    pub(super) fn shared_note(&self) -> Result<Arc<str>, Refusal> {
        self.note().map(Into::into).ok_or(Refusal::NoCheckpoint)
    }

    /// The log's key, as it was trusted from the start.
    pub fn key(&self) -> &VerifierKey {
        self.keys.trusted()
    }

    /// Whether this is, or was, the log's key.
    pub(super) fn has_key(&self, key: &VerifierKey) -> bool {
        self.keys.holds(key) || self.began_with(&key.to_string())
    }

    /// Whether the log can have begun with this key: it is the trusted one, unless that one came by a change.
    pub(super) fn began_with(&self, key: &str) -> bool {
        let introduces = |rotation: &Rotation| rotation.next_key().is_ok_and(|next| next == *self.key());
        key == self.key().to_string() || self.rotations.iter().any(introduces)
    }

    /// The key that signs the log now.
    pub fn signing_key(&self) -> &VerifierKey {
        self.keys.current()
    }

    /// The changes of the log's key since then.
    pub fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// Takes a newer checkpoint, if the log's key signed it (or one that followed it, as the update proves) and it continues the one that is held. Of two notes of the same
    /// checkpoint the one with more signatures is kept.
    pub fn advance(&mut self, update: &CheckpointUpdate) -> Result<(), Refusal> {
        let (keys, rotations) = self.follow(&update.rotations)?;
        let newer = keys.open(&update.note)?;
        for sent in update.rotations.iter().filter(|sent| self.is_new(sent)) {
            // The rotation is signed by both keys; that it is in the log as well is what everybody else sees of it.
            included_in(newer.checkpoint(), sent)?;
        }
        if let Some(held) = &self.held {
            continues(held.checkpoint(), newer.checkpoint(), update)?;
            if held.checkpoint() == newer.checkpoint() && held.text().len() >= newer.text().len() {
                return Ok(());
            }
        }
        (self.held, self.keys, self.rotations) = (Some(newer), keys, rotations);
        Ok(())
    }

    /// The keys after the changes that an update brings. Those that are known are passed over.
    fn follow(&self, sent: &[ProvenRecord]) -> Result<(LogKeys, Vec<Rotation>), Refusal> {
        let mut rotations = self.rotations.clone();
        for sent in sent.iter().filter(|sent| self.is_new(sent)).take(MAX_ROTATIONS) {
            let statement = Record::log_key_rotation(sent.record.as_bytes());
            let statement = statement.ok_or(Refusal::NoRotation(sent.seq))?;
            rotations.push(Rotation { index: sent.seq.0, statement });
        }
        // Where the trust began with a later key, this passes over the changes before it.
        Ok((LogKeys::trace(self.key().clone(), &rotations)?, rotations))
    }

    fn is_new(&self, sent: &ProvenRecord) -> bool {
        self.rotations.last().is_none_or(|last| last.index < sent.seq.0)
    }

    /// The chain as it was at a checkpoint that was verified before and kept with what it proves.
    pub(super) fn at(&self, note: &str) -> Result<Self, Refusal> {
        let then = Self::resume(self.key().clone(), &self.rotations, note)?;
        let (held, before) = (self.held.as_ref().ok_or(Refusal::NoCheckpoint)?.checkpoint(), then.size());
        if before > held.size {
            return Err(Refusal::Shrunk { size: held.size, held: before });
        }
        if before == held.size && then.held.as_ref().is_some_and(|then| then.checkpoint().root != held.root) {
            return Err(Refusal::Forked { size: before });
        }
        Ok(then)
    }

    /// Checks that a record stands in the log as far as the held checkpoint covers it, and opens what it may.
    pub(super) fn included(&self, proven: &ProvenRecord) -> Result<Included, Refusal> {
        let held = self.held.as_ref().ok_or(Refusal::NoCheckpoint)?.checkpoint();
        let seq = proven.seq;
        let leaf = included_in(held, proven)?;
        let mut record = Record::decode(proven.record.as_bytes())
            .map_err(|source| Refusal::Undecodable { seq, source })?;
        if record.seq != seq {
            return Err(Refusal::OtherPlace { place: seq, says: record.seq });
        }
        // A field that does not open stays closed; whoever needs it says so.
        let _ = record.open(proven.keys.as_slice());
        Ok(Included { record, leaf })
    }
}

/// Checks that a record stands in the tree of a checkpoint, and gives its leaf hash.
fn included_in(checkpoint: &Checkpoint, proven: &ProvenRecord) -> Result<Hash, Refusal> {
    let seq = proven.seq;
    let leaf = leaf_hash(proven.record.as_bytes());
    let hashes = hashes(&proven.proof).ok_or(Refusal::MalformedProof(seq))?;
    InclusionProof { index: seq.0, size: checkpoint.size, hashes }
        .verify(&leaf, &checkpoint.root)
        .map_err(|source| Refusal::NotIncluded { seq, source })?;
    Ok(leaf)
}

/// Whether `newer` begins with everything that `held` commits to.
fn continues(held: &Checkpoint, newer: &Checkpoint, update: &CheckpointUpdate) -> Result<(), Refusal> {
    if newer.size < held.size {
        return Err(Refusal::Shrunk { size: newer.size, held: held.size });
    }
    if newer.size == held.size {
        return if newer.root == held.root { Ok(()) } else { Err(Refusal::Forked { size: held.size }) };
    }
    if update.from_size != held.size {
        return Err(Refusal::OtherStart { from: update.from_size, held: held.size });
    }
    let hashes = hashes(&update.consistency).ok_or(Refusal::MalformedProof(Seq(newer.size)))?;
    ConsistencyProof { old_size: held.size, new_size: newer.size, hashes }
        .verify(&held.root, &newer.root)
        .map_err(|source| Refusal::Inconsistent { size: newer.size, held: held.size, source })
}

pub(super) fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}

/// Takes the event of one kind out of a record.
macro_rules! expect_event {
    ($included:expr, $variant:ident, $kind:literal) => {{
        let seq = $included.record.seq;
        match &$included.record.event {
            Event::$variant(body) => Ok(body),
            other => Err(Refusal::OtherKind { seq, found: other.kind(), expected: $kind }),
        }
    }};
}
pub(super) use expect_event;
