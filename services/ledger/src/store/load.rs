//! Reading a log's folder: everything is checked before anything is changed.

use std::io;
use std::path::{Path, PathBuf};

use super::log::AppendError;
use super::scan::{Damage, Problem, SegmentName, list_segments, scan_segment};
use super::segments::{Index, SegmentIndex};
use super::tiles::{Difference, TileComparison, TileRewrite};
use super::{CHECKPOINT, SEGMENTS, StoreError, TILES};
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::key::{SignError, VerifierKey};
use crate::note::MAX_NOTE_BYTES;
use crate::tree::{Frontier, Hash, MemoryTree};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log in the folder.
    #[error("{0} holds no log (no folder \"segments\"): name another folder, or make a new log there")]
    NoLog(PathBuf),
    /// There is one already.
    #[error("{0} holds a log already: open it, or make the new one elsewhere")]
    Exists(PathBuf),
    /// Another process writes to it.
    #[error("{0} is open for writing elsewhere: only one process may write to a log; stop the other one")]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint file does not hold.
    #[error("{path}: {source}; restore the file from a copy of this log, or give the key that signed it")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A change of the log's key does not hold.
    #[error("{path}: {source}; restore the file from a copy of this log")]
    Rotation {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::rotation::RotationError,
    },
    /// Records before the end are damaged.
    #[error(
        "{0}; records that were acknowledged are lost here: restore this segment from a copy, then open again"
    )]
    Damaged(Damage),
    /// Records that the checkpoint covers are not there.
    #[error(
        "the signed checkpoint covers {signed} records, but the segments hold {found} (the last is {segment}, whole \
         up to byte {end}): restore the missing segments from a copy, then open again"
    )]
    Truncated {
        /// The size that was signed.
        signed: u64,
        /// The records that are there.
        found: u64,
        /// The last segment.
        segment: String,
        /// Where its last whole commit ends.
        end: u64,
    },
    /// The records are not those that the checkpoint covers.
    #[error(
        "the records do not give the root of the signed checkpoint of size {signed}: history was changed{}; restore \
         the segments from a copy, then open again",
        .first.as_ref().map(|damage| format!(" ({damage})")).unwrap_or_default()
    )]
    HistoryChanged {
        /// The size that was signed.
        signed: u64,
        /// The first record whose hash is not the one in the tiles, where that can be told.
        first: Option<Damage>,
    },
    /// There is no checkpoint, and it cannot be made.
    #[error("{0}: there is no checkpoint of these records; open the log for writing once to make one")]
    Unsigned(PathBuf),
    /// The checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree cannot be brought up to what the store holds.
    #[error("the log cannot be taken up: {0}")]
    CatchUp(#[source] Box<AppendError>),
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// A log as it was found.
pub(crate) struct Loaded {
    pub index: Index,
    pub frontier: Frontier,
    pub checkpoint: Option<SignedCheckpoint>,
    /// Bytes of an unfinished last commit.
    pub unfinished_bytes: u64,
    pub tiles_equal: bool,
}

/// Reads and checks a log without changing anything.
pub(crate) fn load(dir: &Path, key: &VerifierKey) -> Result<Loaded, OpenError> {
    // The checkpoint first: a writer may be adding commits while this reads.
    let checkpoint = read_checkpoint(dir, key)?;
    let signed_size = checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size);
    let names = segment_names(dir)?;
    let mut tree = Check {
        frontier: Frontier::new(),
        tiles: TileComparison::new(&dir.join(TILES)),
        signed_size,
        signed_root: None,
        altered: None,
    };
    tree.signed_root = (signed_size == 0).then(|| tree.frontier.root());
    let (mut index, mut unfinished_bytes) = (Index::default(), 0);
    for (position, name) in names.iter().enumerate() {
        let next = index.size();
        if name.first != next {
            let problem = Problem::NotContiguous { expected: next, found: name.first };
            return Err(damaged(name, next, 0, problem));
        }
        let scan = scan_segment(&name.path, |offset, leaf| tree.push(name, offset, leaf))
            .map_err(OpenError::io(&name.path))?;
        let last = position + 1 == names.len();
        let size = name.first + scan.starts.len() as u64;
        match scan.fault {
            Some(fault) if !(last && fault.in_last_commit && signed_size <= size) => {
                return Err(damaged(name, name.first + fault.index, fault.offset, fault.problem));
            }
            None if !last && scan.end != scan.length => {
                return Err(damaged(name, size, scan.end, Problem::Unfinished));
            }
            Some(_) | None => unfinished_bytes = scan.length - scan.end,
        }
        let (first, path) = (name.first, name.path.clone());
        index.segments.push(SegmentIndex { first, path, starts: scan.starts, end: scan.end });
    }
    if let Some(signed) = &checkpoint {
        tree.check_signed(signed, &index)?;
    }
    let tiles_equal = tree.tiles.equal();
    Ok(Loaded { index, frontier: tree.frontier, checkpoint, unfinished_bytes, tiles_equal })
}

