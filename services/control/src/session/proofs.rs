//! Records as agents get them: exact bytes, proof, and the keys that this receiver is entitled to.

use std::sync::Arc;

use data_encoding::BASE64;
use writ_ledger::store::{ReadError, Reader};
use writ_ledger::{Hash, SignedCheckpoint, leaf_hash};
use writ_schema::event::Event;
use writ_schema::protocol::{CheckpointUpdate, ProvenRecord, ServerMessage};
use writ_schema::seal::OpeningKeys;
use writ_schema::{Record, RequestId, Seq};

/// Why a record could not be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProofFailure {
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The record is not what the log should hold there.
    #[error("record {0} cannot be read back")]
    Record(Seq),
    /// The key to who the source is was destroyed.
    #[error("the source of record {0} was erased")]
    Erased(Seq),
}

/// Makes proofs, all of them against one checkpoint.
#[derive(Debug)]
pub struct Prover<'a, K: OpeningKeys> {
    log: &'a Reader,
    keys: &'a K,
    checkpoint: Arc<SignedCheckpoint>,
    /// The records that changed the log's key.
    key_changes: Vec<Seq>,
}

impl<'a, K: OpeningKeys> Prover<'a, K> {
    /// Proofs that lead to this checkpoint of the log.
    pub fn new(
        log: &'a Reader,
        keys: &'a K,
        checkpoint: Arc<SignedCheckpoint>,
        key_changes: Vec<Seq>,
    ) -> Self {
        Self { log, keys, checkpoint, key_changes }
    }

    /// Size of the checkpoint that the proofs lead to.
    pub fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size
    }

    /// The checkpoint, for a receiver that holds the one of this size.
    pub fn checkpoint_from(&self, from_size: u64) -> Result<CheckpointUpdate, ProofFailure> {
        let consistency = if from_size == 0 || from_size == self.size() {
            Vec::new()
        } else {
            texts(&self.log.consistency(from_size, self.size())?.hashes)
        };
        // Whoever holds the tree that ends with a change may have got it before the change was known.
        let is_sent = |seq: &&Seq| seq.0.saturating_add(1) >= from_size && seq.0 < self.size();
        let changes = self.key_changes.iter().filter(is_sent);
        let rotations = changes.map(|seq| self.prove(*seq)).collect::<Result<_, _>>()?;
        Ok(CheckpointUpdate { note: self.checkpoint.text().to_owned(), from_size, consistency, rotations })
    }

    /// That the newest checkpoint begins with the tree of this size, and what root that one has.
    pub fn consistency(&self, request: RequestId, size: u64) -> Result<ServerMessage, ProofFailure> {
        let root = BASE64.encode(self.log.root(size)?.as_bytes());
        let proof = texts(&self.log.consistency(size, self.size())?.hashes);
        Ok(ServerMessage::Consistency { request, size, root, proof })
    }

    /// A cosigned checkpoint, and that the newest checkpoint goes on from it.
    pub fn cosigned(
        &self,
        request: RequestId,
        cosigned: &SignedCheckpoint,
    ) -> Result<ServerMessage, ProofFailure> {
        let proof = texts(&self.log.consistency(cosigned.checkpoint().size, self.size())?.hashes);
        Ok(ServerMessage::Cosigned { request, note: cosigned.text().to_owned(), proof })
    }

    /// A record that holds nothing for the receiver to open.
    pub fn prove(&self, seq: Seq) -> Result<ProvenRecord, ProofFailure> {
        let bytes = self.log.read(seq.0)?;
        let record = String::from_utf8(bytes).map_err(|_| ProofFailure::Record(seq))?;
        let proof = texts(&self.log.inclusion(seq.0, self.size())?.hashes);
        Ok(ProvenRecord { seq, record, proof, keys: Vec::new() })
    }

    /// A `connection.authorized` record with the key to its source, for both of its ends.
    pub fn prove_authorized(&self, seq: Seq) -> Result<ProvenRecord, ProofFailure> {
        let mut proven = self.prove(seq)?;
        let record = decode(&proven)?;
        let Event::ConnectionAuthorized(_) = &record.event else { return Err(ProofFailure::Record(seq)) };
        proven.keys = record.held_keys(self.keys, |_| true);
        if proven.keys.is_empty() { Err(ProofFailure::Erased(seq)) } else { Ok(proven) }
    }

    /// A `node.joined` record with the key to its name, for the node itself.
    pub fn prove_own_join(&self, seq: Seq) -> Result<ProvenRecord, ProofFailure> {
        let mut proven = self.prove(seq)?;
        let record = decode(&proven)?;
        let Event::NodeJoined(_) = &record.event else { return Err(ProofFailure::Record(seq)) };
        proven.keys = record.held_keys(self.keys, |_| true);
        Ok(proven)
    }
}

/// The leaf hash of a record of the log, base64: what an acknowledgement is signed over.
pub fn leaf_text(log: &Reader, seq: Seq) -> Result<String, ReadError> {
    Ok(BASE64.encode(leaf_hash(&log.read(seq.0)?).as_bytes()))
}

fn decode(proven: &ProvenRecord) -> Result<Record, ProofFailure> {
    Record::decode(proven.record.as_bytes()).map_err(|_| ProofFailure::Record(proven.seq))
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| BASE64.encode(hash.as_bytes())).collect()
}
