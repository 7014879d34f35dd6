//! The store of plain files: append-only segments of lines.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::reader::ReadError;
use super::scan::file_name;
use super::{Batch, LogStore, MAX_COMMIT_BYTES, StoreError};
use crate::disk::{AppendFile, Disk};

/// The most bytes that one read of several records fetches.
const READ_BYTES: u64 = 256 * 1024;

/// Where the records of one segment are.
#[derive(Debug, Clone)]
pub(crate) struct SegmentIndex {
    pub first: u64,
    pub path: PathBuf,
    pub starts: Vec<u32>,
    pub end: u64,
}

/// Where all records are. Never empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub segments: Vec<SegmentIndex>,
}

impl Index {
    pub fn size(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.first + last.starts.len() as u64)
    }
}

/// The index, shared by the writer and all readers. The lock is held to look up or extend, never during IO.
#[derive(Debug, Clone)]
pub(crate) struct SharedIndex(Arc<RwLock<Index>>);

/// Records that lie together in one segment.
struct Extent {
    path: PathBuf,
    begin: u64,
    end: u64,
    count: usize,
    first: u64,
}

impl SharedIndex {
    pub fn new(index: Index) -> Self {
        Self(Arc::new(RwLock::new(index)))
    }

    fn size(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).size()
    }

    /// Reads records from the start of the range, as [`LogStore::read`].
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let extent = self.extent(&range).ok_or(ReadError::NotThere { seq: range.start })?;
        let io = |source| ReadError::Io { path: extent.path.clone(), source };
        let length = usize::try_from(extent.end.saturating_sub(extent.begin)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        File::open(&extent.path).map_err(io)?.read_exact_at(&mut bytes, extent.begin).map_err(io)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let records: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        if records.len() == extent.count {
            Ok(records)
        } else {
            Err(ReadError::Changed { path: extent.path, seq: extent.first })
        }
    }

    fn extent(&self, range: &Range<u64>) -> Option<Extent> {
        let index = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let after = index.segments.partition_point(|segment| segment.first <= range.start);
        let segment = index.segments.get(after.checked_sub(1)?)?;
        let from = usize::try_from(range.start - segment.first).ok()?;
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let starts = segment.starts.get(from..)?;
        let begin = u64::from(*starts.first()?);
        let starts = &starts[..wanted.min(starts.len())];
        let count = starts.partition_point(|start| u64::from(*start) < begin + READ_BYTES);
        let end = segment.starts.get(from + count).map_or(segment.end, |next| u64::from(*next));
        Some(Extent { path: segment.path.clone(), begin, end, count, first: range.start })
    }

    fn extend(&self, path: &Path, first: u64, starts: Vec<u32>, end: u64) {
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match index.segments.last_mut().filter(|segment| segment.path == path) {
            Some(segment) => {
                segment.starts.extend(starts);
                segment.end = end;
            }
            None => index.segments.push(SegmentIndex { first, path: path.to_owned(), starts, end }),
        }
    }
}

/// The writing side of the segments.
pub(crate) struct Segments {
    folder: PathBuf,
    disk: Box<dyn Disk>,
    roll_bytes: u64,
    index: SharedIndex,
    path: PathBuf,
    active: Box<dyn AppendFile>,
    end: u64,
    poisoned: bool,
}

impl Segments {
    /// Opens the last segment for appending after it was loaded and cut.
    pub fn open(folder: &Path, disk: Box<dyn Disk>, roll_bytes: u64, index: Index) -> io::Result<Self> {
        let (path, end) = match index.segments.last() {
            Some(last) => (last.path.clone(), last.end),
            None => (folder.join(file_name(0)), 0),
        };
        let mut active = disk.open_append(&path)?;
        active.set_len(end)?;
        // A whole commit found here may have been written by a process that died before it could sync.
        active.sync_data()?;
        let index = SharedIndex::new(index);
        Ok(Self { folder: folder.to_owned(), disk, roll_bytes, index, path, active, end, poisoned: false })
    }

    pub fn index(&self) -> SharedIndex {
        self.index.clone()
    }

    /// Writes a batch that was checked.
    fn write(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        if self.end >= self.roll_bytes {
            let path = self.folder.join(file_name(batch.first));
            self.active = self.disk.open_append(&path).map_err(|source| self.failed(source))?;
            (self.path, self.end) = (path, 0);
        }
        let (bytes, starts) = encode(batch.records, self.end).map_err(|source| self.failed(source))?;
        if let Err(source) = self.active.write_all_at(&bytes, self.end) {
            if self.active.set_len(self.end).is_err() {
                self.poisoned = true;
            }
            return Err(self.failed(source));
        }
        if let Err(source) = self.active.sync_data() {
            // After a failed sync the system may have dropped the pages: nothing more can be promised on this file.
            self.poisoned = true;
            let _ = self.active.set_len(self.end);
            return Err(StoreError::Unknown { path: self.path.clone(), source });
        }
        self.end += bytes.len() as u64;
        self.index.extend(&self.path, batch.first, starts, self.end);
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

    fn append(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.check(batch)?;
        self.write(batch)
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        self.index.read(range)
    }
}

/// The bytes of a commit, and where in the segment each record begins.
fn encode(records: &[&[u8]], offset: u64) -> io::Result<(Vec<u8>, Vec<u32>)> {
    let length: usize = records.iter().map(|record| record.len() + 1).sum();
    let (mut bytes, mut starts) = (Vec::with_capacity(length + 1), Vec::with_capacity(records.len()));
    for record in records {
        let start = offset + bytes.len() as u64;
        starts.push(u32::try_from(start).map_err(|_| io::ErrorKind::FileTooLarge)?);
        bytes.extend_from_slice(record);
        bytes.push(b'\n');
    }
    bytes.push(b'\n');
    Ok((bytes, starts))
}
