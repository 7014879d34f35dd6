//! Moments of the log: what was known after how many records.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use writ_schema::Seq;

use super::read::{to_nanos, to_timestamp};
use super::{ViewError, store};

/// The moment that a query asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsOf {
    /// Everything that is known.
    #[default]
    Present,
    /// Right after this record.
    Record(Seq),
    /// At this time: after the last record that is not later.
    Time(Timestamp),
}

/// A moment, found in the log: every answer about it is the same for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// How many records are considered.
    pub size: u64,
    /// What the clock showed: decides what has expired.
    pub time: Timestamp,
}

impl Moment {
    /// The last record considered.
    pub fn seq(&self) -> Option<Seq> {
        self.size.checked_sub(1).map(Seq)
    }

    /// The number of records as SQLite counts.
    pub(super) fn bound(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }

    /// The time as it is stored.
    pub(super) fn nanos(&self) -> i64 {
        to_nanos(self.time)
    }

    /// Finds the moment in the log as far as the views have followed it.
    pub fn resolve(connection: &Connection, as_of: AsOf, now: Timestamp) -> Result<Self, ViewError> {
        let held = store::lowest_position(connection)?;
        match as_of {
            AsOf::Present => Ok(Self { size: held, time: now }),
            AsOf::Record(seq) if seq.0 >= held => Err(ViewError::NotYet { asked: seq, held }),
            AsOf::Record(seq) => {
                let stored = connection
                    .query_row("SELECT time FROM records WHERE seq = ?1", params![seq.0], |row| row.get(0))
                    .optional()?;
                let time = stored.ok_or(ViewError::NotYet { asked: seq, held })?;
                Ok(Self { size: seq.0.saturating_add(1), time: to_timestamp(time)? })
            }
            AsOf::Time(time) => {
                // Times never go back along the log, so the last record not later than this ends what was known.
                let last: Option<u64> = connection
                    .query_row(
                        "SELECT seq FROM records WHERE time <= ?1 ORDER BY time DESC, seq DESC LIMIT 1",
                        params![to_nanos(time)],
                        |row| row.get(0),
                    )
                    .optional()?;
                let size = last.map_or(0, |seq| seq.saturating_add(1)).min(held);
                Ok(Self { size, time: time.min(now) })
            }
        }
    }
}
