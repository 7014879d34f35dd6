//! The tree's hashes on disk: one file per tile level, tile behind tile.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::tree::{HASH_BYTES, Hash, NodeHashes};

/// Tile levels of a tree of fewer than 2^64 leaves.
pub(crate) const LEVELS: usize = 8;

/// How many hashes a tree of `size` leaves stores at a tile level.
pub(crate) fn stored_hashes(size: u64, level: usize) -> u64 {
    size.checked_shr(8 * level as u32).unwrap_or(0)
}

/// The file of one tile level.
pub(crate) fn level_path(folder: &Path, level: usize) -> PathBuf {
    folder.join(level.to_string())
}

/// Open tile files. Writing and reading at the same time is fine: readers ask only for what is committed.
#[derive(Debug)]
pub(crate) struct TileFiles {
    folder: PathBuf,
    writable: bool,
    files: [OnceLock<File>; LEVELS],
}

impl TileFiles {
    pub fn new(folder: PathBuf, writable: bool) -> Self {
        Self { folder, writable, files: Default::default() }
    }

    /// Writes hashes of one level, `first` being the position of the first.
    pub fn write(&self, level: usize, first: u64, hashes: &[u8]) -> io::Result<()> {
        self.file(level)?.write_all_at(hashes, first * HASH_BYTES as u64)
    }

    /// Reads hashes of one level.
    pub fn read(&self, level: usize, first: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut hashes = vec![0; count * HASH_BYTES];
        self.file(level)?.read_exact_at(&mut hashes, first * HASH_BYTES as u64)?;
        Ok(hashes)
    }

    /// Reads as many of these hashes as there are.
    pub fn read_up_to(&self, level: usize, first: u64, count: usize) -> io::Result<Vec<u8>> {
        let (mut hashes, mut filled) = (vec![0; count * HASH_BYTES], 0);
        let (file, offset) = (self.file(level)?, first * HASH_BYTES as u64);
        while let Some(rest) = hashes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        hashes.truncate(filled);
        Ok(hashes)
    }

    fn file(&self, level: usize) -> io::Result<&File> {
        let slot = self.files.get(level).ok_or(io::ErrorKind::NotFound)?;
        if let Some(file) = slot.get() {
            return Ok(file);
        }
        let path = level_path(&self.folder, level);
        let file = if self.writable {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?
        } else {
            File::open(path)?
        };
        Ok(slot.get_or_init(|| file))
    }
}

impl NodeHashes for TileFiles {
    type Error = io::Error;

    fn hashes(&self, level: u8, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        let bytes = self.read(usize::from(level), first, count)?;
        Ok(bytes.chunks_exact(HASH_BYTES).filter_map(Hash::from_slice).collect())
    }
}

/// Compares the hashes of a tree, as they are computed, with those on disk.
pub(crate) struct TileComparison {
    levels: [Option<BufReader<File>>; LEVELS],
    counts: [u64; LEVELS],
    ended: [bool; LEVELS],
    /// The first hash of each level that is missing or differs.
    pub first_difference: [Option<Difference>; LEVELS],
}

/// How a stored hash differs from the computed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    /// It is not there.
    Missing(u64),
    /// It is another.
    Other(u64),
}

impl TileComparison {
    pub fn new(folder: &Path) -> Self {
        let open = |level| File::open(level_path(folder, level)).ok().map(BufReader::new);
        Self {
            levels: std::array::from_fn(open),
            counts: [0; LEVELS],
            ended: [false; LEVELS],
            first_difference: [None; LEVELS],
        }
    }

    /// Takes the next hash of a level; tells how the one on disk differs. The end of a file is told once.
    pub fn next(&mut self, level: u8, hash: &Hash) -> Option<Difference> {
        let level = usize::from(level);
        let reader = self.levels.get_mut(level)?;
        let count = self.counts.get_mut(level)?;
        let ended = self.ended.get_mut(level).filter(|ended| !**ended)?;
        let position = *count;
        *count += 1;
        let mut stored = [0; HASH_BYTES];
        let found = reader.as_mut().is_some_and(|reader| reader.read_exact(&mut stored).is_ok());
        let difference = match (found, stored == hash.0) {
            (true, true) => return None,
            (true, false) => Difference::Other(position),
            (false, _) => {
                *ended = true;
                Difference::Missing(position)
            }
        };
        if let Some(first) = self.first_difference.get_mut(level) {
            first.get_or_insert(difference);
        }
        Some(difference)
    }

    pub fn equal(&self) -> bool {
        self.first_difference.iter().all(Option::is_none)
    }
}

/// Writes all tile files anew.
pub(crate) struct TileRewrite {
    folder: PathBuf,
    levels: Vec<BufWriter<File>>,
}

impl TileRewrite {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), levels: Vec::new() }
    }

    pub fn next(&mut self, level: u8, hash: &Hash) -> io::Result<()> {
        while self.levels.len() <= usize::from(level) {
            self.levels.push(BufWriter::new(File::create(level_path(&self.folder, self.levels.len()))?));
        }
        self.levels.get_mut(usize::from(level)).map_or(Ok(()), |file| file.write_all(&hash.0))
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.levels.iter_mut().try_for_each(Write::flush)
    }
}
