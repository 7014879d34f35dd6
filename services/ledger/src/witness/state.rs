//! What a witness must never forget: the newest checkpoint of each log that it has cosigned.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{Evidence, LogId};
use crate::disk::sync_parent;
use crate::note::MAX_NOTE_BYTES;

/// The most requests of a kind that are kept as evidence against one log.
const MAX_EVIDENCE: u32 = 16;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the folder.
    #[error("{0} is in use by another witness: only one may use it; stop the other one")]
    Locked(PathBuf),
}

/// A place where the newest cosigned checkpoint of each log is kept durably.
pub trait WitnessState: Send + Sync {
    /// The note that was stored last for a log.
    ///
    /// # Errors
    /// When it cannot be read.
    fn newest(&self, log: &LogId) -> Result<Option<String>, StateError>;

    /// Stores a note in place of the last one. When this returns, it survives the loss of power; when it fails, either of
    /// the two may be there.
    ///
    /// # Errors
    /// When the system does not confirm it.
    fn store(&self, log: &LogId, note: &str) -> Result<(), StateError>;
}

/// A folder with a file for each log, named by the SHA-256 of its origin.
#[derive(Debug)]
pub struct FolderState {
    folder: PathBuf,
    _lock: File,
}

impl FolderState {
    /// Opens the folder, making it if need be, and keeps other witnesses out of it.
    ///
    /// # Errors
    /// When it cannot be made, or is in use.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { path: folder.to_owned(), source };
        if !folder.is_dir() {
            std::fs::create_dir_all(folder).and_then(|()| sync_parent(folder)).map_err(io)?;
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join("lock"));
        let lock = lock.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Keeps a request that contradicts what was cosigned, as evidence against the log. Where there is enough already,
    /// nothing is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_evidence(
        &self,
        log: &LogId,
        evidence: Evidence,
        request: &[u8],
    ) -> Result<Option<PathBuf>, StateError> {
        let kind = match evidence {
            Evidence::Fork => "fork",
            Evidence::Unproven => "unproven",
        };
        for number in 1..=MAX_EVIDENCE {
            let path = self.folder.join(format!("{log}.{kind}-{number}"));
            let written = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut file| {
                file.write_all(request)?;
                file.sync_all()?;
                sync_parent(&path)
            });
            match written {
                Ok(()) => return Ok(Some(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if std::fs::read(&path).is_ok_and(|kept| kept == request) {
                        return Ok(None);
                    }
                }
                Err(source) => return Err(StateError::Io { path, source }),
            }
        }
        Ok(None)
    }

    fn file(&self, log: &LogId) -> PathBuf {
        self.folder.join(format!("{log}.checkpoint"))
    }
}

impl WitnessState for FolderState {
    fn newest(&self, log: &LogId) -> Result<Option<String>, StateError> {
        let path = self.file(log);
        let io = |source| StateError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut note = String::new();
        file.take(MAX_NOTE_BYTES as u64 + 1).read_to_string(&mut note).map_err(io)?;
        Ok(Some(note))
    }

    fn store(&self, log: &LogId, note: &str) -> Result<(), StateError> {
        let path = self.file(log);
        let new = path.with_extension("new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(note.as_bytes())?;
            file.sync_all()
        });
        let stored = written.and_then(|()| std::fs::rename(&new, &path)).and_then(|()| sync_parent(&path));
        stored.map_err(|source| StateError::Io { path, source })
    }
}