/// Writes the tile files anew from the segments.
pub(crate) fn rewrite_tiles(dir: &Path, index: &Index) -> io::Result<()> {
    let mut tiles = TileRewrite::new(&dir.join(TILES));
    let (mut frontier, mut result) = (Frontier::new(), Ok(()));
    for segment in &index.segments {
        scan_segment(&segment.path, |_, leaf| {
            frontier.push_with(leaf, |level, hash| {
                if result.is_ok() {
                    result = tiles.next(level, &hash);
                }
            });
        })?;
    }
    result?;
    tiles.finish()
}

/// Builds the tree in memory, for a folder whose tiles are missing and must not be written.
pub(crate) fn tree_in_memory(index: &Index, size: u64) -> io::Result<MemoryTree> {
    let mut tree = MemoryTree::new();
    for segment in &index.segments {
        scan_segment(&segment.path, |_, leaf| {
            if tree.size() < size {
                tree.push(leaf);
            }
        })?;
    }
    Ok(tree)
}

/// Reads the checkpoint file, if there is one with content.
pub(crate) fn read_checkpoint(dir: &Path, key: &VerifierKey) -> Result<Option<SignedCheckpoint>, OpenError> {
    let path = dir.join(CHECKPOINT);
    let bytes = match std::fs::File::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, MAX_NOTE_BYTES as u64 + 1), &mut bytes)
                .map_err(OpenError::io(&path))?;
            bytes
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(&path)(error)),
    };
    // Its content is not synced for itself: some file systems leave an empty file after a power cut.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    let signed = SignedCheckpoint::open(&text, key);
    signed.map(Some).map_err(|source| OpenError::Checkpoint { path, source })
}

pub(crate) fn segment_names(dir: &Path) -> Result<Vec<SegmentName>, OpenError> {
    let folder = dir.join(SEGMENTS);
    if !folder.is_dir() {
        return Err(OpenError::NoLog(dir.to_owned()));
    }
    list_segments(&folder).map_err(OpenError::io(&folder))
}

/// The tree as it grows while the segments are read, beside what is signed and what the tiles say.
struct Check {
    frontier: Frontier,
    tiles: TileComparison,
    signed_size: u64,
    signed_root: Option<Hash>,
    altered: Option<Damage>,
}

impl Check {
    fn push(&mut self, name: &SegmentName, offset: u64, leaf: Hash) {
        let (seq, tiles) = (self.frontier.size(), &mut self.tiles);
        self.frontier.push_with(leaf, |level, hash| {
            tiles.next(level, &hash);
        });
        let differs = self.tiles.first_difference.first() == Some(&Some(Difference::Other(seq)));
        if differs && self.altered.is_none() {
            let problem = Problem::Altered;
            self.altered = Some(Damage { segment: name.name(), seq, offset, problem });
        }
        if self.frontier.size() == self.signed_size {
            self.signed_root = Some(self.frontier.root());
        }
    }

    fn check_signed(&self, signed: &SignedCheckpoint, index: &Index) -> Result<(), OpenError> {
        match self.signed_root {
            Some(root) if root == signed.checkpoint().root => Ok(()),
            Some(_) => {
                Err(OpenError::HistoryChanged { signed: self.signed_size, first: self.altered.clone() })
            }
            None => Err(OpenError::Truncated {
                signed: self.signed_size,
                found: self.frontier.size(),
                segment: index
                    .segments
                    .last()
                    .map(|last| super::scan::file_name(last.first))
                    .unwrap_or_default(),
                end: index.segments.last().map_or(0, |last| last.end),
            }),
        }
    }
}

fn damaged(name: &SegmentName, seq: u64, offset: u64, problem: Problem) -> OpenError {
    OpenError::Damaged(Damage { segment: name.name(), seq, offset, problem })
}
