//! A growing tree that hands its tiles over as they fill.

use crate::tile::{TILE_WIDTH, TileKind, TilePath};
use crate::tree::{Frontier, Hash, NodeHashes};

/// Tile levels of a tree of fewer than 2^64 leaves.
const LEVELS: u8 = 8;

/// The right edge of a tree, with the tiles that are not full yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct GrowingTiles {
    frontier: Frontier,
    /// By level.
    rows: Vec<Row>,
}

/// The unfinished tile of one level.
#[derive(Debug, Clone, Default)]
struct Row {
    index: u64,
    hashes: Vec<Hash>,
}

impl GrowingTiles {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree over the first `size` leaves, from its stored hashes.
    pub fn load<N: NodeHashes + ?Sized>(nodes: &N, size: u64) -> Result<Self, N::Error> {
        let frontier = Frontier::at(nodes, size)?;
        let row = |level| {
            let count = size >> (8 * u32::from(level));
            let within = count % TILE_WIDTH;
            let hashes = match within {
                0 => Vec::new(),
                _ => nodes.hashes(level, count - within, within as usize)?,
            };
            Ok(Row { index: count / TILE_WIDTH, hashes })
        };
        Ok(Self { frontier, rows: (0..LEVELS).map(row).collect::<Result<_, _>>()? })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Appends a leaf, and returns the tiles that this fills.
    pub fn push(&mut self, leaf: Hash) -> Vec<(TilePath, Vec<Hash>)> {
        let (rows, mut full) = (&mut self.rows, Vec::new());
        self.frontier.push_with(leaf, |level, hash| {
            let at = usize::from(level);
            if rows.len() <= at {
                rows.resize_with(at + 1, Row::default);
            }
            let Some(row) = rows.get_mut(at) else { return };
            row.hashes.push(hash);
            if row.hashes.len() as u64 == TILE_WIDTH {
                let next = Row { index: row.index + 1, hashes: Vec::new() };
                full.extend(std::mem::replace(row, next).tile(level));
            }
        });
        full
    }

    /// The tiles that are not full.
    pub fn unfinished(self) -> impl Iterator<Item = (TilePath, Vec<Hash>)> {
        (0..).zip(self.rows).filter_map(|(level, row)| row.tile(level))
    }
}

impl Row {
    /// The tile with its path; `None` if it would be empty.
    fn tile(self, level: u8) -> Option<(TilePath, Vec<Hash>)> {
        let width = u16::try_from(self.hashes.len()).ok()?;
        Some((TilePath::new(TileKind::Hashes { level }, self.index, width)?, self.hashes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tree::{MemoryTree, leaf_hash};

    #[test]
    fn a_tree_hands_over_exactly_its_tiles_wherever_it_goes_on_from() {
        let leaf = |n: u64| leaf_hash(&n.to_be_bytes());
        for (from, to) in [(0, 700), (1, 700), (255, 700), (256, 700), (600, 700), (65_900, 66_100)] {
            let mut tree = MemoryTree::new();
            (0..from).for_each(|n| tree.push(leaf(n)));
            let Ok(mut growing) = GrowingTiles::load(&tree, from);
            let mut tiles = Vec::new();
            for n in from..to {
                tree.push(leaf(n));
                tiles.extend(growing.push(leaf(n)));
            }
            assert_eq!((growing.size(), growing.root()), (tree.size(), tree.root()));
            tiles.extend(growing.unfinished());
            for (path, hashes) in &tiles {
                let TileKind::Hashes { level } = path.kind() else { panic!("{path} has no hashes") };
                let Ok(expected) = tree.hashes(level, path.first(), hashes.len());
                assert_eq!(hashes, &expected, "{path}");
            }
            let handed: BTreeSet<String> = tiles.iter().map(|(path, _)| path.to_string()).collect();
            let before: Vec<TilePath> = TilePath::all(from).collect();
            for path in TilePath::all(to).filter(|path| path.kind() != TileKind::Entries) {
                assert!(
                    before.contains(&path) || handed.contains(&path.to_string()),
                    "{from} to {to}: {path}"
                );
            }
        }
    }
}
