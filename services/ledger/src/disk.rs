//! The file operations that durability hangs on, behind a trait so that faults can be injected.
//!
//! Everything that a log writes (segments, sealed segments, tiles, checkpoint) is written through here, and the log relies on
//! nothing but what is said here. Reading needs no such care: what is read is checked.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file that is open for writing.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Writes all bytes at `offset`.
    ///
    /// # Errors
    /// When any part was not written. Any other part may have been.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written to the file durable, through whichever handle it was written; not the file's name.
    /// Until then any part of it may be lost in a crash, and parts written later may survive.
    ///
    /// # Errors
    /// When the system does not confirm it. What was written before may be lost then, even if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file to `length` bytes.
    ///
    /// # Errors
    /// When the system does not confirm it.
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// Where a log's files are written.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file for writing, creating it if it is missing. The name of a new file is durable after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// When it cannot be opened or created.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a folder, and those above it that are missing.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in its folder, in place of the file that has that name. After a crash, a name stands for the
    /// old or the new file and for nothing between, until the folder was synced.
    ///
    /// # Errors
    /// When it cannot be renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it is not there or cannot be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable, as they are now.
    ///
    /// # Errors
    /// When the system does not confirm it.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create(true).truncate(false).open(path)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}

/// Makes the name of a newly created file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    OsDisk.sync_folder(folder_of(path))
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts a file with this content in place of the one with this name. In a crash the name stands for the old or the new
/// content; when this returns, for the new one.
///
/// # Errors
/// When any step fails; the old file stands then, or the new one whose durability the system did not confirm.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let new = new_name(path);
    let file = disk.open(&new)?;
    file.set_len(0)?;
    file.write_all_at(content, 0)?;
    file.sync_data()?;
    disk.rename(&new, path)?;
    disk.sync_folder(folder_of(path))
}

/// The name that a file has until it is whole.
pub(crate) fn new_name(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
