//! Copying a log while it is written, and putting a copy in its place.
//!
//! The checkpoint is copied first (with what witnesses have cosigned), then the changes of the log's key, the segments in order, then the tiles: whatever is appended meanwhile lies behind what the
//! copied checkpoint covers, and a commit that was caught half-way is cut off when the copy is opened. A copy is verified before
//! it counts, and takes its place by one change of a name. (`rsync` of the checkpoint, and then of the rest, will do
//! as well; `writ log verify COPY` then says whether the copy holds.)

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::cosigned::COSIGNED_HISTORY;
use crate::disk::{Disk, OsDisk, folder_of, new_name};
use crate::key::VerifierKey;
use crate::rotation::ROTATIONS;
use crate::store::{CHECKPOINT, COSIGNED, OpenError, SEGMENTS, TILES, load};
use crate::verify::{Report, verify_log};

/// Segments may be sealed while they are listed and copied; so often it is begun again.
const TRIES: u32 = 20;

/// Why a log was not backed up or restored. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something where the log should go.
    #[error("{0} is there already: move it away, or name a folder that does not exist")]
    Occupied(PathBuf),
    /// The copy does not verify.
    #[error(
        "what was copied from {from} does not verify ({}): run `writ log verify {from}` to see all of it",
        .report.findings.first().map_or_else(String::new, ToString::to_string)
    )]
    Unsound {
        /// Where it was copied from.
        from: PathBuf,
        /// What was found.
        report: Box<Report>,
    },
    /// There is no log, or it cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file cannot be copied.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Copies a log, which may be open for writing, into a folder of its own, in place of an older copy there. Returns the checkpoint
/// that covers the copy.
///
/// # Errors
/// When a file cannot be copied or the copy does not verify; an older copy stands then.
pub fn back_up(log: &Path, copy: &Path, key: &VerifierKey) -> Result<Checkpoint, BackupError> {
    if copy.exists() && !copy.join(SEGMENTS).is_dir() && !is_empty(copy)? {
        return Err(BackupError::Occupied(copy.to_owned()));
    }
    let (new, checkpoint) = copied(log, copy, key)?;
    let old = copy.with_file_name(with_ending(copy, ".old"));
    if copy.exists() {
        std::fs::rename(copy, &old).map_err(io_at(copy))?;
    }
    put_in_place(&new, copy)?;
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(io_at(&old))?;
    }
    Ok(checkpoint)
}

/// Copies a backup to where a log is to be. Returns the checkpoint that covers it.
///
/// # Errors
/// When there is something already, a file cannot be copied or the copy does not verify.
pub fn restore(copy: &Path, log: &Path, key: &VerifierKey) -> Result<Checkpoint, BackupError> {
    if log.exists() && !is_empty(log)? {
        return Err(BackupError::Occupied(log.to_owned()));
    }
    let (new, checkpoint) = copied(copy, log, key)?;
    put_in_place(&new, log)?;
    Ok(checkpoint)
}

/// A verified and durable copy beside where it is to be.
fn copied(from: &Path, to: &Path, key: &VerifierKey) -> Result<(PathBuf, Checkpoint), BackupError> {
    let new = new_name(to);
    remove_folder(&new)?;
    copy_log(from, &new, TRIES)?;
    let report = verify_log(&new, key)?;
    match report.checkpoint.clone().filter(|_| report.is_sound()) {
        Some(checkpoint) => Ok((new, checkpoint)),
        None => {
            remove_folder(&new)?;
            Err(BackupError::Unsound { from: from.to_owned(), report: Box::new(report) })
        }
    }
}

fn copy_log(from: &Path, to: &Path, tries: u32) -> Result<(), BackupError> {
    let (segments, tiles) = (to.join(SEGMENTS), to.join(TILES));
    for folder in [&segments, &tiles] {
        std::fs::create_dir_all(folder).map_err(io_at(folder))?;
    }
    // What witnesses have cosigned is older than the checkpoint that is copied after it; the changes of the key come last, so that
    // none is missing that a checkpoint needs.
    for name in [COSIGNED_HISTORY, COSIGNED, CHECKPOINT, ROTATIONS] {
        if from.join(name).exists() {
            copy_file(&from.join(name), &to.join(name))?;
        }
    }
    for segment in load::segment_files(from)? {
        match copy_file(&segment.path, &segments.join(segment.name())) {
            Err(BackupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && tries > 0 => {
                // It was sealed under way.
                remove_folder(to)?;
                return copy_log(from, to, tries - 1);
            }
            copied => copied?,
        }
    }
    let folder = from.join(TILES);
    for level in 0..crate::store::tiles::LEVELS {
        let name = level.to_string();
        if folder.join(&name).exists() {
            copy_file(&folder.join(&name), &tiles.join(&name))?;
        }
    }
    for folder in [&segments, &tiles, to] {
        OsDisk.sync_folder(folder).map_err(io_at(folder))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    std::fs::copy(from, to).map_err(io_at(from))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io_at(to))
}

fn put_in_place(new: &Path, to: &Path) -> Result<(), BackupError> {
    std::fs::rename(new, to).and_then(|()| OsDisk.sync_folder(folder_of(to))).map_err(io_at(to))
}

fn remove_folder(folder: &Path) -> Result<(), BackupError> {
    if folder.exists() { std::fs::remove_dir_all(folder).map_err(io_at(folder)) } else { Ok(()) }
}

fn is_empty(folder: &Path) -> Result<bool, BackupError> {
    Ok(std::fs::read_dir(folder).map_err(io_at(folder))?.next().is_none())
}

fn with_ending(path: &Path, ending: &str) -> std::ffi::OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    name
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> BackupError {
    move |source| BackupError::Io { path: path.to_owned(), source }
}
