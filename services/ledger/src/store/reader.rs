//! Reading and proving what is committed, from any thread, beside the writer.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use super::blocks::SharedIndex;
use super::error::ReadError;
use super::tiles::{TileFiles, stored_hashes};
use crate::checkpoint::SignedCheckpoint;
use crate::proof::{ConsistencyProof, InclusionProof};
use crate::proof_file::ProofFile;
use crate::tile::{Tile, TileKind, TilePath, TileSource, encode_entries};
use crate::tree::{HASH_BYTES, Hash, MemoryTree, NodeHashes, leaf_hash, root_at};

#[derive(Debug)]
pub(crate) enum Tree {
    Files(TileFiles),
    Memory(MemoryTree),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub index: SharedIndex,
    pub tree: Tree,
    pub published: RwLock<Arc<SignedCheckpoint>>,
    /// The segments' folder, for messages.
    pub folder: PathBuf,
}

/// A view of the log for reading. Cheap to clone; sees every commit as soon as it is acknowledged, and nothing before.
#[derive(Debug, Clone)]
pub struct Reader(pub(crate) Arc<Shared>);

impl Reader {
    pub(super) fn new(index: SharedIndex, tree: Tree, signed: SignedCheckpoint, folder: PathBuf) -> Self {
        let published = RwLock::new(Arc::new(signed));
        Self(Arc::new(Shared { index, tree, published, folder }))
    }

    /// The newest signed checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Arc<SignedCheckpoint> {
        self.0.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of committed records.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.checkpoint().checkpoint().size
    }

    /// The bytes of memory that it takes to know where the records are.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.0.index.memory_bytes()
    }

    /// Reads the exact bytes of one record.
    ///
    /// # Errors
    /// When it is not in the log or the file cannot be read.
    pub fn read(&self, seq: u64) -> Result<Vec<u8>, ReadError> {
        self.covered(seq.saturating_add(1)).map_err(|_| ReadError::NotThere { seq })?;
        self.checked(seq..seq + 1)?.pop().ok_or(ReadError::NotThere { seq })
    }

    /// Reads records from the start of the range, at least one, and holds each to its hash in the tree, so that no bit that was
    /// flipped since it was written goes unnoticed.
    fn checked(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        let chunk = self.0.index.chunk(range)?;
        let leaves = self.hashes(0, chunk.first, chunk.len())?;
        let mut records = Vec::with_capacity(chunk.len());
        for ((seq, record), leaf) in (chunk.first..).zip(chunk.records()).zip(leaves) {
            if leaf_hash(record) != leaf {
                return Err(ReadError::Changed { path: self.0.folder.clone(), seq });
            }
            records.push(record.to_vec());
        }
        Ok(records)
    }

    /// Reads records in order, with their sequence numbers. The range is cut to what is committed now.
    #[must_use]
    pub fn read_range(&self, range: Range<u64>) -> Records {
        let end = range.end.min(self.size());
        Records { reader: self.clone(), next: range.start, end, ready: VecDeque::new() }
    }

    /// The root over the first `size` records.
    ///
    /// # Errors
    /// When the log is smaller or a tile cannot be read.
    pub fn root(&self, size: u64) -> Result<Hash, ReadError> {
        self.covered(size)?;
        root_at(self, size)
    }

    /// Proves that record `index` is in the tree over the first `size` records.
    ///
    /// # Errors
    /// When the log is smaller, the record lies outside or a tile cannot be read.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<InclusionProof, ReadError> {
        self.covered(size)?;
        InclusionProof::build(self, index, size)?.ok_or(ReadError::NoSuchProof { low: index, high: size })
    }

    /// The proof of record `index` under the newest checkpoint, as a file of its own.
    ///
    /// # Errors
    /// When the record is not in the log or a tile cannot be read.
    pub fn proof_file(&self, index: u64) -> Result<ProofFile, ReadError> {
        self.proof_file_under(index, &self.checkpoint())
    }

    /// The proof of record `index` under this checkpoint of the log, such as one with cosignatures.
    ///
    /// # Errors
    /// When the checkpoint does not cover the record or a tile cannot be read.
    pub fn proof_file_under(&self, index: u64, signed: &SignedCheckpoint) -> Result<ProofFile, ReadError> {
        let hashes = self.inclusion(index, signed.checkpoint().size)?.hashes;
        Ok(ProofFile { index, hashes, checkpoint: signed.text().to_owned(), extra: None })
    }

    /// Proves that the tree over `new_size` records continues the one over `old_size`.
    ///
    /// # Errors
    /// When the log is smaller, the sizes are in the wrong order or a tile cannot be read.
    pub fn consistency(&self, old_size: u64, new_size: u64) -> Result<ConsistencyProof, ReadError> {
        self.covered(new_size)?;
        ConsistencyProof::build(self, old_size, new_size)?
            .ok_or(ReadError::NoSuchProof { low: old_size, high: new_size })
    }

    /// The bytes of a tile or entry bundle; `None` if the log has not grown that far.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, ReadError> {
        let size = self.size();
        let (first, width) = (path.first(), usize::from(path.width()));
        let end = first + u64::from(path.width());
        match path.kind() {
            TileKind::Hashes { level } if end <= stored_hashes(size, usize::from(level)) => {
                let hashes = self.hashes(level, first, width)?;
                Ok(Some(hashes.iter().flat_map(|hash| hash.0).collect()))
            }
            TileKind::Entries if end <= size => {
                let records = self.read_range(first..end).map(|r| r.map(|(_, record)| record));
                let records = records.collect::<Result<Vec<_>, _>>()?;
                let changed = ReadError::Changed { path: self.0.folder.clone(), seq: first };
                encode_entries(&records).map(Some).map_err(|_| changed)
            }
            TileKind::Hashes { .. } | TileKind::Entries => Ok(None),
        }
    }

    fn covered(&self, wanted: u64) -> Result<(), ReadError> {
        let size = self.size();
        if wanted <= size { Ok(()) } else { Err(ReadError::Beyond { wanted, size }) }
    }
}

impl TileSource for Reader {
    type Error = ReadError;

    fn tile(&self, path: &TilePath) -> Result<Tile, ReadError> {
        Ok(Reader::tile(self, path)?.map_or(Tile::Missing, Tile::Bytes))
    }
}

impl NodeHashes for Reader {
    type Error = ReadError;

    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, ReadError> {
        let io = |source| ReadError::Io { path: self.0.folder.clone(), source };
        let hashes: Vec<Hash> = match &self.0.tree {
            Tree::Files(files) => {
                let bytes = files.read(usize::from(level), first, count).map_err(io)?;
                bytes.chunks_exact(HASH_BYTES).filter_map(Hash::from_slice).collect()
            }
            Tree::Memory(tree) => {
                let Ok(hashes) = tree.hashes(level, first, count);
                hashes
            }
        };
        if hashes.len() == count { Ok(hashes) } else { Err(io(io::ErrorKind::UnexpectedEof.into())) }
    }
}

/// Records in order, read in large pieces.
#[derive(Debug)]
pub struct Records {
    reader: Reader,
    next: u64,
    end: u64,
    ready: VecDeque<Vec<u8>>,
}

impl Iterator for Records {
    type Item = Result<(u64, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            if self.next >= self.end {
                return None;
            }
            match self.reader.checked(self.next..self.end) {
                Ok(records) => self.ready = records.into(),
                Err(error) => {
                    self.next = self.end;
                    return Some(Err(error));
                }
            }
        }
        let record = self.ready.pop_front()?;
        let seq = self.next;
        self.next += 1;
        Some(Ok((seq, record)))
    }
}
