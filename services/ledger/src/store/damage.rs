//! What can be wrong with a log's segments, and where.

use std::fmt;

use super::record::RecordProblem;

/// Damage at one place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file name.
    pub segment: String,
    /// The sequence number of the damaged record.
    pub seq: u64,
    /// Where the record begins among the segment's lines: in the file, or in what a sealed one holds.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, seq, offset, problem } = self;
        write!(f, "segment {segment}, record {seq}, byte {offset}: {problem}")
    }
}

/// What can be wrong with a line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The line is no record.
    #[error("not a record: {0}")]
    Record(#[from] RecordProblem),
    /// A commit without records.
    #[error("an empty line where a record should be")]
    EmptyCommit,
    /// The segment ends inside a commit.
    #[error("the segment ends inside a commit")]
    Unfinished,
    /// The frame of a sealed segment in which the record should be cannot be decompressed.
    #[error("the frame that holds the records from this one on is damaged: {0}")]
    Frame(String),
    /// The record's hash is not the one in the tree.
    #[error("the record was altered: its hash is not the one in the tree")]
    Altered,
    /// The segment does not begin where the one before ends.
    #[error(
        "the segment begins with record {found}, but the one before ends at {expected}: a segment is missing or too many"
    )]
    NotContiguous {
        /// The sequence number that should come.
        expected: u64,
        /// The one that the file's name says.
        found: u64,
    },
}
