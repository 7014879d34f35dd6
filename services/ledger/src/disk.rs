//! The few file operations that durability hangs on, behind a trait so that faults can be injected.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file that records are appended to.
pub trait AppendFile: Send {
    /// Writes all bytes at `offset`.
    ///
    /// # Errors
    /// When any part was not written.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// When the system does not confirm it.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// When the system does not confirm it.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

/// Where segment files are opened for appending.
pub trait Disk: Send {
    /// Opens the file for writing, creating it if it is missing (and making its name durable).
    ///
    /// # Errors
    /// When it cannot be opened or created.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let created = !path.exists();
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        if created {
            file.sync_all()?;
            sync_parent(path)?;
        }
        Ok(Box::new(file))
    }
}

impl AppendFile for File {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}

/// Makes the name of a newly created file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
