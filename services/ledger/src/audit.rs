//! Checking a published log tile by tile against its signed checkpoint, without trusting whoever serves the tiles.
//!
//! Records are opaque here: any log in the format of C2SP tlog-tiles can be checked. The signed root decides who is right where a record and the
//! hash beside it differ: if the records give the root, the tile was altered, and otherwise the record.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::growing::GrowingTiles;
use crate::tile::{
    EntriesError, TILE_WIDTH, Tile, TileKind, TilePath, TileSource, decode_entries, decode_hashes,
};
use crate::tree::{Hash, empty_root, leaf_hash};

/// The most findings that are listed one by one.
pub const MAX_FINDINGS: usize = 100;

const LEAVES: TileKind = TileKind::Hashes { level: 0 };

/// One thing that is wrong with a published log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TileFinding {
    /// A tile that the tree needs is not there.
    Missing(TilePath),
    /// A tile does not hold as many hashes as its path says.
    WrongLength(TilePath),
    /// An entry bundle cannot be read.
    Entries {
        /// Its path.
        tile: TilePath,
        /// What is wrong with it.
        error: EntriesError,
    },
    /// An entry bundle holds more or fewer records than its path says.
    WrongCount {
        /// Its path.
        tile: TilePath,
        /// How many it holds.
        found: usize,
    },
    /// A record does not have the hash that the tree has for it.
    Record {
        /// Its sequence number.
        seq: u64,
        /// The entry bundle that it is in.
        tile: TilePath,
    },
    /// A hash is not the one that follows from the records.
    Hash {
        /// The tile that it is in.
        tile: TilePath,
        /// Its position in the tile.
        at: usize,
    },
    /// The records do not give the signed root.
    RootMismatch {
        /// How many records were served.
        found: u64,
        /// The size that was signed.
        signed: u64,
    },
    /// The log is smaller than it was.
    RolledBack {
        /// The size that was signed before.
        older: u64,
        /// The size now.
        size: u64,
    },
    /// The records are not those that a former key of the log, or whoever else was given, has committed to.
    FormerTree {
        /// The size that it committed to.
        size: u64,
    },
    /// The log does not continue an older checkpoint.
    Forked {
        /// The size of the older checkpoint.
        older: u64,
    },
}

impl TileFinding {
    /// The record that it is about.
    #[must_use]
    pub fn record(&self) -> Option<u64> {
        if let Self::Record { seq, .. } = self { Some(*seq) } else { None }
    }

    /// The tile that it is about; `None` if it is about the checkpoint.
    #[must_use]
    pub fn tile(&self) -> Option<TilePath> {
        match self {
            Self::Missing(tile)
            | Self::WrongLength(tile)
            | Self::Entries { tile, .. }
            | Self::WrongCount { tile, .. }
            | Self::Record { tile, .. }
            | Self::Hash { tile, .. } => Some(*tile),
            Self::RootMismatch { .. }
            | Self::RolledBack { .. }
            | Self::FormerTree { .. }
            | Self::Forked { .. } => None,
        }
    }
}

impl fmt::Display for TileFinding {
    /// What is wrong, without where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(_) => f.write_str("the tile is missing"),
            Self::WrongLength(tile) => write!(f, "the tile does not hold {} hashes", tile.width()),
            Self::Entries { error, .. } => error.fmt(f),
            Self::WrongCount { tile, found } => {
                write!(f, "it holds {found} records instead of {}", tile.width())
            }
            Self::Record { .. } => f.write_str("the record was altered: its hash is not the one in the tree"),
            Self::Hash { at, .. } => write!(f, "hash {at} does not follow from the records"),
            Self::RootMismatch { found, signed } => write!(
                f,
                "the {found} records that are served do not give the signed root of size {signed}: history was changed"
            ),
            Self::RolledBack { older, size } => write!(
                f,
                "the log shrank: {older} records were signed before, {size} now; it was rolled back"
            ),
            Self::FormerTree { size } => write!(
                f,
                "the first {size} records are not those that a former key of the log, or its witnesses, committed to: history was changed"
            ),
            Self::Forked { older } => write!(
                f,
                "it does not continue the checkpoint of size {older} that was verified before: the log was forked or rewritten"
            ),
        }
    }
}

