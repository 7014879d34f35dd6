//! What an assessment asks of the log, and the answer it works on.
//!
//! Reading is separated from judging: [`gather`] asks an [`Evidence`] source once for everything a framework needs,
//! and all that follows is a pure function of the [`Snapshot`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use writ_schema::Seq;

use crate::entry::Entry;
use crate::framework::{EvidenceQuery, Framework};

/// The most records a report takes in. A longer period has to be split.
pub const MAX_ENTRIES: usize = 2_000_000;

/// What the pictures need, whatever the controls ask for.
pub(crate) const CHART_KINDS: [&str; 4] =
    ["connection.authorized", "connection.denied", "connection.revoked", "connection.acknowledged"];

/// The time that a report is about: `from` belongs to it, `to` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// First moment of the period.
    pub from: Timestamp,
    /// First moment after it.
    pub to: Timestamp,
}

impl Period {
    /// Whether a moment lies within.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }
}

/// The state of the log's tree that the report stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name in its checkpoints.
    pub origin: String,
    /// How many records the tree holds.
    pub size: u64,
    /// The root hash, in base64.
    pub root: String,
}

/// The outcome of one check of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Nobody checked.
    #[default]
    NotDone,
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
}

/// What was verified of the log while the evidence was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// The log's signature on the checkpoint.
    pub signature: Check,
    /// That the checkpoint continues the one before it: of a server, that all its bundles stand in one growing log.
    pub consistency: Check,
    /// Records whose place in the tree was proven.
    pub proven: Vec<Seq>,
    /// Records whose proof failed.
    pub failed: Vec<Seq>,
    /// Valid cosignatures of witnesses on the checkpoint.
    pub witnesses: u64,
}

/// What a period of the log holds, of whatever kinds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extent {
    /// First and last record.
    pub range: Option<(Seq, Seq)>,
    /// How many records of each kind.
    pub counts: BTreeMap<String, u64>,
}

/// Which part of which log a report stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The network.
    pub network: String,
    /// The time it is about.
    pub period: Period,
    /// What the log says that the period holds: the kinds that are read, and all others.
    pub extent: Extent,
    /// Time of the newest record that the evidence may use.
    pub as_of: Option<Timestamp>,
    /// The tree that holds the range.
    pub checkpoint: Option<Checkpoint>,
    /// What of it was verified.
    pub verification: Verification,
}

/// Records of some kinds within a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The kinds.
    pub kinds: Vec<String>,
    /// From when; from the log's beginning if absent.
    pub from: Option<Timestamp>,
    /// Up to, but not including.
    pub to: Timestamp,
}

/// Why evidence could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The source failed.
    #[error("the evidence cannot be read from {source_name}: {problem}")]
    Source {
        /// Which source.
        source_name: String,
        /// What went wrong and what to do.
        problem: String,
    },
    /// More records than a report can take in.
    #[error("the period holds more than {MAX_ENTRIES} records to read; report on a shorter one")]
    TooMany,
}

/// A source of evidence: in service the query interface of a network, for offline work a file.
pub trait Evidence {
    /// The part of the log that the report stands on. Later records are never part of an answer.
    fn scope(&self) -> Result<Scope, EvidenceError>;

    /// The selected records in order.
    fn records(&self, selection: &Selection) -> Result<Vec<Entry>, EvidenceError>;
}

/// Everything that a report says follows from this and the framework.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The part of the log.
    pub scope: Scope,
    /// The records, in order.
    pub entries: Vec<Entry>,
}

/// Reads all evidence that a framework's controls and charts ask for.
pub fn gather(source: &dyn Evidence, framework: &Framework) -> Result<Snapshot, EvidenceError> {
    let scope = source.scope()?;
    let EvidenceQuery { mut period, history } = framework.evidence();
    period.extend(CHART_KINDS.map(str::to_owned));
    let mut found = BTreeMap::new();
    let wanted = [
        (history.iter().cloned().collect(), None),
        (period.difference(&history).cloned().collect(), Some(scope.period.from)),
    ];
    for (kinds, from) in wanted {
        let selection = Selection { kinds, from, to: scope.period.to };
        if selection.kinds.is_empty() {
            continue;
        }
        found.extend(source.records(&selection)?.into_iter().map(|entry| (entry.seq, entry)));
        if found.len() > MAX_ENTRIES {
            return Err(EvidenceError::TooMany);
        }
    }
    Ok(Snapshot { scope, entries: found.into_values().collect() })
}
