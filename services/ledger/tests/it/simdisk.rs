//! A disk that forgets: files that are written, and what is left of them after a power cut.
//!
//! The files lie in a real folder as a running system shows them, so that they are read as always. Beside them stands what the
//! medium holds for certain: contents as of the last sync, names as of the last sync of their folder. A power cut leaves of the
//! rest an arbitrary part: each sector of each write for itself, any length that a file had, any of the changes of names.
//!
//! Everything follows from one seed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use writ_ledger::disk::{Disk, DiskFile};

const SECTOR: u64 = 512;

/// Random numbers from a seed (SplitMix64, public domain by Vigna).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What goes wrong, each once in so many operations; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A write finds no room; part of it was written.
    pub full: u64,
    /// A sync fails; what was written since the last one may be lost for good although it can still be read.
    pub sync: u64,
    /// A cut, a rename, a removal or the opening of a file fails.
    pub other: u64,
}

#[derive(Debug)]
struct Medium {
    random: Random,
    faults: Faults,
    /// Operations until the power is cut.
    until_cut: u64,
    is_cut: bool,
    has_failed: bool,
    root: PathBuf,
    /// What a name stands for now.
    names: BTreeMap<PathBuf, usize>,
    /// What it stands for on the medium, and changes since that the medium may or may not hold.
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<Change>,
    files: Vec<Contents>,
}

#[derive(Debug, Clone)]
enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl Change {
    fn folder(&self) -> &Path {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(_, path, _)) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Contents {
    /// What the medium holds for certain.
    durable: Vec<u8>,
    /// What was done since, in order.
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

impl Contents {
    fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            pending.apply(&mut self.durable);
        }
    }

    /// What is found after a power cut.
    fn after_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut lengths = vec![bytes.len() as u64];
        for pending in &self.pending {
            match pending {
                Pending::Write { offset, bytes: written } => {
                    let end = offset + written.len() as u64;
                    let mut at = *offset;
                    while at < end {
                        let until = ((at / SECTOR + 1) * SECTOR).min(end);
                        if random.one_in(2) {
                            let piece = written[(at - offset) as usize..(until - offset) as usize].to_vec();
                            Pending::Write { offset: at, bytes: piece }.apply(&mut bytes);
                        }
                        at = until;
                    }
                    lengths.push(end.max(*lengths.last().unwrap()));
                }
                Pending::Length(length) => {
                    if random.one_in(2) {
                        pending.apply(&mut bytes);
                    }
                    lengths.push(*length);
                }
            }
        }
        let length = lengths[random.below(lengths.len() as u64) as usize];
        bytes.resize(length as usize, 0);
        bytes
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => {
                let end = *offset as usize + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset as usize..end].copy_from_slice(written);
            }
            Self::Length(length) => bytes.resize(*length as usize, 0),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the power was cut")
}

impl Medium {
    fn operation(&mut self) -> io::Result<()> {
        if self.is_cut || self.until_cut == 0 {
            (self.is_cut, self.has_failed) = (true, true);
            return Err(gone());
        }
        self.until_cut -= 1;
        Ok(())
    }

