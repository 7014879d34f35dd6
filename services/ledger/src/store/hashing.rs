//! The tree's part of a commit; of a large one, done by a thread of its own while the disk is busy with the lines.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::reader::{Shared, Tree};
use super::tiles::{LEVELS, stored_hashes};
use super::{Batch, StoreError};
use crate::tree::Frontier;

/// With commits of this size or more it pays: waking the thread takes as long as hashing some ten kilobytes.
pub(super) const MEANWHILE_BYTES: usize = 24 * 1024;

/// From this size on, half of the work is worth starting another thread for.
const SHARED_BYTES: usize = 256 * 1024;

/// The thread. It ends with this.
#[derive(Debug)]
pub(super) struct Hashing {
    shared: Arc<Shared>,
    begin: Option<SyncSender<Job>>,
    done: Receiver<Result<Frontier, StoreError>>,
    thread: Option<JoinHandle<()>>,
}

/// The records of a commit, one behind the other, and the tree before them.
#[derive(Debug)]
struct Job {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    before: Frontier,
}

impl Hashing {
    /// Starts the thread. Where that is refused, commits are hashed as they are begun.
    pub fn start(shared: Arc<Shared>) -> Self {
        let (begin, jobs) = sync_channel::<Job>(1);
        let (sender, done) = sync_channel(1);
        let tree = shared.clone();
        let run = move || jobs.iter().try_for_each(|job| sender.send(job.run(&tree)));
        let thread = std::thread::Builder::new().name("hashing".to_owned()).spawn(move || drop(run())).ok();
        Self { shared, begin: thread.is_some().then_some(begin), done, thread }
    }

    /// Begins to check the records of a commit, to hash them and to write the hashes.
    pub fn begin(&mut self, records: &[&[u8]], before: &Frontier) -> Running<'_> {
        let (bytes, lengths) = (records.concat(), records.iter().map(|record| record.len()).collect());
        let job = Job { bytes, lengths, before: before.clone() };
        let result = match &self.begin {
            Some(begin) => begin.send(job).err().map(|_| Err(StoreError::Poisoned)),
            None => Some(job.run(&self.shared)),
        };
        Running { hashing: self, result }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.begin = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to say than what it printed.
            let _ = thread.join();
        }
    }
}

/// A commit that is being hashed. It is waited for in any case: a commit that fails must not write hashes beside the next.
pub(super) struct Running<'a> {
    hashing: &'a Hashing,
    result: Option<Result<Frontier, StoreError>>,
}

impl Running<'_> {
    /// Waits for the edge of the tree after the commit.
    pub fn finish(&mut self) -> Result<Frontier, StoreError> {
        self.wait();
        self.result.replace(Err(StoreError::Poisoned)).unwrap_or(Err(StoreError::Poisoned))
    }

    fn wait(&mut self) {
        if self.result.is_none() {
            self.result = Some(self.hashing.done.recv().unwrap_or(Err(StoreError::Poisoned)));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.wait();
    }
}

impl Job {
    fn run(&self, shared: &Shared) -> Result<Frontier, StoreError> {
        let mut rest = self.bytes.as_slice();
        let cut = |length: &usize| rest.split_off(..*length).unwrap_or_default();
        let records: Vec<&[u8]> = self.lengths.iter().map(cut).collect();
        let (first, previous_root) = (self.before.size(), self.before.root());
        let batch = Batch { first, previous_root, records: &records };
        let hash = || write_hashes(&shared.tree, &self.before, records.iter().copied());
        if self.bytes.len() < SHARED_BYTES {
            return batch.check_texts().and_then(|()| hash());
        }
        std::thread::scope(|scope| {
            let check = std::thread::Builder::new().spawn_scoped(scope, || batch.check_texts());
            let hashed = hash();
            let checked = match check {
                Ok(check) => check.join().unwrap_or(Err(StoreError::Poisoned)),
                Err(_) => batch.check_texts(),
            };
            checked.and(hashed)
        })
    }
}

/// Writes the hashes that records add to a tree, and returns the edge of the tree after them.
pub(super) fn write_hashes<'a>(
    tree: &Tree,
    before: &Frontier,
    records: impl Iterator<Item = &'a [u8]>,
) -> Result<Frontier, StoreError> {
    let Tree::Files(files) = tree else { return Err(StoreError::Poisoned) };
    let (mut frontier, mut levels) = (before.clone(), [const { Vec::new() }; LEVELS]);
    for record in records {
        frontier.push_with(crate::tree::leaf_hash(record), |level, hash| {
            if let Some(level) = levels.get_mut(usize::from(level)) {
                level.extend_from_slice(&hash.0);
            }
        });
    }
    for (level, hashes) in levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
        files
            .write(level, stored_hashes(before.size(), level), hashes)
            .map_err(|source| StoreError::Failed { path: files.path(level), source })?;
    }
    Ok(frontier)
}
