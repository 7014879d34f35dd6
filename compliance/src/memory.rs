//! Evidence from a file of records: for work without a network, and for tests.

use std::collections::BTreeMap;

use serde::Deserialize;
use writ_schema::Record;

use crate::entry::Entry;
use crate::evidence::{
    Check, Checkpoint, Evidence, EvidenceError, Extent, Period, Scope, Selection, Verification,
};

/// Records in memory, with what is known of their log.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    period: Period,
    network: String,
    checkpoint: Option<Checkpoint>,
    verification: Verification,
    /// What the period holds, where the entries are only a part of it.
    extent: Option<Extent>,
    entries: Vec<Entry>,
}

/// The file: the records as they stand in the log, and a checkpoint if one is at hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    network: String,
    #[serde(default)]
    checkpoint: Option<FileCheckpoint>,
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCheckpoint {
    origin: String,
    size: u64,
    root: String,
}

impl Records {
    /// Records of a period. Those after the period are left out.
    pub fn new(network: impl Into<String>, period: Period, mut entries: Vec<Entry>) -> Self {
        entries.retain(|entry| entry.time < period.to);
        entries.sort_by_key(|entry| entry.seq);
        let (checkpoint, verification, extent) = (None, Verification::default(), None);
        Self { period, network: network.into(), checkpoint, verification, extent, entries }
    }

    /// Reads a file: `{"network": …, "checkpoint": {"origin", "size", "root"}, "records": […]}`.
    /// A file is taken as it is; nothing of it is verified, and the report says so.
    pub fn from_json(json: &[u8], period: Period) -> Result<Self, EvidenceError> {
        let file: File = serde_json::from_slice(json).map_err(|error| EvidenceError::Source {
            source_name: "the JSON file".to_owned(),
            problem: error.to_string(),
        })?;
        let entries = file.records.into_iter().map(Entry::from).collect();
        let checkpoint = file.checkpoint.map(|c| Checkpoint { origin: c.origin, size: c.size, root: c.root });
        Ok(Self { checkpoint, ..Self::new(file.network, period, entries) })
    }

    /// With what their period holds besides them.
    pub fn of_extent(self, extent: Extent) -> Self {
        Self { extent: Some(extent), ..self }
    }

    /// With the checkpoint that the records stand under and what was verified of it.
    pub fn verified(mut self, checkpoint: Checkpoint, witnesses: u64) -> Self {
        let proven =
            self.entries.iter().filter(|entry| self.period.contains(entry.time)).map(|entry| entry.seq);
        self.verification = Verification {
            signature: Check::Passed,
            consistency: Check::Passed,
            proven: proven.collect(),
            failed: Vec::new(),
            witnesses,
        };
        self.checkpoint = Some(checkpoint);
        self
    }

    /// What the period holds if these records are all there are.
    fn counted(&self) -> Extent {
        let within: Vec<&Entry> =
            self.entries.iter().filter(|entry| self.period.contains(entry.time)).collect();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for entry in &within {
            *counts.entry(entry.kind().to_owned()).or_default() += 1;
        }
        let range = within.first().zip(within.last()).map(|(first, last)| (first.seq, last.seq));
        Extent { range, counts }
    }
}

impl Evidence for Records {
    fn scope(&self) -> Result<Scope, EvidenceError> {
        Ok(Scope {
            network: self.network.clone(),
            period: self.period,
            extent: self.extent.clone().unwrap_or_else(|| self.counted()),
            as_of: self.entries.last().map(|entry| entry.time),
            checkpoint: self.checkpoint.clone(),
            verification: self.verification.clone(),
        })
    }

    fn records(&self, selection: &Selection) -> Result<Vec<Entry>, EvidenceError> {
        let wanted = |entry: &&Entry| {
            selection.kinds.iter().any(|kind| kind == entry.kind())
                && selection.from.is_none_or(|from| from <= entry.time)
                && entry.time < selection.to
        };
        Ok(self.entries.iter().filter(wanted).cloned().collect())
    }
}
