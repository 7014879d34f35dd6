//! Sealing: full segments are compressed, off the append path.
//!
//! ```text
//! plain, full ──▶ tiles and checkpoint synced ──▶ N.jsonl.zst.new written, synced ──▶ renamed, folder synced
//!             ──▶ readers use it ──▶ two segments later: N.jsonl removed
//! ```
//!
//! A crash between any two steps leaves the plain segment, the sealed one, or both, each whole; the sealed one stands before the
//! plain one. The plain copy of the two newest sealed segments is kept, so that an `rsync` that listed the folder before they
//! were sealed still finds what it listed.
//!
//! A sealed segment's index names the edge of the tree after it, from which the next opening goes on. So it is only written when
//! everything before that edge is durable: the tiles, and a checkpoint that covers it.

use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::blocks::{SegmentIndex, SharedIndex};
use super::scan::{file_name, sealed_name};
use super::sealed::SealedWriter;
use super::tiles::{LEVELS, TileFiles, level_path, stored_hashes};
use super::{CHECKPOINT, SEGMENTS, TILES};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, new_name};
use crate::note::Note;
use crate::tree::{Frontier, HASH_BYTES, leaf_hash, root_at};

/// Of so many of the newest sealed segments the plain copy is kept.
const KEPT_COPIES: usize = 2;

/// The checkpoint file follows a commit within moments; so often it is looked for before sealing is put off.
const CHECKPOINT_TRIES: u32 = 50;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);

/// When full segments are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sealing {
    /// By a thread of its own, as soon as a segment is full.
    #[default]
    InBackground,
    /// By the append that begins the next segment: for simulations, which must do the same each time.
    WhileAppending,
    /// Not at all.
    Off,
}

/// Seals the full segments of a log, in order.
#[derive(Debug)]
pub(super) struct Sealer {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    index: SharedIndex,
    /// The edge of the tree after the last sealed segment.
    frontier: Frontier,
    /// Whether to wait for the checkpoint file to follow.
    is_patient: bool,
    stop: Arc<AtomicBool>,
    /// Why a segment was not sealed when it was tried last.
    failure: Arc<Mutex<Option<String>>>,
}

impl Sealer {
    pub fn new(dir: PathBuf, disk: Arc<dyn Disk>, index: SharedIndex, frontier: Frontier) -> Self {
        Self { dir, disk, index, frontier, is_patient: false, stop: Arc::default(), failure: Arc::default() }
    }

    /// Seals what is due. If that fails the segment stays plain, and is tried again when the next one is full or the log is opened
    /// again.
    fn run_once(&mut self) {
        let failure = self.seal_due().err().map(|error| {
            format!("{}: a full segment was not compressed: {error}", self.dir.join(SEGMENTS).display())
        });
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Seals every full segment that the checkpoint file covers, and removes plain copies that need not be kept.
    pub fn seal_due(&mut self) -> io::Result<()> {
        while let Some(segment) = self.next_due() {
            if !self.is_covered(segment.next())? {
                break;
            }
            self.seal(&segment)?;
        }
        self.remove_copies()
    }

    /// The first segment that is not sealed, if another follows it.
    fn next_due(&self) -> Option<SegmentIndex> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.index.with(|index| {
            let (_active, full) = index.segments.split_last()?;
            let segment = full.iter().find(|segment| !segment.is_sealed)?;
            (segment.first == self.frontier.size()).then(|| segment.clone())
        })
    }

    /// Whether the checkpoint file covers so many records. If it does, it is made durable.
    fn is_covered(&self, size: u64) -> io::Result<bool> {
        let path = self.dir.join(CHECKPOINT);
        for attempt in 0..CHECKPOINT_TRIES {
            let signed = std::fs::read_to_string(&path)
                .ok()
                .and_then(|text| Checkpoint::parse(text.parse::<Note>().ok()?.text()).ok());
            if signed.is_some_and(|checkpoint| checkpoint.size >= size) {
                self.disk.open(&path)?.sync_data()?;
                self.disk.sync_folder(&self.dir)?;
                return Ok(true);
            }
            if !self.is_patient || attempt > 0 && self.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(CHECKPOINT_PAUSE);
        }
        Ok(false)
    }

