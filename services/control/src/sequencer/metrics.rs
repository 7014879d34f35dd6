//! Counters of the sequencer, for whoever exports them. Sizes and times of single commits are in
//! [`Commit`](super::Commit).

use std::sync::atomic::{AtomicU64, Ordering};

/// What the sequencer has done since it started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Commands in the queue now.
    pub queued: AtomicU64,
    /// Commands that were turned away because the queue was full.
    pub turned_away: AtomicU64,
    /// Commands that were carried out.
    pub accepted: AtomicU64,
    /// Commands that were rejected.
    pub rejected: AtomicU64,
    /// Commands that were answered from memory.
    pub repeated: AtomicU64,
    /// Durable commits.
    pub commits: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Microseconds that appending them took.
    pub append_micros: AtomicU64,
    /// Commits that failed.
    pub failed_commits: AtomicU64,
    /// What stands in the log's store and is no part of the log, where others can write to it.
    pub ignored_entries: AtomicU64,
    /// 1 while something beside appending fails, such as compressing what is full.
    pub upkeep_fails: AtomicU64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
