//! Whether a log is sound, read by all processors at once. What is wrong with one that is not, the walk in order finds out.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::checkpoint::Checkpoint;
use crate::store::TILES;
use crate::store::scan::{SegmentFile, scan_segment};
use crate::store::tiles::{LEVELS, TileFiles, stored_hashes};
use crate::tree::{Frontier, HASH_BYTES, Hash, LeafRun};

/// The tree over one segment's records, in several runs where the checkpoint, or the tree that a former key has committed to, ends
/// inside it.
type Runs = Vec<LeafRun>;

/// The number of records, if every segment is whole, the records give the signed root and those that former
/// keys have committed to (as size and root), and the tiles are those of the records.
pub(super) fn sound(
    dir: &Path,
    segments: &[SegmentFile],
    signed: &Checkpoint,
    commitments: &[(u64, Hash)],
) -> Option<u64> {
    let tiles = TileFiles::for_reading(dir.join(TILES));
    let (next, is_odd) = (AtomicUsize::new(0), AtomicBool::new(false));
    let runs: Mutex<Vec<Option<Runs>>> = Mutex::new(vec![None; segments.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(segments.len()) {
            scope.spawn(|| {
                while !is_odd.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(segment) = segments.get(at) else { break };
                    let found = segment_runs(segment, signed.size, commitments, &tiles);
                    is_odd.fetch_or(found.is_none(), Ordering::Relaxed);
                    if let Some(slot) = runs.lock().ok().as_mut().and_then(|runs| runs.get_mut(at)) {
                        *slot = found;
                    }
                }
            });
        }
    });
    let (mut frontier, mut is_equal) = (Frontier::new(), true);
    let mut signed_root = (signed.size == 0).then(|| frontier.root());
    for run in runs.into_inner().ok()?.into_iter().collect::<Option<Vec<Runs>>>()?.iter().flatten() {
        let is_next = frontier.append_with(run, |level, at, hash| {
            let is_signed = at < stored_hashes(signed.size, usize::from(level));
            let stored = || tiles.read(usize::from(level), at, 1);
            is_equal &= !is_signed || stored().is_ok_and(|stored| stored == hash.0);
        });
        if !is_next || !is_equal {
            return None;
        }
        let is_broken = |(size, root): &(u64, Hash)| *size == frontier.size() && *root != frontier.root();
        if commitments.iter().any(is_broken) {
            return None;
        }
        if frontier.size() == signed.size {
            signed_root = Some(frontier.root());
        }
    }
    (signed_root == Some(signed.root)).then(|| frontier.size())
}

/// The tree over a segment, if the segment is whole and the tiles hold the hashes that its records alone complete.
fn segment_runs(
    segment: &SegmentFile,
    signed_size: u64,
    commitments: &[(u64, Hash)],
    tiles: &TileFiles,
) -> Option<Runs> {
    let is_cut = |next| next == signed_size || commitments.iter().any(|(size, _)| *size == next);
    let mut runs = vec![(LeafRun::new(segment.first), Hashes::default())];
    let scan = scan_segment(segment, |_, leaf| {
        let next = runs.last().map_or(segment.first, |(run, _)| run.next());
        if next > segment.first && is_cut(next) {
            runs.push((LeafRun::new(next), Hashes::default()));
        }
        if let Some((run, hashes)) = runs.last_mut() {
            run.push_with(leaf, |level, at, hash| hashes.add(level, at, hash));
        }
    });
    scan.ok().filter(|scan| scan.fault.is_none() && scan.unfinished_bytes() == 0)?;
    // Hashes of records that nobody signed yet may be missing in a copy: opening makes them.
    let is_signed = |run: &LeafRun| run.next() <= signed_size;
    let is_stored = runs.iter().filter(|(run, _)| is_signed(run)).all(|(_, hashes)| hashes.are_stored(tiles));
    is_stored.then(|| runs.into_iter().map(|(run, _)| run).collect())
}

/// Successive hashes of each tile level, and where the first of them is.
#[derive(Default)]
struct Hashes([(u64, Vec<u8>); LEVELS]);

impl Hashes {
    fn add(&mut self, level: u8, at: u64, hash: Hash) {
        let Some((first, hashes)) = self.0.get_mut(usize::from(level)) else { return };
        if hashes.is_empty() {
            *first = at;
        }
        debug_assert_eq!(at, *first + (hashes.len() / HASH_BYTES) as u64);
        hashes.extend_from_slice(&hash.0);
    }

    fn are_stored(&self, tiles: &TileFiles) -> bool {
        self.0.iter().enumerate().all(|(level, (first, hashes))| {
            let stored = || tiles.read(level, *first, hashes.len() / HASH_BYTES);
            hashes.is_empty() || stored().is_ok_and(|stored| stored == *hashes)
        })
    }
}
