//! Reading a log's folder: everything is checked before anything is changed.

use std::io;
use std::path::{Path, PathBuf};

use super::blocks::{Index, SegmentIndex};
use super::damage::{Damage, Problem};
use super::error::OpenError;
use super::scan::{SegmentFile, list_segments, scan_segment};
use super::sealed::SealedIndex;
use super::tiles::{Difference, TileComparison, TileFiles, TileRewrite, cut_tiles};
use super::{CHECKPOINT, SEGMENTS, TILES};
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::disk::Disk;
use crate::note::{MAX_NOTE_BYTES, NoteError};
use crate::rotation::LogKeys;
use crate::tree::{Frontier, Hash, MemoryTree, root_at};

/// A log as it was found.
pub(crate) struct Loaded {
    pub index: Index,
    pub frontier: Frontier,
    pub checkpoint: Option<SignedCheckpoint>,
    /// Bytes of an unfinished last commit.
    pub unfinished_bytes: u64,
    /// The edge of the tree up to which the tiles are those of the records; `None` if they all are.
    pub tiles_differ_after: Option<Frontier>,
    /// Whether they are as far as the checkpoint covers the records. A writer may not have come further yet.
    pub signed_tiles_hold: bool,
    /// The edge of the tree after the sealed segments with which the log begins.
    pub sealed: Frontier,
    /// Sealed segments whose index was damaged, with one that was made anew.
    renewed: Vec<(PathBuf, SealedIndex)>,
    segments: Vec<SegmentFile>,
}

/// Reads and checks a log without changing anything.
///
/// It begins at the edge of the tree that the last sealed segment names, if the signed root and the tiles agree with it, and reads
/// only the segments after it. Whatever is odd is judged by reading everything.
pub(crate) fn load(dir: &Path, keys: &LogKeys) -> Result<Loaded, OpenError> {
    // The checkpoint first: a writer may be adding commits while this reads.
    let checkpoint = read_checkpoint(dir, keys)?;
    let segments = segment_files(dir)?;
    if let Some(edge) = sealed_edge(dir, checkpoint.as_ref(), &segments)
        && let Ok(loaded) = load_after(edge, dir, checkpoint.clone(), segments.clone())
    {
        return Ok(loaded);
    }
    load_after(Frontier::new(), dir, checkpoint, segments)
}

/// The edge of the tree after the sealed segments with which the log begins, where it can be relied on so far: the checkpoint
/// covers it, and the tiles give its root. The tiles were synced before the segment was sealed.
fn sealed_edge(
    dir: &Path,
    checkpoint: Option<&SignedCheckpoint>,
    segments: &[SegmentFile],
) -> Option<Frontier> {
    let (mut next, mut edge) = (0, None);
    for segment in segments {
        let Some(sealed) = segment.sealed.as_ref().filter(|sealed| sealed.first == next) else { break };
        next = sealed.next();
        edge = Some(sealed.frontier()?);
    }
    let edge =
        edge.filter(|edge| checkpoint.is_some_and(|signed| signed.checkpoint().size >= edge.size()))?;
    let stored = root_at(&TileFiles::for_reading(dir.join(TILES)), edge.size()).ok()?;
    (stored == edge.root()).then_some(edge)
}

fn load_after(
    edge: Frontier,
    dir: &Path,
    checkpoint: Option<SignedCheckpoint>,
    segments: Vec<SegmentFile>,
) -> Result<Loaded, OpenError> {
    let signed_size = checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size);
    let mut tree = Check::after(dir, edge.clone(), signed_size);
    let (mut index, mut unfinished_bytes, mut renewed) = (Index::default(), 0, Vec::new());
    let (mut sealed_edge, mut is_all_sealed) = (edge.clone(), true);
    for (position, segment) in segments.iter().enumerate() {
        let next = index.size();
        if segment.first != next {
            let problem = Problem::NotContiguous { expected: next, found: segment.first };
            return Err(damaged(segment, next, 0, problem));
        }
        if let Some(sealed) = segment.sealed.as_ref().filter(|sealed| sealed.next() <= edge.size()) {
            index.segments.push(SegmentIndex::sealed(segment.path.clone(), sealed));
            continue;
        }
        let scan = scan_segment(segment, |offset, leaf| tree.push(segment, offset, leaf))
            .map_err(OpenError::io(&segment.path))?;
        let last = position + 1 == segments.len();
        let size = scan.index.next();
        match &scan.fault {
            Some(fault) if !(last && fault.in_last_commit && signed_size <= size) => {
                let problem = fault.problem.clone();
                return Err(damaged(segment, segment.first + fault.index, fault.offset, problem));
            }
            None if !last && scan.unfinished_bytes() > 0 => {
                return Err(damaged(segment, size, scan.index.end(), Problem::Unfinished));
            }
            Some(_) | None => unfinished_bytes = scan.unfinished_bytes(),
        }
        is_all_sealed &= segment.sealed.is_some();
        if is_all_sealed {
            sealed_edge.clone_from(&tree.frontier);
        }
        if let Some(sealed) = segment.sealed.as_ref().filter(|sealed| sealed.peaks.is_none()) {
            let peaks = Some(tree.frontier.peaks().to_vec());
            renewed.push((segment.path.clone(), SealedIndex { peaks, ..sealed.clone() }));
        }
        index.segments.push(scan.index);
    }
    if let Some(signed) = &checkpoint {
        tree.check_signed(signed, &index)?;
    }
    let tiles_differ_after = (!tree.tiles.equal()).then_some(edge);
    let (frontier, sealed, signed_tiles_hold) = (tree.frontier, sealed_edge, tree.signed_tiles_hold);
    Ok(Loaded {
        index,
        frontier,
        checkpoint,
        unfinished_bytes,
        tiles_differ_after,
        signed_tiles_hold,
        sealed,
        renewed,
        segments,
    })
}

