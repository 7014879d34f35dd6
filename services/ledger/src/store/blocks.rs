//! Where the records are: the segments in order, and in each the blocks in which records lie together.
//!
//! A block is a stretch of a plain segment or a frame of a sealed one. One record is read by reading its block and counting
//! lines, so the index in memory takes a few bytes a block and not a word a record (12 bytes for each 16 KiB of a plain
//! segment or 256 KiB of a sealed one: under a quarter of a byte a record).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::error::ReadError;
use super::sealed::{SealedIndex, decompress_frames};

/// A block of a plain segment is begun by the first record that begins so many bytes after the block before.
const BLOCK_BYTES: u64 = 16 * 1024;

/// One read of several records takes no further block when it has so many bytes.
const READ_BYTES: u64 = 256 * 1024;

/// Where one block begins.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Its first record, counted from the segment's.
    first: u32,
    /// Where it begins among the segment's lines.
    begin: u32,
    /// Where it begins in the file; in a plain segment the same.
    stored: u32,
}

/// Where the records of one segment are.
#[derive(Debug, Clone)]
pub(crate) struct SegmentIndex {
    /// The sequence number of its first record.
    pub first: u64,
    pub path: PathBuf,
    pub is_sealed: bool,
    records: u32,
    blocks: Vec<Block>,
    /// Where the lines end.
    end: u64,
    /// Where what holds them ends in the file.
    stored_end: u64,
}

impl SegmentIndex {
    /// An empty plain segment.
    pub fn plain(first: u64, path: PathBuf) -> Self {
        Self { first, path, is_sealed: false, records: 0, blocks: Vec::new(), end: 0, stored_end: 0 }
    }

    /// A sealed one.
    pub fn sealed(path: PathBuf, index: &SealedIndex) -> Self {
        let (mut blocks, mut records, mut end, mut stored_end) = (Vec::new(), 0_u32, 0_u32, 0_u32);
        for frame in &index.frames {
            blocks.push(Block { first: records, begin: end, stored: stored_end });
            records += frame.records;
            end += frame.bytes;
            stored_end += frame.stored;
        }
        let (end, stored_end) = (u64::from(end), u64::from(stored_end));
        Self { first: index.first, path, is_sealed: true, records, blocks, end, stored_end }
    }

    /// The sequence number after its last record.
    pub fn next(&self) -> u64 {
        self.first + u64::from(self.records)
    }

    /// Where its last whole commit ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Where the block begins that holds a record, or would; the end for one that lies behind it.
    pub fn block_of(&self, seq: u64) -> u64 {
        if seq >= self.next() {
            return self.end;
        }
        let at = u32::try_from(seq.saturating_sub(self.first)).unwrap_or(u32::MAX);
        let block = self.blocks.partition_point(|block| block.first <= at).checked_sub(1);
        block.and_then(|block| self.blocks.get(block)).map_or(0, |block| u64::from(block.begin))
    }

    /// Takes one more record of a plain segment, which begins at `begin`.
    pub fn push(&mut self, begin: u32) {
        let last = self.blocks.last();
        if last.is_none_or(|last| u64::from(begin) >= u64::from(last.begin) + BLOCK_BYTES) {
            self.blocks.push(Block { first: self.records, begin, stored: begin });
        }
        self.records += 1;
    }

    /// Ends a commit of a plain segment.
    pub fn set_end(&mut self, end: u64) {
        (self.end, self.stored_end) = (end, end);
    }

    fn extent(&self, range: &Range<u64>) -> Option<Extent> {
        let from =
            u32::try_from(range.start.checked_sub(self.first)?).ok().filter(|at| *at < self.records)?;
        let until = u32::try_from(range.end.saturating_sub(self.first)).unwrap_or(u32::MAX).min(self.records);
        let first = self.blocks.partition_point(|block| block.first <= from).checked_sub(1)?;
        let begin = self.blocks.get(first)?;
        let full = |block: &&Block| {
            block.first < until && u64::from(block.begin - begin.begin) < READ_BYTES || block.first <= from
        };
        let blocks = self.blocks.get(first..)?;
        let blocks = &blocks[..blocks.iter().take_while(full).count()];
        let after = self.blocks.get(first + blocks.len());
        let records = after.map_or(self.records, |block| block.first) - begin.first;
        let stored_end = after.map_or(self.stored_end, |block| u64::from(block.stored));
        let end = after.map_or(self.end, |block| u64::from(block.begin));
        let ends = blocks.iter().skip(1).map(|block| (u64::from(block.stored), u64::from(block.begin)));
        let frames = blocks
            .iter()
            .zip(ends.chain([(stored_end, end)]))
            .map(|(block, (stored, end))| (stored - u64::from(block.stored), end - u64::from(block.begin)));
        Some(Extent {
            path: self.path.clone(),
            frames: self.is_sealed.then(|| frames.collect()),
            stored: u64::from(begin.stored)..stored_end,
            records: records as usize,
            skip: (from - begin.first) as usize,
            take: (until.min(begin.first + records) - from) as usize,
            first: range.start,
        })
    }
}

