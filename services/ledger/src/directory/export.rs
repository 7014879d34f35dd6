//! Writing a log into a static directory, and continuing one that was written before.
//!
//! An export reads the new records only. The tree's right edge comes from the directory, where the checkpoint of the export before vouches for
//! it; the tree that the new records make of it must have the root that is signed now. So an export is a check as well, and a directory of
//! another history cannot be continued.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::read::{FileError, TilesDirectory};
use super::{CHECKPOINT, VKEY};
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::growing::GrowingTiles;
use crate::key::VerifierKey;
use crate::rotation::{LogKeys, ROTATIONS, Rotation, write_rotations};
use crate::tile::{TILE_WIDTH, Tile, TileKind, TileNodes, TilePath, TileSource, decode_entries};
use crate::tree::{Hash, leaf_hash, root_at};

/// What a first export that was cut off may have left.
const UNFINISHED: [&str; 6] = [VKEY, "log.vkey.new", ROTATIONS, "rotations.new", "tile", "checkpoint.new"];

/// What an export did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// The size of the log that the directory held before.
    pub before: u64,
    /// The size that it holds now.
    pub size: u64,
    /// Tiles that were written.
    pub tiles: u64,
}

/// Why a log was not exported. The directory shows what it showed before.
#[derive(Debug, thiserror::Error)]
pub enum ExportError<E> {
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Source(E),
    /// A file of the directory cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another export writes to the directory.
    #[error("{0} is being written by another export: wait until it is done")]
    Busy(PathBuf),
    /// The directory holds something else.
    #[error("{0} is not empty and holds no exported log: name an empty or a new directory")]
    NotAnExport(PathBuf),
    /// The directory holds another log.
    #[error("{dir} holds the log of the key {found}, not of {wanted}: name another directory")]
    OtherLog {
        /// The directory.
        dir: PathBuf,
        /// The key in it.
        found: String,
        /// The key of the log that was to be exported.
        wanted: String,
    },
    /// The directory's own checkpoint does not hold.
    #[error("{dir} was altered: {source}; remove it and export anew")]
    Altered {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The directory's tiles are not those of its checkpoint.
    #[error(
        "{dir} was altered: its tiles do not give the root of its own checkpoint of size {size}; remove it and export anew"
    )]
    TilesAltered {
        /// The directory.
        dir: PathBuf,
        /// The size that the checkpoint covers.
        size: u64,
    },
    /// The log is smaller than the directory.
    #[error(
        "{dir} holds {exported} records of this log, but the log has only {size}: the log was rolled back; keep the directory as \
         evidence"
    )]
    RolledBack {
        /// The directory.
        dir: PathBuf,
        /// The records in it.
        exported: u64,
        /// The records of the log.
        size: u64,
    },
    /// The log does not continue the directory.
    #[error(
        "the log does not continue the {exported} records that {dir} holds: it was forked or rewritten; keep the directory as \
         evidence"
    )]
    Diverged {
        /// The directory.
        dir: PathBuf,
        /// The records in it.
        exported: u64,
    },
    /// The log does not give its own signed root.
    #[error("the log's records do not give its signed root of size {0}: run `writ log verify`")]
    RootMismatch(u64),
    /// A bundle of records cannot be had.
    #[error("{tile}: {problem}")]
    Entries {
        /// Its path.
        tile: TilePath,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Writes the log that `signed` covers into a directory, which is made, or continued if it holds an earlier state of the same log. The changes
/// of the log's key so far go with it, so that whoever trusts a former key can check it.
///
/// Tiles are written and synced first and the checkpoint is replaced at once in the end, so that the directory can be served meanwhile.
///
/// # Errors
/// When the directory holds something else, or the log does not continue it, or cannot be read. The directory then shows what it showed before.
pub fn export<S: TileSource>(
    source: &S,
    signed: &SignedCheckpoint,
    rotations: &[Rotation],
    dir: &Path,
) -> Result<Exported, ExportError<S::Error>> {
    fs::create_dir_all(dir).map_err(file_error(dir))?;
    let _lock = lock(dir)?;
    let (before, key) = begin(dir, signed.key(), rotations)?.unzip();
    let Checkpoint { size, root, .. } = *signed.checkpoint();
    let exported = before.as_ref().map_or(0, |before| before.size);
    match &before {
        Some(before) if before.size > size => {
            return Err(ExportError::RolledBack { dir: dir.to_owned(), exported, size });
        }
        Some(before) if before.size == size && before.root != root => {
            return Err(ExportError::Diverged { dir: dir.to_owned(), exported });
        }
        Some(_) | None => {}
    }
    let mut out = Directory { dir, folders: BTreeSet::new(), tiles: 0 };
    if !rotations.is_empty() {
        out.file(ROTATIONS, write_rotations(rotations).as_bytes())?;
    }
    let vkey = format!("{}\n", signed.key());
    if key.is_none() {
        out.file(VKEY, vkey.as_bytes())?;
    }
    if exported < size {
        let mut growth = Growth::from(dir, before)?;
        for index in growth.tree.size() / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
            growth.add(source, index, size, &mut out)?;
        }
        if growth.tree.root() != root {
            return Err(match exported {
                0 => ExportError::RootMismatch(size),
                _ => ExportError::Diverged { dir: dir.to_owned(), exported },
            });
        }
        growth.tree.unfinished().try_for_each(|(tile, hashes)| out.hashes(&tile, &hashes))?;
    }
    out.publish(signed.text())?;
    if key.is_some_and(|key| key != *signed.key()) {
        // After the checkpoint: the changes lead from the former key to the new one, but not back.
        out.file(VKEY, vkey.as_bytes())?;
        sync(dir).map_err(file_error(dir))?;
    }
    remove_outgrown(dir, exported, size)?;
    Ok(Exported { before: exported, size, tiles: out.tiles })
}

