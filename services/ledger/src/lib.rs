//! The ledger: bytes in, proofs out.
//!
//! Records are opaque JSON objects; their exact bytes are the leaves of a Merkle tree after RFC 6962, published in
//! the formats of C2SP (tlog-tiles, tlog-checkpoint, signed-note). [`store::Log`] writes them, [`store::Reader`]
//! reads and proves them, [`verify`], [`audit`] and [`bundle`] check them with nothing but the log's public key.

pub mod audit;
pub mod backup;
pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod cosigned;
pub mod directory;
pub mod disk;
mod growing;
pub mod key;
pub mod note;
pub mod proof;
pub mod proof_file;
pub mod rotation;
pub mod split_view;
pub mod store;
pub mod tile;
pub mod tree;
pub mod trust_policy;
pub mod verify;
pub mod witness;

pub use audit::{AuditReport, TileFinding, audit_tiles};
pub use backup::{BackupError, back_up, restore};
pub use bundle::{Bundle, BundleReport, Statement};
pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use cosigned::CosignedHistory;
pub use directory::TilesDirectory;
pub use key::{AgentSigner, CosignerKey, CosigningKey, KeyError, SignError, Signer, SigningKey, VerifierKey};
pub use note::{Note, NoteError, NoteSignature};
pub use proof::{ConsistencyProof, InclusionProof, ProofError};
pub use proof_file::{ProofFile, ProofFileError};
pub use rotation::{LogKeys, Rotation, RotationError, RotationsError};
pub use split_view::{SplitView, SplitViewError, SplitViewReport};
pub use store::{AppendError, Commit, FileLog, Log, OpenError, ReadError, Reader};
pub use tree::{Hash, leaf_hash};
pub use trust_policy::TrustPolicy;
pub use verify::{Finding, Report, verify_log};