impl Loaded {
    /// Writes what can be derived and is missing, damaged or too much: tiles, and indexes of sealed segments.
    pub fn mend(&self, dir: &Path, disk: &dyn Disk) -> io::Result<()> {
        let tiles = dir.join(TILES);
        disk.create_folder(&tiles)?;
        if let Some(edge) = &self.tiles_differ_after {
            self.rewrite_tiles(dir, disk, edge)?;
        }
        cut_tiles(disk, &tiles, self.frontier.size())?;
        self.renewed.iter().try_for_each(|(path, index)| index.renew(disk, path))
    }

    /// Writes the tiles anew from the edge of the tree on up to which they are right.
    fn rewrite_tiles(&self, dir: &Path, disk: &dyn Disk, edge: &Frontier) -> io::Result<()> {
        let mut tiles = TileRewrite::after(&dir.join(TILES), disk, edge.size());
        let (mut frontier, mut result) = (edge.clone(), Ok(()));
        self.leaves_after(edge.size(), |leaf| {
            frontier.push_with(leaf, |level, hash| {
                if result.is_ok() {
                    result = tiles.next(level, &hash);
                }
            });
        })?;
        result?;
        tiles.finish()
    }

    /// Builds the tree in memory, for a folder whose tiles are missing and must not be written.
    pub fn tree_in_memory(&self, size: u64) -> io::Result<MemoryTree> {
        let mut tree = MemoryTree::new();
        self.leaves_after(0, |leaf| {
            if tree.size() < size {
                tree.push(leaf);
            }
        })?;
        Ok(tree)
    }

    fn leaves_after(&self, size: u64, mut each: impl FnMut(Hash)) -> io::Result<()> {
        let is_after = |segment: &&SegmentFile| segment.first >= size;
        for segment in self.segments.iter().filter(is_after) {
            scan_segment(segment, |_, leaf| each(leaf))?;
        }
        Ok(())
    }
}

/// Reads the checkpoint file, if there is one with content.
pub(crate) fn read_checkpoint(dir: &Path, keys: &LogKeys) -> Result<Option<SignedCheckpoint>, OpenError> {
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
    // Its content is not synced for itself: after a power cut, sectors of it may be missing. No note holds a NUL, and each ends
    // with a line break.
    if bytes.contains(&0) || !bytes.ends_with(b"\n") {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    match keys.open(&text) {
        // Only its beginning was left.
        Err(CheckpointError::Note(NoteError::NoSignatures)) => Ok(None),
        signed => signed.map(Some).map_err(|source| OpenError::Checkpoint { path, source }),
    }
}

/// The segments of a log's folder, in order.
pub(crate) fn segment_files(dir: &Path) -> Result<Vec<SegmentFile>, OpenError> {
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
    signed_tiles_hold: bool,
    altered: Option<Damage>,
}

impl Check {
    fn after(dir: &Path, edge: Frontier, signed_size: u64) -> Self {
        let tiles = TileComparison::after(&dir.join(TILES), edge.size());
        let signed_root = (signed_size == edge.size()).then(|| edge.root());
        let signed_tiles_hold = signed_root.is_some();
        Self { frontier: edge, tiles, signed_size, signed_root, signed_tiles_hold, altered: None }
    }

    fn push(&mut self, segment: &SegmentFile, offset: u64, leaf: Hash) {
        let (seq, tiles) = (self.frontier.size(), &mut self.tiles);
        self.frontier.push_with(leaf, |level, hash| {
            tiles.next(level, &hash);
        });
        let differs = self.tiles.first_difference.first() == Some(&Some(Difference::Other(seq)));
        if differs && self.altered.is_none() {
            let problem = Problem::Altered;
            self.altered = Some(Damage { segment: segment.name(), seq, offset, problem });
        }
        if self.frontier.size() == self.signed_size {
            self.signed_root = Some(self.frontier.root());
            self.signed_tiles_hold = self.tiles.equal();
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
                    .map(|last| last.path.file_name().unwrap_or_default().to_string_lossy().into_owned())
                    .unwrap_or_default(),
                end: index.segments.last().map_or(0, SegmentIndex::end),
            }),
        }
    }
}

fn damaged(segment: &SegmentFile, seq: u64, offset: u64, problem: Problem) -> OpenError {
    OpenError::Damaged(Damage { segment: segment.name(), seq, offset, problem })
}