/// What was checked and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Records whose bytes were read.
    pub records_read: u64,
    /// Records of which only the hash was checked, because their source withholds them.
    pub hashes_only: u64,
    /// What is wrong, at most [`MAX_FINDINGS`].
    pub findings: Vec<TileFinding>,
    /// Findings beyond that number.
    pub findings_omitted: u64,
}

impl AuditReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: TileFinding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_omitted = self.findings_omitted.saturating_add(1);
        }
    }
}

/// Checks everything that a checkpoint covers, and that it continues an older one and the trees that former keys have committed to (as
/// size and root, [`LogKeys::commitments`](crate::LogKeys::commitments)) or witnesses have cosigned. Every record's sequence number, bundle and bytes are
/// shown to `record`, checked or not.
///
/// # Errors
/// When the source cannot be asked.
pub fn audit_tiles<S: TileSource + ?Sized>(
    source: &S,
    checkpoint: &Checkpoint,
    older: Option<&Checkpoint>,
    former: &[(u64, Hash)],
    record: impl FnMut(u64, &TilePath, &[u8]),
) -> Result<AuditReport, S::Error> {
    let mut walk = Walk {
        source,
        record,
        size: checkpoint.size,
        report: AuditReport::default(),
        tree: GrowingTiles::new(),
        differing: Vec::new(),
        older,
        former,
        root_at_older: older.filter(|old| old.size == 0).map(|_| empty_root()),
    };
    for index in 0..checkpoint.size.div_ceil(TILE_WIDTH) {
        walk.chunk(index)?;
    }
    walk.finish(checkpoint)
}

/// One pass over the log.
struct Walk<'a, S: ?Sized, R> {
    source: &'a S,
    record: R,
    size: u64,
    report: AuditReport,
    tree: GrowingTiles,
    /// Records whose hash is not the published one, with the tiles of both and the position in them.
    differing: Vec<(TilePath, TilePath, usize)>,
    older: Option<&'a Checkpoint>,
    former: &'a [(u64, Hash)],
    root_at_older: Option<Hash>,
}