    fn fails(&mut self, one_in: u64) -> bool {
        let fails = one_in > 0 && self.random.one_in(one_in);
        self.has_failed |= fails;
        fails
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

/// A disk in a folder. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<Medium>>);

#[derive(Debug)]
struct SimFile {
    medium: Arc<Mutex<Medium>>,
    number: usize,
    file: File,
}

impl SimDisk {
    /// The disk as it stands in the folder, everything in it durable. The power is cut after so many operations.
    pub fn new(root: &Path, seed: u64, faults: Faults, until_cut: u64) -> Self {
        let (mut names, mut files) = (BTreeMap::new(), Vec::new());
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.insert(path.clone(), files.len());
                    files.push(Contents { durable: std::fs::read(&path).unwrap(), pending: Vec::new() });
                }
            }
        }
        let durable_names = names.clone();
        Self(Arc::new(Mutex::new(Medium {
            random: Random(seed),
            faults,
            until_cut,
            is_cut: false,
            has_failed: false,
            root: root.to_owned(),
            names,
            durable_names,
            changes: Vec::new(),
            files,
        })))
    }

    /// Whether any operation failed so far.
    pub fn has_failed(&self) -> bool {
        self.0.lock().unwrap().has_failed
    }

    /// Cuts the power: the folder is left as the medium is found. Folders themselves are always found.
    pub fn cut(self) {
        let mut medium = self.0.lock().unwrap();
        medium.is_cut = true;
        let mut names = medium.durable_names.clone();
        for change in medium.changes.clone() {
            if medium.random.one_in(2) {
                change.apply(&mut names);
            }
        }
        let mut random = medium.random.clone();
        for path in medium.names.keys() {
            let _ = std::fs::remove_file(path);
        }
        for (path, file) in names {
            std::fs::write(path, medium.files[file].after_cut(&mut random)).unwrap();
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut medium = self.0.lock().unwrap();
        assert!(path.starts_with(&medium.root));
        medium.operation()?;
        let other = medium.faults.other;
        if medium.fails(other) {
            return Err(io::Error::other("the file cannot be opened"));
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let number = match medium.names.get(path) {
            Some(number) => *number,
            None => {
                let number = medium.files.len();
                medium.files.push(Contents::default());
                medium.change(Change::Link(path.to_owned(), number));
                number
            }
        };
        Ok(Box::new(SimFile { medium: self.0.clone(), number, file }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().operation()?;
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut medium = self.0.lock().unwrap();
        medium.operation()?;
        let other = medium.faults.other;
        if medium.fails(other) {
            return Err(io::Error::other("the file cannot be renamed"));
        }
        std::fs::rename(from, to)?;
        let number = medium.names[from];
        medium.change(Change::Rename(from.to_owned(), to.to_owned(), number));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.lock().unwrap();
        medium.operation()?;
        let other = medium.faults.other;
        if medium.fails(other) {
            return Err(io::Error::other("the file cannot be removed"));
        }
        std::fs::remove_file(path)?;
        medium.change(Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut medium = self.0.lock().unwrap();
        medium.operation()?;
        let sync = medium.faults.sync;
        if medium.fails(sync) {
            return Err(io::Error::other("the folder cannot be synced"));
        }
        let (synced, rest) = std::mem::take(&mut medium.changes)
            .into_iter()
            .partition(|change: &Change| change.folder() == folder);
        medium.changes = rest;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| change.apply(&mut medium.durable_names));
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut medium = self.medium.lock().unwrap();
        medium.operation()?;
        let full = medium.faults.full;
        let is_full = !bytes.is_empty() && medium.fails(full);
        let length = if is_full { medium.random.below(bytes.len() as u64) as usize } else { bytes.len() };
        FileExt::write_all_at(&self.file, &bytes[..length], offset)?;
        let written = Pending::Write { offset, bytes: bytes[..length].to_vec() };
        medium.files[self.number].pending.push(written);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut medium = self.medium.lock().unwrap();
        medium.operation()?;
        let sync = medium.faults.sync;
        if medium.fails(sync) {
            // The system gives up the data that it could not write, and forgets that it should; lengths are the journal's.
            let pending = std::mem::take(&mut medium.files[self.number].pending);
            for pending in pending {
                if matches!(pending, Pending::Length(_)) {
                    medium.files[self.number].pending.push(pending);
                } else if medium.random.one_in(2) {
                    pending.apply(&mut medium.files[self.number].durable);
                }
            }
            return Err(io::Error::other("the device does not answer"));
        }
        medium.files[self.number].sync();
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut medium = self.medium.lock().unwrap();
        medium.operation()?;
        let other = medium.faults.other;
        if medium.fails(other) {
            return Err(io::Error::other("the file cannot be cut"));
        }
        if self.file.metadata()?.len() != length {
            self.file.set_len(length)?;
            medium.files[self.number].pending.push(Pending::Length(length));
        }
        Ok(())
    }
}
