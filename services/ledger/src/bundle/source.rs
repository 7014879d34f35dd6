//! Where the records of a bundle come from.

use std::io;
use std::path::PathBuf;

use crate::directory::{FileError, TilesDirectory};
use crate::store::{ReadError, Reader};
use crate::tile::{
    TILE_WIDTH, Tile, TileKind, TileNodes, TileNodesError, TilePath, TileSource as _, decode_entries,
};
use crate::tree::{Hash, NodeHashes};

/// A log that bundles can be made of.
pub trait BundleSource: NodeHashes<Error = ReadError> + Sync {
    /// The exact bytes of these records, whose sequence numbers rise.
    ///
    /// # Errors
    /// When one is not in the log or cannot be read.
    fn records(&self, seqs: &[u64]) -> Result<Vec<Vec<u8>>, ReadError>;
}

impl BundleSource for Reader {
    fn records(&self, seqs: &[u64]) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut records = Vec::with_capacity(seqs.len());
        for run in seqs.chunk_by(|one, next| next - one == 1) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            for record in self.read_range(*first..last.saturating_add(1)) {
                records.push(record?.1);
            }
        }
        match seqs.get(records.len()) {
            Some(seq) => Err(ReadError::NotThere { seq: *seq }),
            None => Ok(records),
        }
    }
}

/// The log of so many records that is published in a directory. As unchecked as its files: the bundle is checked that is made of it.
#[derive(Debug, Clone, Copy)]
pub struct PublishedLog<'a> {
    directory: &'a TilesDirectory,
    size: u64,
}

impl<'a> PublishedLog<'a> {
    /// The log of `size` records in this directory.
    #[must_use]
    pub fn new(directory: &'a TilesDirectory, size: u64) -> Self {
        Self { directory, size }
    }

    fn entries(&self, tile: u64) -> Result<Vec<u8>, ReadError> {
        let first = tile.saturating_mul(TILE_WIDTH);
        let path = TilePath::of_tree(TileKind::Entries, tile, self.size)
            .ok_or(ReadError::NotThere { seq: first })?;
        match self.directory.tile(&path).map_err(unreadable)? {
            Tile::Bytes(bytes) => Ok(bytes),
            Tile::Missing | Tile::Withheld => Err(missing(path.to_string().into())),
        }
    }
}

impl NodeHashes for PublishedLog<'_> {
    type Error = ReadError;

    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, ReadError> {
        let hashes = TileNodes::new(self.directory, self.size).hashes(level, first, count);
        hashes.map_err(|error| match error {
            TileNodesError::Source(error) => unreadable(error),
            TileNodesError::NoTile { level, index } => missing(format!("tile/{level}/{index}").into()),
        })
    }
}

impl BundleSource for PublishedLog<'_> {
    fn records(&self, seqs: &[u64]) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut records = Vec::with_capacity(seqs.len());
        for group in seqs.chunk_by(|one, next| one / TILE_WIDTH == next / TILE_WIDTH) {
            let Some(first) = group.first() else { continue };
            let tile = self.entries(first / TILE_WIDTH)?;
            let entries = decode_entries(&tile).unwrap_or_default();
            for seq in group {
                let entry = entries.get((seq % TILE_WIDTH) as usize);
                let entry = entry.ok_or_else(|| missing(format!("record {seq} in its tile").into()))?;
                records.push(entry.to_vec());
            }
        }
        Ok(records)
    }
}

fn unreadable(error: FileError) -> ReadError {
    ReadError::Io { path: error.path, source: error.source }
}

fn missing(path: PathBuf) -> ReadError {
    ReadError::Io { path, source: io::ErrorKind::NotFound.into() }
}