/// Blocks that are read together, and the records that are wanted of them.
struct Extent {
    path: PathBuf,
    /// Stored and raw length of each frame, in a sealed segment.
    frames: Option<Vec<(u64, u64)>>,
    stored: Range<u64>,
    records: usize,
    skip: usize,
    take: usize,
    first: u64,
}

impl Extent {
    fn read(self) -> Result<Chunk, ReadError> {
        let io = |source| ReadError::Io { path: self.path.clone(), source };
        let length = usize::try_from(self.stored.end.saturating_sub(self.stored.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        File::open(&self.path).map_err(io)?.read_exact_at(&mut bytes, self.stored.start).map_err(io)?;
        let changed = || ReadError::Changed { path: self.path.clone(), seq: self.first };
        if let Some(frames) = &self.frames {
            bytes = decompress_frames(&bytes, frames).map_err(|_| changed())?;
        }
        let chunk = Chunk { first: self.first, bytes, skip: self.skip, take: self.take };
        if chunk.lines().count() == self.records { Ok(chunk) } else { Err(changed()) }
    }
}

/// Successive records, as they stand in their segment.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The sequence number of the first.
    pub first: u64,
    bytes: Vec<u8>,
    skip: usize,
    take: usize,
}

impl Chunk {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.take
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.lines().skip(self.skip).take(self.take)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            while let Some(at) = memchr::memchr(b'\n', rest) {
                let (line, after) = rest.split_at(at);
                rest = after.get(1..).unwrap_or_default();
                if !line.is_empty() {
                    return Some(line);
                }
            }
            None
        })
    }
}

/// Where all records are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub segments: Vec<SegmentIndex>,
}

impl Index {
    pub fn size(&self) -> u64 {
        self.segments.last().map_or(0, SegmentIndex::next)
    }
}

/// The index, shared by the writer and all readers. The lock is held to look up or change, never during IO.
#[derive(Debug, Clone)]
pub(crate) struct SharedIndex(Arc<RwLock<Index>>);

impl SharedIndex {
    pub fn new(index: Index) -> Self {
        Self(Arc::new(RwLock::new(index)))
    }

    pub fn size(&self) -> u64 {
        self.with(Index::size)
    }

    /// Looks something up. Nothing slow may happen inside.
    pub fn with<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bytes of memory that the index takes.
    pub fn memory_bytes(&self) -> usize {
        self.with(|index| {
            let of_segment = |segment: &SegmentIndex| {
                size_of::<SegmentIndex>() + segment.blocks.capacity() * size_of::<Block>()
            };
            index.segments.iter().map(of_segment).sum()
        })
    }

    /// Reads records from the start of the range, as [`LogStore::read`](super::LogStore::read).
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.chunk(range)?.records().map(<[u8]>::to_vec).collect())
    }

    /// Cuts a range into pieces that are each read at once.
    pub fn pieces(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut pieces, mut next) = (Vec::new(), range.start);
        while let Ok(extent) = self.extent(&(next..range.end)) {
            let end = next + extent.take as u64;
            pieces.push(next..end);
            next = end;
            if next >= range.end {
                break;
            }
        }
        pieces
    }

    /// Reads records from the start of the range, at least one.
    pub fn chunk(&self, range: Range<u64>) -> Result<Chunk, ReadError> {
        match self.extent(&range)?.read() {
            // The segment was sealed since it was looked up: it has another file now.
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.extent(&range)?.read()
            }
            other => other,
        }
    }

    /// Takes a commit that was written to a plain segment.
    pub fn extend(&self, path: &Path, first: u64, begins: &[u32], end: u64) {
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if index.segments.last().is_none_or(|last| last.path != path) {
            index.segments.push(SegmentIndex::plain(first, path.to_owned()));
        }
        if let Some(segment) = index.segments.last_mut() {
            begins.iter().for_each(|begin| segment.push(*begin));
            segment.set_end(end);
        }
    }

    /// Puts a sealed segment in the place of the plain one with the same records.
    pub fn replace(&self, sealed: SegmentIndex) {
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let same =
            |segment: &&mut SegmentIndex| segment.first == sealed.first && segment.next() == sealed.next();
        if let Some(segment) = index.segments.iter_mut().find(same) {
            *segment = sealed;
        }
    }

    fn extent(&self, range: &Range<u64>) -> Result<Extent, ReadError> {
        let missing = ReadError::NotThere { seq: range.start };
        self.with(|index| {
            let after = index.segments.partition_point(|segment| segment.first <= range.start);
            index.segments.get(after.checked_sub(1)?)?.extent(range)
        })
        .ok_or(missing)
    }
}
