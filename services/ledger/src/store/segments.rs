//! The store of plain files: append-only segments of lines.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::{Index, SharedIndex};
use super::error::ReadError;
use super::scan::file_name;
use super::sealer::{RunningSealer, Sealer, Sealing};
use super::{Batch, LogStore, MAX_COMMIT_BYTES, SEGMENTS, StoreError};
use crate::disk::{Disk, DiskFile};
use crate::tree::Frontier;

/// A segment rolls at this size at the latest, so that with the largest commit its offsets fit 32 bits.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The segments as opening found them.
pub(super) struct Found {
    pub index: Index,
    /// The edge of the tree after the sealed segments.
    pub sealed: Frontier,
    /// The records that the checkpoint file covers.
    pub signed_size: u64,
}

/// The writing side of the segments.
pub(crate) struct Segments {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    roll_bytes: u64,
    index: SharedIndex,
    path: PathBuf,
    active: Box<dyn DiskFile>,
    end: u64,
    poisoned: bool,
    sealer: RunningSealer,
}

impl Segments {
    /// Opens the last segment for appending, cuts what is unfinished there, and begins to seal what is full.
    pub fn open(
        dir: &Path,
        disk: Arc<dyn Disk>,
        roll_bytes: u64,
        sealing: Sealing,
        found: Found,
    ) -> io::Result<Self> {
        let folder = dir.join(SEGMENTS);
        let Found { index, sealed, signed_size } = found;
        let last = index.segments.last().filter(|last| !last.is_sealed);
        let (path, end, unsigned) = match last {
            Some(last) => (last.path.clone(), last.end(), last.block_of(signed_size)),
            None => (folder.join(file_name(index.size())), 0, 0),
        };
        let active = disk.open(&path)?;
        active.set_len(end)?;
        // A commit found here that nobody signed may have been written by a process that died before it could sync, or whose
        // sync failed: then the system may show what it has given up writing. It is written again, and then synced.
        let mut tail = vec![0; usize::try_from(end.saturating_sub(unsigned)).unwrap_or_default()];
        if !tail.is_empty() {
            std::fs::File::open(&path)?.read_exact_at(&mut tail, unsigned)?;
            active.write_all_at(&tail, unsigned)?;
        }
        active.sync_data()?;
        disk.sync_folder(&folder)?;
        let index = SharedIndex::new(index);
        let sealer = Sealer::new(dir.to_owned(), disk.clone(), index.clone(), sealed);
        let sealer = RunningSealer::start(sealer, sealing)?;
        Ok(Self { folder, disk, roll_bytes, index, path, active, end, poisoned: false, sealer })
    }

    pub fn index(&self) -> SharedIndex {
        self.index.clone()
    }

    /// Writes a batch that was checked. What is to be done besides comes last: it may well have been done meanwhile.
    fn write(
        &mut self,
        batch: &Batch<'_>,
        besides: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let is_first = self.end >= self.roll_bytes;
        if is_first {
            self.roll(batch.first)?;
        }
        let (bytes, begins) = encode(batch.records, self.end).map_err(|source| self.failed(source))?;
        if let Err(source) = self.active.write_all_at(&bytes, self.end) {
            self.poisoned = self.take_back().is_err();
            return Err(self.failed(source));
        }
        if let Err(source) = self.active.sync_data() {
            // After a failed sync the system may have dropped the pages: nothing more can be promised on this file.
            self.poisoned = true;
            let _ = self.active.set_len(self.end);
            return Err(StoreError::Unknown { path: self.path.clone(), source });
        }
        if let Err(error) = besides() {
            let Err(source) = self.take_back() else { return Err(error) };
            // A commit that is whole and cannot be taken back is stored.
            self.poisoned = true;
            return Err(StoreError::Unknown { path: self.path.clone(), source });
        }
        self.end += bytes.len() as u64;
        self.index.extend(&self.path, batch.first, &begins, self.end);
        if is_first {
            self.sealer.segment_is_full();
        }
        Ok(())
    }

    /// Cuts off a commit that is not to be. The cut must be durable before anything is written there again: after a crash, sectors
    /// of this commit and of the next would otherwise make up a third.
    fn take_back(&self) -> io::Result<()> {
        self.active.set_len(self.end)?;
        self.active.sync_data()
    }

    /// Begins a new segment. If that fails, the full one stays the last.
    fn roll(&mut self, first: u64) -> Result<(), StoreError> {
        let path = self.folder.join(file_name(first));
        let failed = |source| StoreError::Failed { path: path.clone(), source };
        let active = self.disk.open(&path).map_err(failed)?;
        self.disk.sync_folder(&self.folder).map_err(failed)?;
        (self.path, self.active, self.end) = (path, active, 0);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Failed { path: self.path.clone(), source }
    }
}

impl LogStore for Segments {
    fn size(&self) -> u64 {
        self.index.size()
    }

    fn max_batch_bytes(&self) -> usize {
        MAX_COMMIT_BYTES
    }

    fn upkeep_failure(&self) -> Option<String> {
        self.sealer.failure()
    }

    /// Whoever has the folder's lock leads.
    fn lead(&mut self) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    /// Nobody else writes here.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        batch.check(self.index.size(), MAX_COMMIT_BYTES)
    }

    fn append(
        &mut self,
        batch: &Batch<'_>,
        besides: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // The records were checked by whoever appends, and are not parsed a second time.
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        let size = self.index.size();
        if batch.first != size {
            return Err(StoreError::NotNext { found: batch.first, size });
        }
        self.write(batch, besides)
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        self.index.read(range)
    }
}

/// The bytes of a commit, and where in the segment each record begins.
fn encode(records: &[&[u8]], offset: u64) -> io::Result<(Vec<u8>, Vec<u32>)> {
    let length: usize = records.iter().map(|record| record.len() + 1).sum();
    let (mut bytes, mut begins) = (Vec::with_capacity(length + 1), Vec::with_capacity(records.len()));
    for record in records {
        let begin = offset + bytes.len() as u64;
        begins.push(u32::try_from(begin).map_err(|_| io::ErrorKind::FileTooLarge)?);
        bytes.extend_from_slice(record);
        bytes.push(b'\n');
    }
    bytes.push(b'\n');
    Ok((bytes, begins))
}
