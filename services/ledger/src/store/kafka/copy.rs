//! The folder that a topic is folded into.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::position::Position;
use crate::disk::{Disk, DiskFile, OsDisk};
use crate::key::VerifierKey;
use crate::rotation::LogKeys;
use crate::store::error::OpenError;
use crate::store::load::{Loaded, load};
use crate::store::segments::{Found, Segments};
use crate::store::tiles::TileFiles;
use crate::store::tiles::cut_tiles;
use crate::store::{LogStore, SEGMENTS, Sealing, TILES};
use crate::tree::Frontier;

/// A copy's segment that has reached this size gets no more commits.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Where the records of a copy are kept while it is made anew.
const ASIDE: &str = "segments.before";

/// Files that need not outlive a power cut: the topic has what is in them.
#[derive(Debug)]
struct CopyDisk;

#[derive(Debug)]
struct CopyFile(Box<dyn DiskFile>);

impl Disk for CopyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        OsDisk.open(path).map(|file| Box::new(CopyFile(file)) as Box<dyn DiskFile>)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for CopyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

/// The disk that copies lie on.
pub(super) fn disk() -> Arc<dyn Disk> {
    Arc::new(CopyDisk)
}

/// A copy of a topic's records.
pub(super) struct Copy {
    pub dir: PathBuf,
    pub segments: Segments,
}

impl Copy {
    /// A copy of nothing yet.
    pub fn empty(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir.join(SEGMENTS))?;
        std::fs::create_dir_all(dir.join(TILES))?;
        cut_tiles(&CopyDisk, &dir.join(TILES), 0)?;
        let (index, sealed) = Default::default();
        Self::with(dir, Found { index, sealed, signed_size: 0 })
    }

    /// The copy that is in a folder, its tree, and its tree where the position is; `None` if it is damaged, or ends before it.
    pub fn load(
        dir: &Path,
        key: &VerifierKey,
        position: &Position,
    ) -> Result<Option<(Self, Frontier, Frontier)>, OpenError> {
        // Whatever is wrong with it, the topic has it right.
        let Ok(loaded) = load(dir, &LogKeys::of(key.clone())) else { return Ok(None) };
        if loaded.frontier.size() < position.size {
            return Ok(None);
        }
        let (io, tiles) = (OpenError::io(dir), dir.join(TILES));
        loaded.mend(dir, &CopyDisk).map_err(&io)?;
        let Loaded { index, frontier, sealed, .. } = loaded;
        let found = Found { index, sealed, signed_size: frontier.size() };
        let known = Frontier::at(&TileFiles::for_reading(tiles), position.size).map_err(&io)?;
        if known.root() != position.root {
            return Ok(None);
        }
        Ok(Some((Self::with(dir, found).map_err(&io)?, frontier, known)))
    }

    /// Nothing is sealed: what a sealed segment says of the tree must be durable.
    fn with(dir: &Path, found: Found) -> io::Result<Self> {
        let segments = Segments::open(dir, disk(), SEGMENT_BYTES, Sealing::Off, found)?;
        Ok(Self { dir: dir.to_owned(), segments })
    }

    /// Whether it has these records from `first` on, of those that it has already.
    pub fn has(&self, first: u64, records: &[&[u8]]) -> bool {
        let end = first + records.len() as u64;
        let (mut next, mut expected) = (first, records.iter());
        while next < end {
            let Ok(found) = self.segments.read(next..end) else { return false };
            if found.is_empty()
                || !found.iter().all(|record| expected.next().is_some_and(|other| record == other))
            {
                return false;
            }
            next += found.len() as u64;
        }
        true
    }
}

/// Puts the records of a copy aside, to make it anew.
pub(super) fn put_aside(dir: &Path) -> io::Result<()> {
    let segments = dir.join(SEGMENTS);
    if segments.exists() { std::fs::rename(segments, dir.join(ASIDE)) } else { Ok(()) }
}

/// Puts them back, when that did not succeed.
pub(super) fn put_back(dir: &Path) -> io::Result<()> {
    let (aside, segments) = (dir.join(ASIDE), dir.join(SEGMENTS));
    if !aside.exists() {
        return Ok(());
    }
    if segments.exists() {
        std::fs::remove_dir_all(&segments)?;
    }
    std::fs::rename(aside, segments)
}

/// Removes them, when it did.
pub(super) fn forget_old(dir: &Path) -> io::Result<()> {
    let aside = dir.join(ASIDE);
    if aside.exists() { std::fs::remove_dir_all(aside) } else { Ok(()) }
}

/// Removes a copy that never was one.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    for folder in [SEGMENTS, TILES].map(|name| dir.join(name)) {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
    }
    let position = super::position::file(dir);
    if position.exists() { std::fs::remove_file(position) } else { Ok(()) }
}
