//! The ledger: bytes in, proofs out.
//!
//! Records are opaque JSON objects; their exact bytes are the leaves of a Merkle tree after RFC 6962, published in
//! the formats of C2SP (tlog-tiles, tlog-checkpoint, signed-note). [`store::FileLog`] writes them, [`store::Reader`]
//! reads and proves them, and they are checked with nothing but the log's public key.

pub mod checkpoint;
pub mod disk;
pub mod note;
pub mod proof;
pub mod store;
pub mod tile;
pub mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use note::{Note, NoteError, SignError, Signer, SigningKey, VerifierKey};
pub use proof::{ConsistencyProof, InclusionProof, ProofError};
pub use store::{AppendError, Commit, FileLog, OpenError, ReadError, Reader};
pub use tree::{Hash, leaf_hash};
