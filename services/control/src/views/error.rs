//! What can go wrong with the views.

use writ_schema::{DecodeError, Seq};

/// Why a record could not be folded. The projector stops there: nothing is skipped.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The database failed.
    #[error("the views' database failed at record {seq}: {source}")]
    Database {
        /// At which record.
        seq: Seq,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A record is missing before this one.
    #[error(
        "projection `{projection}` expects record {expected} and was given {found}: run `writd views rebuild`"
    )]
    Gap {
        /// Which projection.
        projection: &'static str,
        /// The record that is next.
        expected: Seq,
        /// The record that came.
        found: Seq,
    },
    /// A record changes something that no earlier record made.
    #[error("record {seq} is about {what}, which no earlier record made: the log or the views are damaged")]
    Orphan {
        /// Which record.
        seq: Seq,
        /// What it is about.
        what: String,
    },
    /// A record that this version does not know.
    #[error(transparent)]
    Unknown(#[from] DecodeError),
}

/// Why a view could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The database failed.
    #[error("the views' database failed: {0}; if this stays so, stop writd and run `writd views rebuild`")]
    Database(#[from] rusqlite::Error),
    /// The moment asked for lies after the newest record that the views hold.
    #[error("record {asked} is not there yet: the views hold {held} records")]
    NotYet {
        /// The record asked for.
        asked: Seq,
        /// Records held.
        held: u64,
    },
    /// The projector has stopped.
    #[error("the views have stopped following the log: {0}")]
    Stopped(String),
    /// A page was asked for that is larger than any may be.
    #[error("a page holds at most {max} rows, {asked} were asked for: ask for less and use `after` to go on", max = super::MAX_PAGE)]
    PageTooLarge {
        /// Rows asked for.
        asked: usize,
    },
    /// A stored value is not what was written.
    #[error("the views hold an unreadable {0}: stop writd and run `writd views rebuild`")]
    Damaged(&'static str),
    /// Too many queries at once.
    #[error("too many queries at once: try again in a moment")]
    Busy,
}
