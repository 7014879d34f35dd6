//! What a rule is given, and what it says: a case, and points for and against.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use writ_schema::Seq;

use crate::entry::{Entry, Fact};
use crate::evidence::{Period, Scope};
use crate::framework::{EvidenceQuery, Param, ParamValue};
use crate::wording::Sentence;

/// What a point does to the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It speaks against the requirement.
    Contradicts,
    /// A person has to look at it.
    Concerns,
    /// It supports the requirement.
    Supports,
    /// It changes nothing.
    Informs,
}

impl Weight {
    /// The name that stands in styles and files.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Contradicts => "contradicts",
            Self::Concerns => "concerns",
            Self::Supports => "supports",
            Self::Informs => "informs",
        }
    }
}

/// One thing that the records say, with the records that say it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What it does to the status.
    pub weight: Weight,
    /// What it says.
    pub sentence: Sentence,
    /// The records behind it, in order.
    pub records: Vec<Seq>,
}

impl Point {
    /// A point with its records. Support without a record is none: it only informs.
    pub fn new(weight: Weight, sentence: Sentence, records: impl IntoIterator<Item = Seq>) -> Self {
        let mut records: Vec<Seq> = records.into_iter().collect();
        records.sort_unstable();
        records.dedup();
        let hollow = records.is_empty() && weight == Weight::Supports;
        Self { weight: if hollow { Weight::Informs } else { weight }, sentence, records }
    }
}

/// What a rule works on: the records that its control asks for and the parameters it is given.
pub struct Case<'a> {
    /// The part of the log.
    pub scope: &'a Scope,
    pub(crate) params: &'a BTreeMap<String, Param>,
    pub(crate) query: &'a EvidenceQuery,
    pub(crate) entries: &'a [Entry],
}

impl<'a> Case<'a> {
    /// The time that the report is about.
    pub fn period(&self) -> Period {
        self.scope.period
    }

    /// The moment at which the state is judged: the end of the period, or the newest record if that is earlier.
    pub fn end(&self) -> Timestamp {
        self.scope.as_of.map_or(self.scope.period.to, |newest| newest.min(self.scope.period.to))
    }

    /// The control's records of the period, in order.
    pub fn within(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let (query, period) = (self.query, self.scope.period);
        self.entries.iter().filter(move |entry| {
            let asked = query.period.contains(entry.kind()) || query.history.contains(entry.kind());
            asked && period.contains(entry.time)
        })
    }

    /// The control's records from the log's beginning to the end of the period, in order.
    pub fn history(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let (query, to) = (self.query, self.scope.period.to);
        self.entries.iter().filter(move |entry| query.history.contains(entry.kind()) && entry.time < to)
    }

    /// The history's record with this number.
    pub fn record(&self, seq: Seq) -> Option<&'a Entry> {
        let index = self.entries.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        self.entries.get(index)
    }

    /// A numeric parameter. Frameworks are checked when they are read, so it is there.
    pub fn number(&self, name: &str) -> u64 {
        match self.params.get(name).map(|param| &param.value) {
            Some(ParamValue::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A parameter that is yes or no.
    pub fn flag(&self, name: &str) -> bool {
        self.params.get(name).is_some_and(|param| param.value == ParamValue::Flag(true))
    }

    /// Named groups of kinds.
    pub fn groups(&self, name: &str) -> impl Iterator<Item = (&'a str, &'a BTreeSet<String>)> {
        let groups = match self.params.get(name).map(|param| &param.value) {
            Some(ParamValue::Groups(groups)) => Some(groups),
            _ => None,
        };
        groups.into_iter().flatten().map(|(name, kinds)| (name.as_str(), kinds))
    }
}

/// Whether the record is one of a kind, for filters that read well.
pub(crate) fn seqs<'a>(entries: impl IntoIterator<Item = &'a Entry>, is: impl Fn(&Fact) -> bool) -> Vec<Seq> {
    entries.into_iter().filter(|entry| is(&entry.fact)).map(|entry| entry.seq).collect()
}
