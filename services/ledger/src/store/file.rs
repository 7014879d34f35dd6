//! The log in a folder of plain files.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::blocks::SharedIndex;
use super::checkpoint_file::CHECKPOINT_INTERVAL;
use super::error::OpenError;
use super::load::{Loaded, load};
use super::log::{Log, Standing};
use super::reader::{Reader, Tree};
use super::sealer::Sealing;
use super::segments::{Found, MAX_SEGMENT_BYTES, Segments};
use super::tiles::TileFiles;
use super::{CHECKPOINT, LOCK, SEGMENTS, TILES};
use crate::disk::{Disk, OsDisk, folder_of};
use crate::key::{Signer, VerifierKey};
use crate::rotation::LogKeys;

/// A process that is just being started shares its parent's open files for a moment, and so a lock that was let go.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How a log is kept.
pub struct Options {
    /// A segment that has reached this size gets no more commits (at most 1 GiB).
    pub segment_bytes: u64,
    /// When full segments are compressed.
    pub sealing: Sealing,
    /// How far the checkpoint file may be behind the commits under load; zero writes it with each.
    pub checkpoint_interval: Duration,
    /// Where everything is written.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            sealing: Sealing::default(),
            checkpoint_interval: CHECKPOINT_INTERVAL,
            disk: Arc::new(OsDisk),
        }
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
        let disk = &options.disk;
        disk.create_folder(&segments).map_err(OpenError::io(&segments))?;
        let synced = disk.sync_folder(dir).and_then(|()| disk.sync_folder(folder_of(dir)));
        synced.map_err(OpenError::io(dir))?;
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
        let keys = LogKeys::of(signer.verifier_key());
        let disk = options.disk;
        let loaded = load(dir, &keys)?;
        loaded.mend(dir, disk.as_ref()).map_err(OpenError::io(dir))?;
        let Loaded { index, frontier, checkpoint, unfinished_bytes, tiles_differ_after, sealed, .. } = loaded;
        let signed_size = checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size);
        let roll_bytes = options.segment_bytes.min(MAX_SEGMENT_BYTES);
        let found = Found { index, sealed, signed_size };
        let segments = Segments::open(dir, disk.clone(), roll_bytes, options.sealing, found)
            .map_err(OpenError::io(&dir.join(SEGMENTS)))?;
        let index = segments.index();
        let (dir, tiles_rebuilt) = (dir.to_owned(), tiles_differ_after.is_some());
        let checkpoint_interval = options.checkpoint_interval;
        let standing = Standing {
            dir,
            disk,
            checkpoint_interval,
            frontier,
            checkpoint,
            unfinished_bytes,
            tiles_rebuilt,
            lock,
        };
        Log::over(Box::new(segments), index, standing, signer)
    }

    /// Opens a log, or a copy of one, for reading only. It shows what the checkpoint file covered at this moment.
    ///
    /// # Errors
    /// When there is none, or its records are not what the signed checkpoint covers.
    pub fn open_read_only(dir: &Path, key: &VerifierKey) -> Result<Reader, OpenError> {
        let keys = LogKeys::load(dir, key.clone())?;
        let loaded = load(dir, &keys)?;
        let signed = loaded.checkpoint.clone().ok_or_else(|| OpenError::Unsigned(dir.to_owned()))?;
        let tree = if loaded.signed_tiles_hold {
            Tree::Files(TileFiles::for_reading(dir.join(TILES)))
        } else {
            Tree::Memory(loaded.tree_in_memory(signed.checkpoint().size).map_err(OpenError::io(dir))?)
        };
        Ok(Reader::new(SharedIndex::new(loaded.index), tree, signed, dir.join(SEGMENTS)))
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
