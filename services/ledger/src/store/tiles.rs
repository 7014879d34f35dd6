//! The tree's hashes on disk: one file per tile level, tile behind tile.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::disk::{Disk, DiskFile, new_name};
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

/// Cuts hashes of a commit that was never finished off the tile files.
pub(crate) fn cut_tiles(disk: &dyn Disk, folder: &Path, size: u64) -> io::Result<()> {
    for level in 0..LEVELS {
        let length = stored_hashes(size, level) * HASH_BYTES as u64;
        let path = level_path(folder, level);
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > length) {
            disk.open(&path)?.set_len(length)?;
        }
    }
    Ok(())
}

/// Open tile files. Writing and reading at the same time is fine: readers ask only for what is committed.
#[derive(Debug)]
pub(crate) struct TileFiles {
    folder: PathBuf,
    disk: Option<Arc<dyn Disk>>,
    read: Box<[OnceLock<File>; LEVELS]>,
    written: Box<[OnceLock<Box<dyn DiskFile>>; LEVELS]>,
}

impl TileFiles {
    /// The tile files of a log that this process writes.
    pub fn for_writing(folder: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { folder, disk: Some(disk), read: Default::default(), written: Default::default() }
    }

    /// Those of any other.
    pub fn for_reading(folder: PathBuf) -> Self {
        Self { folder, disk: None, read: Default::default(), written: Default::default() }
    }

    /// The file of one level.
    pub fn path(&self, level: usize) -> PathBuf {
        level_path(&self.folder, level)
    }

    /// Writes hashes of one level, `first` being the position of the first.
    pub fn write(&self, level: usize, first: u64, hashes: &[u8]) -> io::Result<()> {
        let slot = self.written.get(level).ok_or(io::ErrorKind::NotFound)?;
        let disk = self.disk.as_ref().ok_or(io::ErrorKind::PermissionDenied)?;
        let file = match slot.get() {
            Some(file) => file,
            None => {
                let file = disk.open(&level_path(&self.folder, level))?;
                slot.get_or_init(|| file)
            }
        };
        file.write_all_at(hashes, first * HASH_BYTES as u64)
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
        let slot = self.read.get(level).ok_or(io::ErrorKind::NotFound)?;
        if let Some(file) = slot.get() {
            return Ok(file);
        }
        let file = File::open(level_path(&self.folder, level))?;
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
    /// Compares from the hashes on that the leaf after `size` leaves is the first to complete.
    pub fn after(folder: &Path, size: u64) -> Self {
        let open = |level| {
            let mut file = File::open(level_path(folder, level)).ok()?;
            file.seek(SeekFrom::Start(stored_hashes(size, level) * HASH_BYTES as u64)).ok()?;
            Some(BufReader::new(file))
        };
        Self {
            levels: std::array::from_fn(open),
            counts: std::array::from_fn(|level| stored_hashes(size, level)),
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

/// Writes the hashes of a tree to the tile files: all of them, in files of their own that take the old ones' place when they
/// are whole and durable, or those after a size up to which they are right.
pub(crate) struct TileRewrite<'a> {
    folder: PathBuf,
    disk: &'a dyn Disk,
    size: u64,
    levels: Vec<Level>,
}

struct Level {
    file: Box<dyn DiskFile>,
    offset: u64,
    hashes: Vec<u8>,
}

/// Hashes of one level are written in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;

impl Level {
    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.hashes, self.offset)?;
        self.offset += self.hashes.len() as u64;
        self.hashes.clear();
        Ok(())
    }
}

impl<'a> TileRewrite<'a> {
    /// Begins with the leaf after `size` leaves.
    pub fn after(folder: &Path, disk: &'a dyn Disk, size: u64) -> Self {
        Self { folder: folder.to_owned(), disk, size, levels: Vec::new() }
    }

    pub fn next(&mut self, level: u8, hash: &Hash) -> io::Result<()> {
        let level = usize::from(level);
        while self.levels.len() <= level {
            let number = self.levels.len();
            let path = level_path(&self.folder, number);
            let file =
                if self.size == 0 { self.disk.open(&new_name(&path))? } else { self.disk.open(&path)? };
            let offset = stored_hashes(self.size, number) * HASH_BYTES as u64;
            if self.size == 0 {
                file.set_len(0)?;
            }
            self.levels.push(Level { file, offset, hashes: Vec::new() });
        }
        let Some(level) = self.levels.get_mut(level) else { return Ok(()) };
        level.hashes.extend_from_slice(&hash.0);
        if level.hashes.len() >= PIECE_BYTES { level.flush() } else { Ok(()) }
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.levels.iter_mut().try_for_each(Level::flush)?;
        if self.size > 0 {
            return Ok(());
        }
        for (number, level) in self.levels.iter().enumerate() {
            level.file.sync_data()?;
            let path = level_path(&self.folder, number);
            self.disk.rename(&new_name(&path), &path)?;
        }
        self.disk.sync_folder(&self.folder)
    }
}