/// Looks at what the directory holds: nothing, or this log at an earlier size, under its key or a former one.
fn begin<E>(
    dir: &Path,
    key: &VerifierKey,
    rotations: &[Rotation],
) -> Result<Option<(Checkpoint, VerifierKey)>, ExportError<E>> {
    let Some(held) = TilesDirectory::at(dir) else {
        // A first export that was cut off has left its key and tiles.
        let mut names = fs::read_dir(dir).map_err(file_error(dir))?;
        let is_other = |name: &OsStr| !UNFINISHED.iter().any(|ours| name == *ours);
        let holds_other = names.any(|entry| entry.is_ok_and(|entry| is_other(&entry.file_name())));
        return if holds_other { Err(ExportError::NotAnExport(dir.to_owned())) } else { Ok(None) };
    };
    let (found, wanted) = (held.vkey()?.unwrap_or_default().trim_end().to_owned(), key.to_string());
    let keys = found.parse().ok().and_then(|found| LogKeys::trace(found, rotations).ok());
    let Some(keys) = keys.filter(|keys| keys.holds(key)) else {
        return Err(ExportError::OtherLog { dir: dir.to_owned(), found, wanted });
    };
    match keys.open(&held.checkpoint()?) {
        Ok(signed) => Ok(Some((signed.checkpoint().clone(), keys.trusted().clone()))),
        Err(source) => Err(ExportError::Altered { dir: dir.to_owned(), source }),
    }
}

/// The tree as it grows beyond what the directory held.
struct Growth<'a> {
    dir: &'a Path,
    before: Option<Checkpoint>,
    tree: GrowingTiles,
}

impl<'a> Growth<'a> {
    /// The tree of the directory, cut to whole bundles of records.
    fn from<E>(dir: &'a Path, before: Option<Checkpoint>) -> Result<Self, ExportError<E>> {
        let mut growth = Growth { dir, before, tree: GrowingTiles::new() };
        if let (Some(held), Some(before)) = (TilesDirectory::at(dir), &growth.before) {
            let altered = || ExportError::TilesAltered { dir: dir.to_owned(), size: before.size };
            let nodes = TileNodes::new(&held, before.size);
            if root_at(&nodes, before.size).map_err(|_| altered())? != before.root {
                return Err(altered());
            }
            let whole = before.size - before.size % TILE_WIDTH;
            growth.tree = GrowingTiles::load(&nodes, whole).map_err(|_| altered())?;
        }
        Ok(growth)
    }