impl<S: TileSource + ?Sized, R: FnMut(u64, &TilePath, &[u8])> Walk<'_, S, R> {
    /// A bundle of records with the tile of their hashes.
    fn chunk(&mut self, index: u64) -> Result<(), S::Error> {
        let path = |kind| TilePath::of_tree(kind, index, self.size);
        let (Some(entries), Some(leaves)) = (path(TileKind::Entries), path(LEAVES)) else {
            return Ok(());
        };
        let published = self.hashes(&leaves)?;
        let leaves = match self.source.tile(&entries)? {
            Tile::Bytes(bytes) => self.records(&entries, &leaves, &bytes, &published),
            Tile::Withheld => {
                self.report.hashes_only += u64::from(entries.width());
                published
            }
            Tile::Missing => {
                self.report.add(TileFinding::Missing(entries));
                published
            }
        };
        leaves.into_iter().try_for_each(|leaf| self.push(leaf))
    }

    /// The leaf hashes of the records of a bundle, each compared with the published one.
    fn records(&mut self, tile: &TilePath, leaves: &TilePath, bytes: &[u8], published: &[Hash]) -> Vec<Hash> {
        let records = match decode_entries(bytes) {
            Ok(records) => records,
            Err(error) => {
                self.report.add(TileFinding::Entries { tile: *tile, error });
                return published.to_vec();
            }
        };
        if records.len() != usize::from(tile.width()) {
            self.report.add(TileFinding::WrongCount { tile: *tile, found: records.len() });
        }
        let mut computed = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let leaf = leaf_hash(record);
            // All are kept: each may yet turn out to be a finding, and which is known at the end.
            if published.get(at).is_some_and(|hash| *hash != leaf) && self.differing.len() <= MAX_FINDINGS {
                self.differing.push((*tile, *leaves, at));
            }
            (self.record)(tile.first() + at as u64, tile, record);
            computed.push(leaf);
        }
        self.report.records_read += records.len() as u64;
        computed
    }

    fn push(&mut self, leaf: Hash) -> Result<(), S::Error> {
        for (tile, hashes) in self.tree.push(leaf) {
            self.compare(tile, &hashes)?;
        }
        if self.older.is_some_and(|old| old.size == self.tree.size()) {
            self.root_at_older = Some(self.tree.root());
        }
        if let Some((size, root)) = self.former.iter().find(|(size, _)| *size == self.tree.size())
            && *root != self.tree.root()
        {
            self.report.add(TileFinding::FormerTree { size: *size });
        }
        Ok(())
    }

    /// Compares a tile with the one that is published. Leaf hashes were compared record by record.
    fn compare(&mut self, tile: TilePath, hashes: &[Hash]) -> Result<(), S::Error> {
        if tile.kind() == LEAVES {
            return Ok(());
        }
        let published = self.hashes(&tile)?;
        let differs = hashes.iter().zip(&published).position(|(computed, published)| computed != published);
        if let Some(at) = differs {
            self.report.add(TileFinding::Hash { tile, at });
        }
        Ok(())
    }

    /// The hashes of a tile; none where it is missing or of another length, which is a finding.
    fn hashes(&mut self, path: &TilePath) -> Result<Vec<Hash>, S::Error> {
        let Tile::Bytes(bytes) = self.source.tile(path)? else {
            self.report.add(TileFinding::Missing(*path));
            return Ok(Vec::new());
        };
        let hashes = decode_hashes(path, &bytes);
        if hashes.is_none() {
            self.report.add(TileFinding::WrongLength(*path));
        }
        Ok(hashes.unwrap_or_default())
    }

    fn finish(mut self, checkpoint: &Checkpoint) -> Result<AuditReport, S::Error> {
        let (found, root) = (self.tree.size(), self.tree.root());
        for (tile, hashes) in std::mem::take(&mut self.tree).unfinished() {
            self.compare(tile, &hashes)?;
        }
        let is_signed = found == checkpoint.size && root == checkpoint.root;
        // What was altered comes before what follows from it.
        let consequences = std::mem::take(&mut self.report.findings);
        for (entries, leaves, at) in std::mem::take(&mut self.differing) {
            self.report.add(if is_signed {
                TileFinding::Hash { tile: leaves, at }
            } else {
                TileFinding::Record { seq: entries.first() + at as u64, tile: entries }
            });
        }
        consequences.into_iter().for_each(|finding| self.report.add(finding));
        if !is_signed {
            self.report.add(TileFinding::RootMismatch { found, signed: checkpoint.size });
        }
        match self.older {
            Some(older) if older.size > checkpoint.size => {
                self.report.add(TileFinding::RolledBack { older: older.size, size: checkpoint.size });
            }
            Some(older) if self.root_at_older != Some(older.root) => {
                self.report.add(TileFinding::Forked { older: older.size });
            }
            Some(_) | None => {}
        }
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::tile::encode_entries;
    use crate::tree::{HASH_BYTES, MemoryTree, NodeHashes};

    /// A log as it was published, to be tampered with.
    struct Published {
        tiles: BTreeMap<String, Vec<u8>>,
        withholds_entries: bool,
        checkpoint: Checkpoint,
    }

    impl TileSource for Published {
        type Error = Infallible;

        fn tile(&self, path: &TilePath) -> Result<Tile, Infallible> {
            if self.withholds_entries && path.kind() == TileKind::Entries {
                return Ok(Tile::Withheld);
            }
            Ok(self.tiles.get(&path.to_string()).cloned().map_or(Tile::Missing, Tile::Bytes))
        }
    }

    /// Records that are no JSON, one of them empty.
    fn records(size: u64) -> Vec<Vec<u8>> {
        (0..size).map(|seq| vec![0xff; (seq % 5) as usize]).collect()
    }

    fn published(records: &[Vec<u8>]) -> Published {
        let mut tree = MemoryTree::new();
        records.iter().for_each(|record| tree.push(leaf_hash(record)));
        let tiles = TilePath::all(tree.size()).map(|path| {
            let (first, width) = (path.first(), usize::from(path.width()));
            let bytes = match path.kind() {
                TileKind::Hashes { level } => {
                    let Ok(hashes) = tree.hashes(level, first, width);
                    hashes.iter().flat_map(|hash| hash.0).collect()
                }
                TileKind::Entries => encode_entries(&records[first as usize..][..width]).unwrap(),
            };
            (path.to_string(), bytes)
        });
        let checkpoint = Checkpoint { origin: "o".to_owned(), size: tree.size(), root: tree.root() };
        Published { tiles: tiles.collect(), withholds_entries: false, checkpoint }
    }

    fn audit(log: &Published, older: Option<&Checkpoint>) -> AuditReport {
        let Ok(report) = audit_tiles(log, &log.checkpoint, older, &[], |_, _, _| ());
        report
    }

    #[test]
    fn a_whole_log_of_any_bytes_is_sound_and_continues_what_was_seen() {
        let records = records(600);
        let log = published(&records);
        for size in [0, 1, 255, 256, 257, 600] {
            let older = published(&records[..size]).checkpoint;
            let report = audit(&log, Some(&older));
            assert_eq!((report.is_sound(), report.records_read), (true, 600), "{report:?}");
        }
    }

    #[test]
    fn every_altered_byte_of_every_tile_is_found() {
        let whole = published(&records(300));
        for (path, bytes) in &whole.tiles {
            for at in (0..bytes.len()).step_by(61) {
                let mut log = published(&records(300));
                log.tiles.get_mut(path).unwrap()[at] ^= 1;
                let report = audit(&log, None);
                assert!(!report.is_sound(), "{path} byte {at}");
                if path.starts_with("tile/0/") {
                    let tile = path.parse().unwrap();
                    assert_eq!(report.findings, [TileFinding::Hash { tile, at: at / HASH_BYTES }]);
                }
            }
        }
    }

    #[test]
    fn an_altered_record_is_named_first_and_where_only_a_hash_was_altered_that_is_said() {
        let mut log = published(&records(300));
        let path: TilePath = "tile/entries/000".parse().unwrap();
        let bundle = log.tiles.get_mut("tile/entries/000").unwrap();
        let empty_record = 2;
        let at = bundle.len() - 1 - empty_record;
        bundle[at] ^= 1;
        let report = audit(&log, None);
        let seq = 254;
        assert_eq!(report.findings.first(), Some(&TileFinding::Record { seq, tile: path }));
        assert_eq!(report.findings.last(), Some(&TileFinding::RootMismatch { found: 300, signed: 300 }));
    }

    #[test]
    fn a_tile_that_is_missing_or_cut_is_named() {
        for (name, missing) in
            [("tile/0/000", true), ("tile/1/000.p/1", false), ("tile/entries/001.p/44", true)]
        {
            let mut log = published(&records(300));
            let tile: TilePath = name.parse().unwrap();
            let expected = if missing {
                log.tiles.remove(name);
                TileFinding::Missing(tile)
            } else {
                log.tiles.get_mut(name).unwrap().pop();
                TileFinding::WrongLength(tile)
            };
            assert!(audit(&log, None).findings.contains(&expected), "{name}");
        }
    }

    #[test]
    fn a_log_that_was_rolled_back_or_forked_is_found() {
        let longer = published(&records(20)).checkpoint;
        let rolled_back = audit(&published(&records(10)), Some(&longer));
        assert_eq!(rolled_back.findings, [TileFinding::RolledBack { older: 20, size: 10 }]);
        let mut other = records(30);
        other[3] = b"other".to_vec();
        assert_eq!(audit(&published(&other), Some(&longer)).findings, [TileFinding::Forked { older: 20 }]);
    }

    #[test]
    fn without_the_right_to_read_entries_the_tree_is_checked_all_the_same() {
        let mut log = published(&records(300));
        log.withholds_entries = true;
        let report = audit(&log, None);
        assert_eq!((report.is_sound(), report.hashes_only, report.records_read), (true, 300, 0));
        log.tiles.get_mut("tile/0/000").unwrap()[0] ^= 1;
        assert!(!audit(&log, None).is_sound());
    }
}
