//! What witnesses have cosigned of a log, as it is kept in the log's folder: the newest such checkpoint, and some of those before.
//!
//! A cosigned checkpoint bounds when records were logged: what it covers was there before a quorum cosigned it, and of what comes
//! after it no witness had heard yet. The history is thinned with age, so that it stays small for as long as a log lives: the first
//! checkpoint of each hour for two days, of each day for a year and a half, then of every thirty days. Nothing in it has to be trusted:
//! whoever reads it checks the signatures.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{OsDisk, replace};
use crate::store::COSIGNED;

/// Those before it, thinned: one JSON object a line.
pub const COSIGNED_HISTORY: &str = "checkpoints.cosigned";

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Until which age, in seconds, one checkpoint is kept of every so many seconds; then one of [`OLDEST_SLOT`].
const SLOTS: [(u64, u64); 2] = [(2 * DAY, HOUR), (550 * DAY, DAY)];
const OLDEST_SLOT: u64 = 30 * DAY;

/// Most checkpoints that are kept: the hours, the days, and a hundred years.
const MAX_KEPT: usize = 2048;

/// The largest history that is read: as many notes with 64 cosignatures each.
pub const MAX_HISTORY_BYTES: usize = MAX_KEPT * 16 * 1024;

/// A cosigned checkpoint, and when it was kept by the clock of whoever keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptCheckpoint {
    /// In Unix seconds. For thinning only: what counts are the times in the cosignatures.
    pub kept_at: u64,
    /// The signed note.
    pub note: String,
}

/// The history, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CosignedHistory(Vec<KeptCheckpoint>);

impl CosignedHistory {
    /// Reads a history's text.
    ///
    /// # Errors
    /// When it is too large or a line is not in the format.
    pub fn parse(text: &str) -> io::Result<Self> {
        if text.len() > MAX_HISTORY_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let lines = text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from));
        lines.collect::<io::Result<_>>().map(Self)
    }

    /// Reads the history in a log's folder; it is empty where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(dir: &Path) -> io::Result<Self> {
        match fs::read_to_string(dir.join(COSIGNED_HISTORY)) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Puts the history into a log's folder, in place of the one that is there, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one stands then.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        replace(&OsDisk, &dir.join(COSIGNED_HISTORY), self.to_text().as_bytes())
    }

    /// The history as it stands in its file and is published.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Numbers and texts can always be written.
        let lines = self.0.iter().filter_map(|kept| serde_json::to_string(kept).ok());
        lines.map(|line| line + "\n").collect()
    }

    /// Takes up a checkpoint that was cosigned just now, if it is the first of its hour, and thins what has grown old. Tells
    /// whether the history has changed.
    pub fn add(&mut self, now: u64, note: &str) -> bool {
        if self.0.last().is_some_and(|last| last.kept_at / HOUR == now / HOUR) {
            return false;
        }
        self.0.push(KeptCheckpoint { kept_at: now, note: note.to_owned() });
        self.0.dedup_by_key(|kept| slot(now, kept.kept_at));
        // A clock that jumps to and fro could keep more than its slots.
        let surplus = self.0.len().saturating_sub(MAX_KEPT);
        self.0.drain(..surplus);
        true
    }

    /// The checkpoints' signed notes, the oldest first. Not to be believed before they are checked.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|kept| kept.note.as_str())
    }
}

/// What one checkpoint is kept of.
fn slot(now: u64, at: u64) -> (u64, u64) {
    let age = now.saturating_sub(at);
    let width = SLOTS.into_iter().find(|(until, _)| age < *until).map_or(OLDEST_SLOT, |(_, width)| width);
    (width, at / width)
}

/// Copies what witnesses have cosigned from one folder of a log to another.
///
/// # Errors
/// When a file that is there cannot be copied.
pub fn copy_cosigned(from: &Path, to: &Path) -> io::Result<()> {
    for name in [COSIGNED, COSIGNED_HISTORY] {
        match fs::read(from.join(name)) {
            Ok(bytes) => replace(&OsDisk, &to.join(name), &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_century_of_cosigning_keeps_hours_then_days_then_months_and_stays_small() {
        let mut history = CosignedHistory::default();
        let begin = 1_800_000_000;
        let end = begin + 100 * 365 * DAY;
        let mut now = begin;
        while now < end {
            // Every two hours for most of the century, and every ten minutes in its last days.
            now += if end - now > 3 * DAY { 2 * HOUR } else { 600 };
            history.add(now, &now.to_string());
            assert!(history.0.len() <= MAX_KEPT, "{}", history.0.len());
        }
        assert_eq!(history.0.first().map(|kept| kept.kept_at), Some(begin + 2 * HOUR), "the beginning stays");
        for (age, distance) in [(DAY, HOUR), (100 * DAY, DAY), (40_000 * DAY / 2, OLDEST_SLOT)] {
            let at = history.0.partition_point(|kept| kept.kept_at < end - age);
            let between = history.0[at].kept_at - history.0[at - 1].kept_at;
            assert!(between <= distance + 2 * HOUR && between > distance / 2, "{age}: {between}");
        }
        assert_eq!(CosignedHistory::parse(&history.to_text()).unwrap(), history);
    }

    #[test]
    fn one_checkpoint_of_an_hour_is_kept_and_a_clock_that_goes_back_ends_nothing() {
        let mut history = CosignedHistory::default();
        assert!(history.add(10 * HOUR, "a"));
        assert!(!history.add(10 * HOUR + 600, "b"));
        assert!(history.add(1000 * DAY, "from the future"));
        assert!(history.add(11 * HOUR, "c"));
        assert!(history.add(12 * HOUR, "d"));
        assert_eq!(history.notes().collect::<Vec<_>>(), ["a", "from the future", "c", "d"]);
        for hour in 0..5000 {
            history.add(if hour % 2 == 0 { hour * HOUR } else { 9_000 * DAY }, "x");
            assert!(history.0.len() <= MAX_KEPT);
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(CosignedHistory::load(dir.path()).unwrap(), CosignedHistory::default());
        history.store(dir.path()).unwrap();
        assert_eq!(CosignedHistory::load(dir.path()).unwrap(), history);
        fs::write(dir.path().join(COSIGNED_HISTORY), "{\n").unwrap();
        assert!(CosignedHistory::load(dir.path()).is_err());
    }
}
