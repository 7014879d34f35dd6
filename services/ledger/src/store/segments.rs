//! The store of plain files: append-only segments of lines.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::reader::ReadError;
use super::record::{RecordProblem, check_record};
use super::scan::file_name;
use super::{Batch, LogStore};
use crate::disk::{AppendFile, Disk};

/// The most bytes of one commit's records. Together with the size at which a segment rolls it keeps offsets in 32 bits.
pub const MAX_COMMIT_BYTES: usize = 64 * 1024 * 1024;

/// The most records of one commit.
pub const MAX_COMMIT_RECORDS: usize = 65_536;

/// The most bytes that one read of several records fetches.
const READ_BYTES: u64 = 256 * 1024;

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing in the batch.
    #[error("a commit needs at least one record")]
    EmptyBatch,
    /// The batch is too large.
    #[error(
        "the commit has {records} records of {bytes} bytes; at most {MAX_COMMIT_RECORDS} and {MAX_COMMIT_BYTES} are taken"
    )]
    BatchTooLarge {
        /// Its records.
        records: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// One of the records is none.
    #[error("record {index} of the commit is refused: {problem}")]
    BadRecord {
        /// Its place in the batch, from 0.
        index: usize,
        /// What is wrong.
        problem: RecordProblem,
    },
    /// The batch does not continue the log.
    #[error("the commit begins at record {found}, but the log has {size}: another writer was here")]
    NotNext {
        /// Where the batch begins.
        found: u64,
        /// The log's size.
        size: u64,
    },
    /// The medium refused; nothing of the batch is stored.
    #[error("{path}: nothing of the commit was stored: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The medium failed so that nobody can tell; the store takes no more until it is opened again.
    #[error("{path}: the commit may or may not have been stored; open the log again to find out: {source}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier failure left the store in doubt.
    #[error("an earlier write or sync failed; open the log again")]
    Poisoned,
}

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

    /// Refuses everything from now on.
    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Checks all that can be checked before anything is written.
    pub fn check(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        let size = self.index.size();
        if batch.first != size {
            return Err(StoreError::NotNext { found: batch.first, size });
        }
        if batch.records.is_empty() {
            return Err(StoreError::EmptyBatch);
        }
        let (records, bytes) = (batch.records.len(), batch.records.iter().map(|r| r.len()).sum());
        if records > MAX_COMMIT_RECORDS || bytes > MAX_COMMIT_BYTES {
            return Err(StoreError::BatchTooLarge { records, bytes });
        }
        for (index, record) in batch.records.iter().enumerate() {
            check_record(record).map_err(|problem| StoreError::BadRecord { index, problem })?;
        }
        Ok(())
    }

    /// Writes a batch that was checked.
    pub fn write(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
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
