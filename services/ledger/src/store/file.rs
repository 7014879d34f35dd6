//! The log in a folder of plain files.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::load::{Loaded, OpenError, load, rewrite_tiles, tree_in_memory};
use super::reader::{Reader, Shared, Tree};
use super::segments::{Segments, SharedIndex, StoreError};
use super::tiles::{LEVELS, TileFiles, level_path, stored_hashes};
use super::{Batch, CHECKPOINT, LOCK, SEGMENTS, TILES};
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::disk::{Disk, OsDisk, sync_parent};
use crate::key::{SignError, Signer, VerifierKey};
use crate::tree::{Frontier, HASH_BYTES};

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

/// A commit that is durable, and the checkpoint that covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The sequence number of its first record.
    pub first: u64,
    /// The log's size after it.
    pub size: u64,
    /// The signed note of the checkpoint after it.
    pub checkpoint: String,
}

/// Why a commit was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree's hashes could not be written; nothing of the commit is stored.
    #[error("{path}: nothing of the commit was stored: {source}")]
    Tiles {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The records are stored, but their checkpoint cannot be signed; opening the log again will sign and show them.
    #[error("the commit is stored but not signed, so nobody may rely on it yet; open the log again: {0}")]
    Sign(#[from] SignError),
}

/// What opening had to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Bytes of a commit that was never finished, and was cut off.
    pub unfinished_bytes: u64,
    /// Whether the tiles were written anew.
    pub tiles_rebuilt: bool,
    /// Records that were stored but not yet covered by the checkpoint file.
    pub newly_signed: u64,
}

/// The one writer of a log. Readers are made with [`FileLog::reader`].
pub struct FileLog {
    dir: PathBuf,
    signer: Box<dyn Signer>,
    origin: String,
    segments: Segments,
    frontier: Frontier,
    reader: Reader,
    recovery: Recovery,
    _lock: File,
}

impl fmt::Debug for FileLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLog").field("dir", &self.dir).field("size", &self.frontier.size()).finish()
    }
}

impl FileLog {
    /// Makes a new, empty log in a folder, and opens it. Its origin is the name of the signer's key.
    ///
    /// # Errors
    /// When there is a log already or the folder cannot be written.
    pub fn create(dir: &Path, signer: Box<dyn Signer>) -> Result<Self, OpenError> {
        Self::create_with(dir, signer, Options::default())
    }

    /// Like [`FileLog::create`], with options.
    ///
    /// # Errors
    /// As for [`FileLog::create`].
    pub fn create_with(dir: &Path, signer: Box<dyn Signer>, options: Options) -> Result<Self, OpenError> {
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
    pub fn open(dir: &Path, signer: Box<dyn Signer>) -> Result<Self, OpenError> {
        Self::open_with(dir, signer, Options::default())
    }

    /// Like [`FileLog::open`], with options.
    ///
    /// # Errors
    /// As for [`FileLog::open`].
    pub fn open_with(dir: &Path, signer: Box<dyn Signer>, options: Options) -> Result<Self, OpenError> {
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
        let origin = key.name().to_owned();
        let signed_size = checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size);
        let signed = match checkpoint.filter(|_| signed_size == frontier.size()) {
            Some(signed) => signed,
            None => {
                let checkpoint =
                    Checkpoint { origin: origin.clone(), size: frontier.size(), root: frontier.root() };
                let signed = checkpoint.sign(signer.as_ref())?;
                write_checkpoint(dir, signed.text()).map_err(OpenError::io(&dir.join(CHECKPOINT)))?;
                signed
            }
        };
        let newly_signed = frontier.size() - signed_size;
        let recovery = Recovery { unfinished_bytes, tiles_rebuilt: !tiles_equal, newly_signed };
        let tree = Tree::Files(TileFiles::new(tiles, true));
        let reader = reader(segments.index(), tree, signed, folder);
        Ok(Self { dir: dir.to_owned(), signer, origin, segments, frontier, reader, recovery, _lock: lock })
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

    /// Appends records as one commit: when this returns they are durable, and covered by the returned checkpoint.
    ///
    /// # Errors
    /// When a record is refused or the disk fails. Nothing of the commit is visible then; after a failed sync or
    /// signature the log takes no more commits until it is opened again.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<Commit, AppendError> {
        let records: Vec<&[u8]> = records.iter().map(AsRef::as_ref).collect();
        let first = self.frontier.size();
        let batch = Batch { first, previous_root: self.frontier.root(), records: &records };
        self.segments.check(&batch)?;
        // Hashes first: readers look only below the published size, so hashes of a commit that fails are never seen.
        let frontier = self.write_hashes(&records)?;
        self.segments.write(&batch)?;
        let (size, root) = (frontier.size(), frontier.root());
        let signed = Checkpoint { origin: self.origin.clone(), size, root }.sign(self.signer.as_ref());
        let signed = signed.inspect_err(|_| self.segments.poison())?;
        self.frontier = frontier;
        let checkpoint = signed.text().to_owned();
        *self.reader.0.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        // The records are safe and signed. A checkpoint file that cannot be written now is written with the next
        // commit or on opening; failing here would deny a commit that holds.
        let _ = write_checkpoint(&self.dir, &checkpoint);
        Ok(Commit { first, size, checkpoint })
    }

    /// The reading side, for this or (cloned) any other thread.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The number of committed records.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The public key that verifies this log's checkpoints.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        self.signer.verifier_key()
    }

    /// What opening had to mend.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    fn write_hashes(&self, records: &[&[u8]]) -> Result<Frontier, AppendError> {
        let Tree::Files(files) = &self.reader.0.tree else { return Err(StoreError::Poisoned.into()) };
        let (mut frontier, mut levels) = (self.frontier.clone(), [const { Vec::new() }; LEVELS]);
        for record in records {
            frontier.push_with(crate::tree::leaf_hash(record), |level, hash| {
                if let Some(level) = levels.get_mut(usize::from(level)) {
                    level.extend_from_slice(&hash.0);
                }
            });
        }
        for (level, hashes) in levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
            files
                .write(level, stored_hashes(self.frontier.size(), level), hashes)
                .map_err(|source| AppendError::Tiles { path: self.dir.join(TILES), source })?;
        }
        Ok(frontier)
    }
}

fn reader(index: SharedIndex, tree: Tree, signed: SignedCheckpoint, folder: PathBuf) -> Reader {
    let published = RwLock::new(Arc::new(signed));
    Reader(Arc::new(Shared { index, tree, published, folder }))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
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
fn cut_tiles(folder: &Path, size: u64) -> io::Result<()> {
    for level in 0..LEVELS {
        let length = stored_hashes(size, level) * HASH_BYTES as u64;
        let path = level_path(folder, level);
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > length) {
            OpenOptions::new().write(true).open(path)?.set_len(length)?;
        }
    }
    Ok(())
}

fn write_checkpoint(dir: &Path, text: &str) -> io::Result<()> {
    let new = dir.join("checkpoint.new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, dir.join(CHECKPOINT))
}
