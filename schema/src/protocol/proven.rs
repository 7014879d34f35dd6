//! Records with their proofs, as they travel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Seq;
use crate::seal::HeldKey;

/// A record that the receiver need not believe: it can be checked against the checkpoint of the same frame.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenRecord {
    /// Position in the log.
    pub seq: Seq,
    /// The record's exact bytes.
    pub record: String,
    /// RFC 6962 inclusion proof in the tree of the frame's checkpoint: base64 hashes, leaf to root.
    pub proof: Vec<String>,
    /// The keys of the record's sealed fields that the receiver is entitled to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<HeldKey>,
}

/// A newer checkpoint, with the proof that it continues the one the receiver holds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointUpdate {
    /// C2SP signed note.
    pub note: String,
    /// Size of the tree that the receiver is taken to hold; 0 if none.
    pub from_size: u64,
    /// RFC 6962 consistency proof from that size: base64 hashes.
    pub consistency: Vec<String>,
    /// The changes of the log's key that the receiver may not know, in order, each proven in the tree of this checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<ProvenRecord>,
}