    /// Takes one bundle of records, and writes it and the tiles that it fills.
    fn add<S: TileSource>(
        &mut self,
        source: &S,
        index: u64,
        size: u64,
        out: &mut Directory<'_>,
    ) -> Result<(), ExportError<S::Error>> {
        let Some(tile) = TilePath::of_tree(TileKind::Entries, index, size) else { return Ok(()) };
        let refuse = |problem| ExportError::Entries { tile, problem };
        let bundle = match source.tile(&tile).map_err(ExportError::Source)? {
            Tile::Bytes(bundle) => bundle,
            Tile::Missing => return Err(refuse("the log does not have it")),
            Tile::Withheld => return Err(refuse("reading records needs a sign-in with the role auditor")),
        };
        let records = decode_entries(&bundle).map_err(|_| refuse("it is not a bundle of records"))?;
        if records.len() != usize::from(tile.width()) {
            return Err(refuse("it does not hold as many records as its path says"));
        }
        for record in records {
            for (tile, hashes) in self.tree.push(leaf_hash(record)) {
                out.hashes(&tile, &hashes)?;
            }
            self.check_continues()?;
        }
        out.tile(&tile, &bundle)
    }

    /// At the size that the directory had, the new records have to give the root that it had.
    fn check_continues<E>(&self) -> Result<(), ExportError<E>> {
        match &self.before {
            Some(before) if before.size == self.tree.size() && before.root != self.tree.root() => {
                Err(ExportError::Diverged { dir: self.dir.to_owned(), exported: before.size })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The directory as it is written: every file whole or not there, and durable before the checkpoint that needs it.
struct Directory<'a> {
    dir: &'a Path,
    /// Folders that got new names, to be synced.
    folders: BTreeSet<PathBuf>,
    tiles: u64,
}

impl Directory<'_> {
    fn hashes<E>(&mut self, tile: &TilePath, hashes: &[Hash]) -> Result<(), ExportError<E>> {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        self.tile(tile, &bytes)
    }

    fn tile<E>(&mut self, tile: &TilePath, bytes: &[u8]) -> Result<(), ExportError<E>> {
        self.tiles += 1;
        self.file(&tile.to_string(), bytes)
    }

    /// Writes a file beside its place, syncs it, and puts it there at once.
    fn file<E>(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError<E>> {
        let path = self.dir.join(name);
        let folder = path.parent().unwrap_or(self.dir);
        if self.folders.insert(folder.to_owned()) {
            fs::create_dir_all(folder).map_err(file_error(folder))?;
        }
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        write().map_err(file_error(&beside))?;
        fs::rename(&beside, &path).map_err(file_error(&path))
    }

    /// Shows the checkpoint, once everything that it covers is durable.
    fn publish<E>(&mut self, checkpoint: &str) -> Result<(), ExportError<E>> {
        let mut folders = std::mem::take(&mut self.folders);
        for folder in folders.clone() {
            let above = folder.ancestors().take_while(|above| above.starts_with(self.dir));
            folders.extend(above.map(Path::to_owned));
        }
        folders.iter().try_for_each(|folder| sync(folder).map_err(file_error(folder)))?;
        self.file(CHECKPOINT, checkpoint.as_bytes())?;
        sync(self.dir).map_err(file_error(self.dir))
    }
}

/// Removes the partial tiles of tiles that are full now, as the specification allows once the full ones are there.
fn remove_outgrown<E>(dir: &Path, exported: u64, size: u64) -> Result<(), ExportError<E>> {
    let kinds = (0..8).map(|level| TileKind::Hashes { level }).chain([TileKind::Entries]);
    for kind in kinds {
        let count = match kind {
            TileKind::Hashes { level } => exported >> (8 * u32::from(level)),
            TileKind::Entries => exported,
        };
        let tile = TilePath::of_tree(kind, count / TILE_WIDTH, size).filter(|tile| tile.full() == *tile);
        let Some(tile) = tile else { continue };
        let partial = dir.join(format!("{tile}.p"));
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&partial)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn file_error<E>(path: &Path) -> impl Fn(io::Error) -> ExportError<E> {
    move |source| FileError { path: path.to_owned(), source }.into()
}

/// Keeps a second export out for as long as the returned file is open.
fn lock<E>(dir: &Path) -> Result<File, ExportError<E>> {
    let folder = File::open(dir).map_err(file_error(dir))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(ExportError::Busy(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(file_error(dir)(source)),
    }
}
