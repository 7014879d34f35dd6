//! Records, checkpoints and proofs.

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};
use jiff::Timestamp;
use writ_ledger::SignedCheckpoint;
use writ_ledger::store::Reader;
use writ_schema::Seq;
use writ_schema::event::Role;

use crate::cosigners::{Cosigners, WitnessStatus};
use crate::graphql::caller::Needs;
use crate::graphql::error::{Code, fail};
use crate::graphql::scalars::{Time, UInt};
use crate::views::{Moment, records::RecordRow};

/// The moment that an answer is about. Asked again as of the same record, it is the same for ever.
#[derive(SimpleObject)]
pub struct AsOf {
    /// The last record considered; absent before the first.
    pub seq: Option<UInt>,
    /// How many records were considered.
    pub size: UInt,
    /// What the clock showed.
    pub time: Time,
    /// A signed checkpoint of the log that covers these records.
    pub checkpoint: Checkpoint,
}

impl AsOf {
    /// Shows a moment.
    pub(in crate::graphql) fn new(context: &Context<'_>, moment: &Moment) -> Result<Self> {
        Ok(Self {
            seq: moment.seq().map(Into::into),
            size: moment.size.into(),
            time: moment.time.into(),
            checkpoint: Checkpoint::newest(context)?,
        })
    }
}

/// A signed statement of the log's size and root.
#[derive(SimpleObject)]
pub struct Checkpoint {
    /// Origin: which log.
    pub origin: String,
    /// How many records it covers.
    pub size: UInt,
    /// Root hash of the Merkle tree over them, base64.
    pub root: String,
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
}

impl Checkpoint {
    /// The newest one.
    pub(in crate::graphql) fn newest(context: &Context<'_>) -> Result<Self> {
        Ok(Self::new(&context.data::<Cosigners>()?.newest()))
    }

    fn new(signed: &SignedCheckpoint) -> Self {
        let checkpoint = signed.checkpoint();
        Self {
            origin: checkpoint.origin.clone(),
            size: checkpoint.size.into(),
            root: checkpoint.root.to_string(),
            note: signed.text().to_owned(),
        }
    }
}

/// The witnesses of the log, and what they have cosigned.
#[derive(SimpleObject)]
pub struct Witnesses {
    /// How many of them have to cosign what is published as the log's checkpoint.
    pub quorum: UInt,
    /// The newest checkpoint that so many have cosigned.
    pub cosigned: Option<Checkpoint>,
    /// Each of them.
    pub witnesses: Vec<Witness>,
}

/// A witness of the log.
#[derive(SimpleObject)]
pub struct Witness {
    /// Its name.
    pub name: String,
    /// Its public key (C2SP signed-note, type 4).
    pub vkey: String,
    /// Where it is asked.
    pub url: String,
    /// Size of the newest checkpoint that it has cosigned since the control plane started.
    pub cosigned_size: Option<UInt>,
    /// When, by its own clock.
    pub cosigned_at: Option<Time>,
    /// How often it was asked in vain.
    pub failures: UInt,
    /// What was wrong with the last request, if something was.
    pub problem: Option<String>,
}

impl Witnesses {
    /// How they are doing.
    pub(in crate::graphql) fn now(cosigners: &Cosigners) -> Self {
        let time = |seconds: u64| Timestamp::from_second(i64::try_from(seconds).ok()?).ok();
        let witness = |status: WitnessStatus| Witness {
            name: status.witness.key.name().to_owned(),
            vkey: status.witness.key.to_string(),
            url: status.witness.url,
            cosigned_size: status.cosigned_size.map(Into::into),
            cosigned_at: status.cosigned_at.and_then(time).map(Into::into),
            failures: status.failures.into(),
            problem: status.problem,
        };
        Self {
            quorum: cosigners.quorum().into(),
            cosigned: cosigners.cosigned().map(|signed| Checkpoint::new(&signed)),
            witnesses: cosigners.statuses().into_iter().map(witness).collect(),
        }
    }
}

/// A record of the log.
#[derive(SimpleObject, Debug, Clone)]
#[graphql(complex)]
pub struct Record {
    /// Position in the log.
    pub seq: UInt,
    /// When it was decided, by the control plane's clock.
    pub time: Time,
    /// Its kind, such as `node.joined`.
    pub kind: String,
    /// Who caused it: an identifier, or `system`, `agent`, `anonymous`.
    pub actor: String,
    /// The record that brought it about.
    pub cause: Option<UInt>,
    /// The command that it answers.
    pub command: ID,
}

