//! Why something that the control plane sent is not accepted.

use writ_ledger::{CheckpointError, ProofError, RotationError};
use writ_schema::{DecodeError, NodeId, Seq};

/// What did not verify. It is shown by `status` and told to the control plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The checkpoint's signature, form or origin.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A change of the log's key.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// What came as a change of the log's key is none.
    #[error("record {0} does not change the log's key")]
    NoRotation(Seq),
    /// The newer checkpoint does not continue the one that was verified before.
    #[error("the checkpoint of {size} records does not continue the verified one of {held}: {source}")]
    Inconsistent {
        /// Size of the refused checkpoint.
        size: u64,
        /// Size of the one that is held.
        held: u64,
        /// What is wrong with the proof.
        source: ProofError,
    },
    /// The proof begins at another tree than the one that is held.
    #[error("the checkpoint's proof begins at {from} records, but {held} are verified here")]
    OtherStart {
        /// Where the proof begins.
        from: u64,
        /// What is held.
        held: u64,
    },
    /// The log has become shorter.
    #[error("the log shrank from {held} to {size} records: history was taken away")]
    Shrunk {
        /// Size of the refused checkpoint.
        size: u64,
        /// Size of the one that is held.
        held: u64,
    },
    /// Two different logs of the same size.
    #[error("the log was forked: two checkpoints of {size} records have different roots")]
    Forked {
        /// Their size.
        size: u64,
    },
    /// A hash of a proof is not base64 of 32 bytes.
    #[error("the proof of record {0} holds something that is not a hash")]
    MalformedProof(Seq),
    /// The record is not in the log.
    #[error("record {seq} is not proven to be in the log: {source}")]
    NotIncluded {
        /// Which record.
        seq: Seq,
        /// What is wrong with the proof.
        source: ProofError,
    },
    /// The record cannot be read.
    #[error("record {seq}: {source}")]
    Undecodable {
        /// Where it is said to stand.
        seq: Seq,
        /// Why.
        source: DecodeError,
    },
    /// The record says it stands elsewhere.
    #[error("the record at position {place} says that it is number {says}")]
    OtherPlace {
        /// The proven position.
        place: Seq,
        /// What the record says.
        says: Seq,
    },
    /// The record is of another kind.
    #[error("record {seq} is `{found}` where `{expected}` is needed")]
    OtherKind {
        /// Which record.
        seq: Seq,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The source of the connection cannot be read.
    #[error("record {0} does not show its source: the key for it is missing or wrong")]
    SourceSealed(Seq),
    /// A record is about another node, or names the wrong end.
    #[error("record {seq} is about {found}, not about {expected}")]
    OtherNode {
        /// Which record.
        seq: Seq,
        /// Whom it is about.
        found: NodeId,
        /// Whom it should be about.
        expected: NodeId,
    },
    /// The record names another authorization than the message.
    #[error("record {0} is about another authorization than the message says")]
    OtherAuthorization(Seq),
    /// A node would be authorized to reach itself.
    #[error("record {0} authorizes this node to reach itself")]
    Itself(Seq),
    /// A route leads to addresses of nodes, or the record is of a version that has none.
    #[error("record {0} authorizes a route that cannot be one")]
    BadRoute(Seq),
    /// The node's name does not follow from its identity key.
    #[error("the identity key in record {0} is not the one that the node is named by")]
    ForeignIdentity(Seq),
    /// A key of a node whose identity key was never seen.
    #[error("a key of {0} came before any record of that node")]
    UnknownNode(NodeId),
    /// A WireGuard key is not signed by the node's identity key.
    #[error("the WireGuard key in record {0} is not signed by the node's identity key")]
    UnsignedKey(Seq),
    /// A newer key of the node has been seen.
    #[error("record {seq} brings key {generation} of {node}, but key {seen} was seen already")]
    OldGeneration {
        /// Which record.
        seq: Seq,
        /// Whose key.
        node: NodeId,
        /// Its number.
        generation: u64,
        /// The newest number that was seen.
        seen: u64,
    },
    /// Two keys of one number.
    #[error("record {seq} brings a second key {generation} of {node}")]
    SecondKey {
        /// Which record.
        seq: Seq,
        /// Whose key.
        node: NodeId,
        /// Its number.
        generation: u64,
    },
    /// The authorization is over.
    #[error("the authorization of record {0} has expired; if this is wrong, check this machine's clock")]
    Expired(Seq),
    /// The authorization was kept for the next start, but has ended since.
    #[error("the authorization of record {0} ended before its time: it is not taken up again from the disk")]
    Ended(Seq),
    /// The log has shown two histories: what is new is not believed until an administrator has decided.
    #[error(
        "the authorization of record {0} is new, and the log was split: see `writ-agent status`, and `writ-agent trust reset` once it \
         is decided which history counts"
    )]
    SplitView(Seq),
    /// The policy that this node was given is not satisfied.
    #[error("the authorization of record {seq} is new, and not believed: {why}")]
    Unwitnessed {
        /// Which record.
        seq: Seq,
        /// What the policy lacks.
        why: String,
    },
    /// The wall clock shows a time before the one at which the state was written.
    #[error(
        "this machine's clock went back behind {0}: what was live then is not taken up again from the disk"
    )]
    ClockWentBack(jiff::Timestamp),
    /// A kept authorization without its other end.
    #[error("the kept records of {0} are missing")]
    Incomplete(NodeId),
    /// Record 0 is not that of the network that the enrolment key named.
    #[error("record 0 names another {0} than the enrolment key")]
    OtherNetwork(&'static str),
    /// The join record does not say what the control plane answered or this node asked for.
    #[error("the join record has another {0} than was asked for or answered")]
    OtherJoin(&'static str),
    /// The relay's key is not one.
    #[error("the relay key is not base64 of 32 bytes")]
    RelayKey,
    /// A message of the control plane before any checkpoint.
    #[error("there is no verified checkpoint yet")]
    NoCheckpoint,
}

impl Refusal {
    /// Whether it was the checkpoint that did not verify, and not what was proven by it.
    #[must_use]
    pub fn is_of_checkpoint(&self) -> bool {
        matches!(
            self,
            Self::Checkpoint(_)
                | Self::Rotation(_)
                | Self::NoRotation(_)
                | Self::Inconsistent { .. }
                | Self::OtherStart { .. }
                | Self::Shrunk { .. }
                | Self::Forked { .. }
        )
    }
}
