//! The log in a folder of plain files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::load::{Loaded, OpenError, load, rewrite_tiles, tree_in_memory};
use super::log::{Log, Standing, reader};
use super::reader::{Reader, Tree};
use super::segments::{Segments, SharedIndex};
use super::tiles::{LEVELS, TileFiles, level_path, stored_hashes};
use super::{CHECKPOINT, LOCK, SEGMENTS, TILES};
use crate::disk::{Disk, OsDisk, sync_parent};
use crate::key::{Signer, VerifierKey};
use crate::tree::HASH_BYTES;

/// A process that is just being started shares its parent's open files for a moment, and so a lock that was let go.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How a log is kept.
pub struct Options {
    /// A segment that has reached this size gets no more commits (at most 1 GiB).
    pub segment_bytes: u64,
    /// Where segments are opened.
    pub disk: Box<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, disk: Box::new(OsDisk) }
    }
}

/// The log in a folder of plain files: how it is made and opened.
#[derive(Debug)]
pub enum FileLog {}

impl FileLog {
    /// Makes a new, empty log in a folder, and opens it. Its origin is the name of the signer's key.
    ///
    /// # Errors
    /// When there is a log already or the folder cannot be written.
    pub fn create(dir: &Path, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
        Self::create_with(dir, signer, Options::default())
    }

    /// Like [`FileLog::create`], with options.
    ///
    /// # Errors
    /// As for [`FileLog::create`].
    pub fn create_with(dir: &Path, signer: Box<dyn Signer>, options: Options) -> Result<Log, OpenError> {
        let segments = dir.join(SEGMENTS);
        if segments.exists() || dir.join(CHECKPOINT).exists() {
            return Err(OpenError::Exists(dir.to_owned()));
        }
        std::fs::create_dir_all(&segments).map_err(OpenError::io(&segments))?;
        sync_parent(&segments).and_then(|()| sync_parent(dir)).map_err(OpenError::io(dir))?;
        Self::open_with(dir, signer, options)
    }

    /// Opens the log in a folder for writing. An unfinished last commit is cut off, and missing tiles and checkpoint are made.
    ///
    /// # Errors
    /// When there is none, another process has it open, or its records are not what the signed checkpoint covers.
    pub fn open(dir: &Path, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
        Self::open_with(dir, signer, Options::default())
    }

    /// Like [`FileLog::open`], with options.
    ///
    /// # Errors
    /// As for [`FileLog::open`].
    pub fn open_with(dir: &Path, signer: Box<dyn Signer>, options: Options) -> Result<Log, OpenError> {
        if !dir.join(SEGMENTS).is_dir() {
            return Err(OpenError::NoLog(dir.to_owned()));
        }
        let lock = lock(dir)?;
        let key = signer.verifier_key();
        let Loaded { index, frontier, checkpoint, unfinished_bytes, tiles_equal } = load(dir, &key)?;
        let tiles = dir.join(TILES);
        std::fs::create_dir_all(&tiles).map_err(OpenError::io(&tiles))?;
        if !tiles_equal {
            rewrite_tiles(dir, &index).map_err(OpenError::io(&tiles))?;
        }
        cut_tiles(&tiles, frontier.size()).map_err(OpenError::io(&tiles))?;
        let folder = dir.join(SEGMENTS);
        let roll_bytes = options.segment_bytes.min(1 << 30);
        let segments =
            Segments::open(&folder, options.disk, roll_bytes, index).map_err(OpenError::io(&folder))?;
        let index = segments.index();
        let tiles_rebuilt = !tiles_equal;
        let dir = dir.to_owned();
        let standing = Standing { dir, frontier, checkpoint, unfinished_bytes, tiles_rebuilt, lock };
        Log::over(Box::new(segments), index, standing, signer)
    }

    /// Opens a log, or a copy of one, for reading only. It shows what the checkpoint file covered at this moment.
    ///
    /// # Errors
    /// When there is none, or its records are not what the signed checkpoint covers.
    pub fn open_read_only(dir: &Path, key: &VerifierKey) -> Result<Reader, OpenError> {
        let Loaded { index, checkpoint, tiles_equal, .. } = load(dir, key)?;
        let signed = checkpoint.ok_or_else(|| OpenError::Unsigned(dir.to_owned()))?;
        let tiles = dir.join(TILES);
        let tree = if tiles_equal {
            Tree::Files(TileFiles::new(tiles, false))
        } else {
            Tree::Memory(tree_in_memory(&index, signed.checkpoint().size).map_err(OpenError::io(dir))?)
        };
        Ok(reader(SharedIndex::new(index), tree, signed, dir.join(SEGMENTS)))
    }
}

pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(OpenError::io(&path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
        }
    }
    Err(OpenError::Locked(dir.to_owned()))
}

/// Cuts hashes of a commit that was never finished off the tile files.
pub(super) fn cut_tiles(folder: &Path, size: u64) -> io::Result<()> {
    for level in 0..LEVELS {
        let length = stored_hashes(size, level) * HASH_BYTES as u64;
        let path = level_path(folder, level);
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > length) {
            OpenOptions::new().write(true).open(path)?.set_len(length)?;
        }
    }
    Ok(())
}