    fn seal(&mut self, segment: &SegmentIndex) -> io::Result<()> {
        let path = self.dir.join(SEGMENTS).join(sealed_name(segment.first));
        let new = new_name(&path);
        let file = self.disk.open(&new)?;
        file.set_len(0)?;
        let mut writer = SealedWriter::new(file.as_ref(), segment.first)?;
        let (mut frontier, mut levels) = (self.frontier.clone(), [const { Vec::new() }; LEVELS]);
        let mut lines = BufReader::new(io::Read::take(std::fs::File::open(&segment.path)?, segment.end()));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            match line.strip_suffix(b"\n").unwrap_or(&line) {
                [] => writer.end_commit(),
                record => {
                    frontier.push_with(leaf_hash(record), |level, hash| {
                        if let Some(hashes) = levels.get_mut(usize::from(level)) {
                            hashes.extend_from_slice(&hash.0);
                        }
                    });
                    writer.record(record)?;
                }
            }
            line.clear();
            if self.stop.load(Ordering::Relaxed) {
                return self.disk.remove(&new);
            }
        }
        self.make_tiles_durable(&frontier, &levels)?;
        let sealed = writer.finish(&frontier)?;
        file.sync_data()?;
        self.disk.rename(&new, &path)?;
        self.disk.sync_folder(&self.dir.join(SEGMENTS))?;
        self.index.replace(SegmentIndex::sealed(path, &sealed));
        self.frontier = frontier;
        Ok(())
    }

    /// Checks that the tree over the segment's records is the one that the tiles hold, and makes those hashes durable. They are
    /// written once more: a sync may have failed before, and the system forgets then what it did not write.
    fn make_tiles_durable(&self, frontier: &Frontier, levels: &[Vec<u8>; LEVELS]) -> io::Result<()> {
        let folder = self.dir.join(TILES);
        if root_at(&TileFiles::for_reading(folder.clone()), frontier.size())? != frontier.root() {
            let what =
                "the segment's records are not those of the tree: it stays as it is; run `writ log verify`";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        for (level, hashes) in levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
            let first = stored_hashes(self.frontier.size(), level);
            let file = self.disk.open(&level_path(&folder, level))?;
            file.write_all_at(hashes, first * HASH_BYTES as u64)?;
            file.sync_data()?;
        }
        self.disk.sync_folder(&folder)?;
        self.disk.sync_folder(&self.dir)
    }

    fn remove_copies(&self) -> io::Result<()> {
        let sealed: Vec<u64> = self.index.with(|index| {
            index.segments.iter().filter(|segment| segment.is_sealed).map(|segment| segment.first).collect()
        });
        for first in sealed.iter().rev().skip(KEPT_COPIES) {
            let copy = self.dir.join(SEGMENTS).join(file_name(*first));
            if !copy.exists() {
                // Older copies went before this one.
                break;
            }
            self.disk.remove(&copy)?;
        }
        Ok(())
    }
}

/// A sealer, and how it is told that a segment is full. Dropping it stops it; what was begun is given up.
#[derive(Debug)]
pub(super) enum RunningSealer {
    Background {
        stop: Arc<AtomicBool>,
        failure: Arc<Mutex<Option<String>>>,
        full: Option<SyncSender<()>>,
        thread: Option<JoinHandle<()>>,
    },
    Inline(Box<Sealer>),
    Off,
}

impl RunningSealer {
    pub fn start(mut sealer: Sealer, when: Sealing) -> io::Result<Self> {
        match when {
            Sealing::Off => Ok(Self::Off),
            Sealing::WhileAppending => Ok(Self::Inline(Box::new(sealer))),
            Sealing::InBackground => {
                sealer.is_patient = true;
                let (full, told) = sync_channel(1);
                let (stop, failure) = (sealer.stop.clone(), sealer.failure.clone());
                let thread = std::thread::Builder::new()
                    .name("sealer".to_owned())
                    .spawn(move || run(sealer, &told))?;
                // What was full when the log was opened is sealed first.
                let _ = full.try_send(());
                Ok(Self::Background { stop, failure, full: Some(full), thread: Some(thread) })
            }
        }
    }

    /// Why a segment was not sealed when it was tried last.
    pub fn failure(&self) -> Option<String> {
        let failure = match self {
            Self::Background { failure, .. } => failure,
            Self::Inline(sealer) => &sealer.failure,
            Self::Off => return None,
        };
        failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells it that a segment is full. Sealing that fails is tried again with the next one.
    pub fn segment_is_full(&mut self) {
        match self {
            Self::Background { full: Some(full), .. } => match full.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            },
            Self::Inline(sealer) => sealer.run_once(),
            Self::Background { full: None, .. } | Self::Off => {}
        }
    }
}

impl Drop for RunningSealer {
    fn drop(&mut self) {
        if let Self::Background { stop, full, thread, .. } = self {
            stop.store(true, Ordering::Relaxed);
            *full = None;
            if let Some(thread) = thread.take() {
                // A thread that panicked has nothing more to say than what it printed.
                let _ = thread.join();
            }
        }
    }
}

fn run(mut sealer: Sealer, told: &Receiver<()>) {
    while let Ok(()) = told.recv() {
        sealer.run_once();
    }
}
