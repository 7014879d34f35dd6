//! The folder that a topic is folded into.

use std::io;
use std::path::{Path, PathBuf};

use super::position::Position;
use crate::disk::{AppendFile, Disk, OsDisk};
use crate::key::VerifierKey;
use crate::store::file::cut_tiles;
use crate::store::load::{Loaded, OpenError, load, rewrite_tiles};
use crate::store::segments::{Index, Segments};
use crate::store::tiles::TileFiles;
use crate::store::{LogStore, SEGMENTS, TILES};
use crate::tree::Frontier;

/// A copy's segment that has reached this size gets no more commits.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Where the records of a copy are kept while it is made anew.
const ASIDE: &str = "segments.before";

/// Files that need not outlive a power cut: the topic has what is in them.
struct CopyDisk;

struct CopyFile(Box<dyn AppendFile>);

impl Disk for CopyDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        OsDisk.open_append(path).map(|file| Box::new(CopyFile(file)) as Box<dyn AppendFile>)
    }
}

impl AppendFile for CopyFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
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
        cut_tiles(&dir.join(TILES), 0)?;
        Self::with(dir, Index::default())
    }

    /// The copy that is in a folder, its tree, and its tree where the position is; `None` if it is damaged, or ends before it.
    pub fn load(
        dir: &Path,
        key: &VerifierKey,
        position: &Position,
    ) -> Result<Option<(Self, Frontier, Frontier)>, OpenError> {
        // Whatever is wrong with it, the topic has it right.
        let Ok(Loaded { index, frontier, tiles_equal, .. }) = load(dir, key) else { return Ok(None) };
        if frontier.size() < position.size {
            return Ok(None);
        }
        let (io, tiles) = (OpenError::io(dir), dir.join(TILES));
        std::fs::create_dir_all(&tiles).map_err(&io)?;
        if !tiles_equal {
            rewrite_tiles(dir, &index).map_err(&io)?;
        }
        cut_tiles(&tiles, frontier.size()).map_err(&io)?;
        let known = Frontier::at(&TileFiles::new(tiles, false), position.size).map_err(&io)?;
        if known.root() != position.root {
            return Ok(None);
        }
        Ok(Some((Self::with(dir, index).map_err(&io)?, frontier, known)))
    }

    fn with(dir: &Path, index: Index) -> io::Result<Self> {
        let segments = Segments::open(&dir.join(SEGMENTS), Box::new(CopyDisk), SEGMENT_BYTES, index)?;
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