impl Record {
    pub(in crate::graphql) fn new(row: RecordRow) -> Self {
        Self {
            seq: row.seq.into(),
            time: row.time.into(),
            kind: row.kind,
            actor: row.actor,
            cause: row.cause.map(Into::into),
            command: row.command.into(),
        }
    }

    /// The position as a number of ours.
    pub(in crate::graphql) fn position(&self) -> Seq {
        self.seq.into()
    }
}

#[ComplexObject]
impl Record {
    /// Its exact bytes, which are JSON: what was hashed and is proven. Sealed fields stay sealed.
    #[graphql(guard = "Needs(Role::Auditor)")]
    async fn json(&self, context: &Context<'_>) -> Result<String> {
        read_text(context.data::<Reader>()?, self.position())
    }

    /// Proof that it is in the log, to the newest checkpoint.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = 5)]
    async fn proof(&self, context: &Context<'_>) -> Result<InclusionProof> {
        let reader = context.data::<Reader>()?;
        let checkpoint = Checkpoint::newest(context)?;
        let text = read_text(reader, self.position())?;
        let proof = reader.inclusion(self.seq.0, checkpoint.size.0).map_err(unreadable)?;
        Ok(InclusionProof {
            index: self.seq,
            leaf: writ_ledger::leaf_hash(text.as_bytes()).to_string(),
            hashes: proof.hashes.iter().map(ToString::to_string).collect(),
            checkpoint,
        })
    }
}

/// Reads a record's exact bytes.
pub(in crate::graphql) fn read_text(reader: &Reader, seq: Seq) -> Result<String> {
    let bytes = reader.read(seq.0).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> async_graphql::Error {
    fail(Code::Unavailable, format!("the log cannot be read: {error}"))
}

/// RFC 6962 proof that a record is in the tree of a checkpoint.
#[derive(SimpleObject)]
pub struct InclusionProof {
    /// The record's position.
    pub index: UInt,
    /// Its leaf hash, base64.
    pub leaf: String,
    /// The hashes from leaf to root, base64.
    pub hashes: Vec<String>,
    /// The checkpoint that they lead to.
    pub checkpoint: Checkpoint,
}

/// RFC 6962 proof that a log only grew.
#[derive(SimpleObject)]
pub struct ConsistencyProof {
    /// Size of the earlier tree.
    pub old_size: UInt,
    /// Its root, base64, as this log has it: compare it with the one you hold.
    pub old_root: String,
    /// Size of the later tree.
    pub new_size: UInt,
    /// Its root, base64: that of `checkpoint` if no other size was asked for.
    pub new_root: String,
    /// The hashes, base64.
    pub hashes: Vec<String>,
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
}

/// What a time of the log holds.
#[derive(SimpleObject)]
pub struct Extent {
    /// The moment that the answer is about.
    pub as_of: AsOf,
    /// The first record of the time.
    pub first: Option<UInt>,
    /// The last record of the time.
    pub last: Option<UInt>,
    /// How many records there are of each kind.
    pub counts: Vec<KindCount>,
}

/// How many records there are of a kind.
#[derive(SimpleObject)]
pub struct KindCount {
    /// The kind.
    pub kind: String,
    /// How many.
    pub count: UInt,
}

/// The network.
#[derive(SimpleObject)]
pub struct Network {
    /// Its identity.
    pub network: ID,
    /// Its name: nodes are found as `<node>.<name>`.
    pub name: String,
    /// IPv4 addresses of nodes are taken from here.
    pub prefix_v4: String,
    /// IPv6 addresses of nodes are taken from here.
    pub prefix_v6: String,
    /// Origin of the log's checkpoints.
    pub origin: String,
    /// Verifier key that signs the log now (C2SP signed-note).
    pub log_key: String,
    /// The moment that the answer is about.
    pub as_of: AsOf,
    /// The record that made it.
    pub record: Record,
}

/// How far the views have followed the log.
#[derive(SimpleObject)]
pub struct ViewsStatus {
    /// Records folded.
    pub position: UInt,
    /// Records in the log.
    pub head: UInt,
    /// Records that are not folded yet.
    pub lag: UInt,
    /// For how long the views have been behind.
    pub behind_milliseconds: UInt,
    /// Why they do not go on.
    pub fault: Option<String>,
}

/// An evidence bundle: what `writ verify` checks offline.
#[derive(SimpleObject)]
pub struct EvidenceBundle {
    /// The moment that it is about.
    pub as_of: AsOf,
    /// How many records it proves.
    pub records: UInt,
    /// The last of the selection, if there is one; else the last of them.
    pub last_seq: UInt,
    /// Whether the selection goes on after it.
    pub has_more: bool,
    /// SHA-256 of the text, hex.
    pub digest: String,
    /// The bundle: save it byte for byte.
    pub text: String,
}
