//! Reading a static tlog-tiles directory, whoever made it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{CHECKPOINT, VKEY};
use crate::note::MAX_NOTE_BYTES;
use crate::tile::{
    MAX_RECORD_BYTES, TILE_WIDTH, Tile, TileKind, TilePath, TileSource, decode_entries, encode_entries,
};
use crate::tree::HASH_BYTES;

/// The largest tile: a full bundle of the largest records behind their lengths.
const MAX_TILE_BYTES: u64 = TILE_WIDTH * (MAX_RECORD_BYTES as u64 + 2);

/// A file of a directory that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A log in a static directory. Nothing in it has been checked.
#[derive(Debug, Clone)]
pub struct TilesDirectory {
    dir: PathBuf,
}

impl TilesDirectory {
    /// The log in this folder; `None` unless it holds a file `checkpoint` and no folder `segments`, as a log's own folder does.
    #[must_use]
    pub fn at(dir: &Path) -> Option<Self> {
        let is_published = dir.join(CHECKPOINT).is_file() && !dir.join(crate::store::SEGMENTS).exists();
        is_published.then(|| Self { dir: dir.to_owned() })
    }

    /// The text of the file `checkpoint`, which is not signed by anybody until that is checked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checkpoint(&self) -> Result<String, FileError> {
        self.text(CHECKPOINT)
    }

    /// The text of the file `log.vkey`, if there is one. A directory cannot vouch for its own key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn vkey(&self) -> Result<Option<String>, FileError> {
        if self.dir.join(VKEY).exists() { self.text(VKEY).map(Some) } else { Ok(None) }
    }

    fn text(&self, name: &str) -> Result<String, FileError> {
        let path = self.dir.join(name);
        match read_up_to(&path, MAX_NOTE_BYTES as u64 + 1) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(source) => Err(FileError { path, source }),
        }
    }

    fn read(&self, tile: &TilePath) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.dir.join(tile.to_string());
        match read_up_to(&path, MAX_TILE_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(source) => Err(FileError { path, source }),
        }
    }
}

impl TileSource for TilesDirectory {
    type Error = FileError;

    /// A partial tile that is gone is read from the full one, which the specification lets take its place.
    fn tile(&self, path: &TilePath) -> Result<Tile, FileError> {
        let found = match self.read(path)? {
            None if path.full() != *path => self.read(&path.full())?.map(|full| beginning(path, full)),
            found => found,
        };
        Ok(found.map_or(Tile::Missing, Tile::Bytes))
    }
}

/// The beginning of a full tile that is the partial tile `path`. A tile that cannot be cut there is returned as it is, to be refused.
fn beginning(path: &TilePath, mut full: Vec<u8>) -> Vec<u8> {
    let width = usize::from(path.width());
    match path.kind() {
        TileKind::Hashes { .. } => full.truncate(width * HASH_BYTES),
        TileKind::Entries => {
            let entries = decode_entries(&full).ok();
            let cut = entries.and_then(|entries| encode_entries(entries.get(..width)?).ok());
            full = cut.unwrap_or(full);
        }
    }
    full
}

fn read_up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
