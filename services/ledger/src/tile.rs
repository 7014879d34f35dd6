//! Tiles (C2SP tlog-tiles): their paths, and entry bundles.

use std::fmt;
use std::str::FromStr;

use crate::checkpoint::parse_decimal;
use crate::tree::{HASH_BYTES, Hash, NodeHashes};

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u64 = 256;

/// The most bytes that a record may have: an entry bundle gives its length in 16 bits.
pub const MAX_RECORD_BYTES: usize = u16::MAX as usize;

/// Tile levels that a tree of fewer than 2^64 leaves can have are 0 to 7; the path format allows up to 63.
const MAX_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TileKind {
    /// Tree hashes of this tile level.
    Hashes {
        /// 0 for leaf hashes; each level up stands for eight tree levels.
        level: u8,
    },
    /// The records themselves.
    Entries,
}

/// The path of one tile: `tile/<level>/<index>[.p/<width>]` or `tile/entries/<index>[.p/<width>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// A path that is not a tile's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a tile path: expected tile/<level or \"entries\">/<index>[.p/<width>], for example tile/0/x001/067.p/5"
)]
pub struct TilePathError;

impl TilePath {
    /// The tile with the first `width` (1 to 256) hashes or entries of tile `index`.
    #[must_use]
    pub fn new(kind: TileKind, index: u64, width: u16) -> Option<Self> {
        let level_fits = match kind {
            TileKind::Hashes { level } => level <= MAX_LEVEL,
            TileKind::Entries => true,
        };
        // Beyond this, positions inside the tile would not fit 64 bits.
        let index_fits = index < u64::MAX / TILE_WIDTH;
        let width_fits = (1..=TILE_WIDTH).contains(&u64::from(width));
        (level_fits && index_fits && width_fits).then_some(Self { kind, index, width })
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its position in its level.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds; 256 when full.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// The position in its level of its first hash or entry.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.index * TILE_WIDTH
    }

    /// The path of the full tile that this one is the beginning of; itself if it is full.
    #[must_use]
    pub fn full(&self) -> Self {
        Self { width: TILE_WIDTH as u16, ..*self }
    }

    /// The tile `index` of the tree of `size` leaves, as wide as that tree has it; `None` if it has none.
    #[must_use]
    pub fn of_tree(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let count = match kind {
            TileKind::Hashes { level } => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
            TileKind::Entries => size,
        };
        let width = count.checked_sub(index.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        Self::new(kind, index, u16::try_from(width).ok()?)
    }

    /// The tiles that publish the tree of `size` leaves: hash tiles of every level, then entry bundles.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        let kinds = (0..8_u8).map(|level| TileKind::Hashes { level }).chain([TileKind::Entries]);
        kinds.flat_map(move |kind| (0..).map_while(move |index| Self::of_tree(kind, index, size)))
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let (mut rest, mut elements) = (self.index / 1000, vec![format!("{:03}", self.index % 1000)]);
        while rest > 0 {
            elements.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        elements.reverse();
        f.write_str(&elements.join("/"))?;
        if u64::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for TilePath {
    type Err = TilePathError;

    /// Reads a path, with or without a leading slash, in its one canonical form.
    fn from_str(path: &str) -> Result<Self, TilePathError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        parse(path).filter(|tile| tile.to_string() == path).ok_or(TilePathError)
    }
}

fn parse(path: &str) -> Option<TilePath> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes { level: u8::try_from(parse_decimal(level)?).ok()? },
    };
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (
            number,
            parse_decimal(width).filter(|width| *width < TILE_WIDTH).and_then(|w| u16::try_from(w).ok())?,
        ),
        None => (rest, 256),
    };
    let mut index: u64 = 0;
    for element in number.split('/') {
        let digits = element.strip_prefix('x').unwrap_or(element);
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    TilePath::new(kind, index, width)
}

/// What a place that is asked for a tile has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tile {
    /// Its exact bytes, as published.
    Bytes(Vec<u8>),
    /// It is not there.
    Missing,
    /// It may be there, but not for whoever asks.
    Withheld,
}

/// Where a log is published tile by tile: a folder, a server, a store. Nothing that it says has been checked.
pub trait TileSource {
    /// Why it could not be asked.
    type Error;

    /// Reads a tile.
    ///
    /// # Errors
    /// When the source cannot be asked; a tile that is not there is no error.
    fn tile(&self, path: &TilePath) -> Result<Tile, Self::Error>;
}

/// Reads the hashes of a tile; `None` unless they are as many as its path says.
#[must_use]
pub fn decode_hashes(path: &TilePath, tile: &[u8]) -> Option<Vec<Hash>> {
    let is_whole = tile.len() == usize::from(path.width()) * HASH_BYTES;
    is_whole.then(|| tile.chunks_exact(HASH_BYTES).filter_map(Hash::from_slice).collect())
}

/// The stored hashes of a published tree of `size` leaves, to make proofs from. As unchecked as their source.
#[derive(Debug, Clone, Copy)]
pub struct TileNodes<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
}

/// Why a hash of a published tree cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TileNodesError<E> {
    /// The source cannot be asked.
    #[error(transparent)]
    Source(E),
    /// The tree of this size has no such tile, or it is missing or of another length.
    #[error("the tile {level}/{index} of the tree is missing or does not have the right length")]
    NoTile {
        /// The tile's level.
        level: u8,
        /// Its position in its level.
        index: u64,
    },
}

impl<'a, S: TileSource + ?Sized> TileNodes<'a, S> {
    /// The tree of `size` leaves that a source publishes.
    pub fn new(source: &'a S, size: u64) -> Self {
        Self { source, size }
    }
}

impl<S: TileSource + ?Sized> NodeHashes for TileNodes<'_, S> {
    type Error = TileNodesError<S::Error>;

    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Self::Error> {
        let (index, begin) = (first / TILE_WIDTH, (first % TILE_WIDTH) as usize);
        let missing = TileNodesError::NoTile { level, index };
        let Some(path) = TilePath::of_tree(TileKind::Hashes { level }, index, self.size) else {
            return Err(missing);
        };
        let Tile::Bytes(bytes) = self.source.tile(&path).map_err(TileNodesError::Source)? else {
            return Err(missing);
        };
        let hashes = decode_hashes(&path, &bytes);
        hashes.and_then(|hashes| Some(hashes.get(begin..begin + count)?.to_vec())).ok_or(missing)
    }
}

/// An entry bundle that is not well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    /// A record does not fit the 16-bit length.
    #[error("entry {0} is larger than {MAX_RECORD_BYTES} bytes")]
    TooLarge(usize),
    /// The bundle ends inside an entry.
    #[error("the bundle ends inside entry {0}")]
    Cut(usize),
    /// There are more than 256.
    #[error("the bundle has more than {TILE_WIDTH} entries")]
    TooMany,
}

/// Writes an entry bundle: each record behind its length in two big-endian bytes.
///
/// # Errors
/// When a record is too large or there are too many.
pub fn encode_entries<R: AsRef<[u8]>>(records: &[R]) -> Result<Vec<u8>, EntriesError> {
    if records.len() as u64 > TILE_WIDTH {
        return Err(EntriesError::TooMany);
    }
    let mut bundle = Vec::with_capacity(records.iter().map(|r| r.as_ref().len() + 2).sum());
    for (number, record) in records.iter().enumerate() {
        let length = u16::try_from(record.as_ref().len()).map_err(|_| EntriesError::TooLarge(number))?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(record.as_ref());
    }
    Ok(bundle)
}

/// Reads an entry bundle.
///
/// # Errors
/// When it ends inside an entry or holds more than 256.
pub fn decode_entries(mut bundle: &[u8]) -> Result<Vec<&[u8]>, EntriesError> {
    let mut records = Vec::new();
    while !bundle.is_empty() {
        if records.len() as u64 == TILE_WIDTH {
            return Err(EntriesError::TooMany);
        }
        let cut = EntriesError::Cut(records.len());
        let (length, rest) = bundle.split_first_chunk::<2>().ok_or(cut)?;
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(cut)?;
        records.push(record);
        bundle = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        for (path, kind, index, width) in [
            ("tile/0/000", TileKind::Hashes { level: 0 }, 0, 256),
            ("tile/1/x001/x234/067", TileKind::Hashes { level: 1 }, 1_234_067, 256),
            ("tile/0/x001/067.p/5", TileKind::Hashes { level: 0 }, 1067, 5),
            ("tile/entries/999.p/255", TileKind::Entries, 999, 255),
        ] {
            let tile = TilePath::new(kind, index, width).unwrap();
            assert_eq!(tile.to_string(), path);
            assert_eq!(format!("/{path}").parse(), Ok(tile));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/64/000",
            "tile/0/0",
            "tile/0/x000/000",
            "tile/0/001/067",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000/",
            "tile/x/000",
            "tile/-1/000",
            "tile/0/x018/x446/x744/x073/x709/x551/615",
            "//tile/0/000",
            "tile/0/../000",
            "tile/data/000",
        ] {
            assert_eq!(bad.parse::<TilePath>(), Err(TilePathError), "{bad}");
        }
    }

    #[test]
    fn a_tree_is_published_by_these_tiles() {
        let paths: Vec<String> = TilePath::all(70_000).map(|tile| tile.to_string()).collect();
        for expected in [
            "tile/0/272",
            "tile/0/273.p/112",
            "tile/1/000",
            "tile/1/001.p/17",
            "tile/2/000.p/1",
            "tile/entries/273.p/112",
        ] {
            assert!(paths.iter().any(|path| path == expected), "{expected}");
        }
        assert_eq!(paths.len(), 274 + 2 + 1 + 274);
        assert_eq!(TilePath::all(0).count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bundles_are_read_back_and_any_bytes_are_read_without_panic(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            noise in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let bundle = encode_entries(&records).unwrap();
            prop_assert_eq!(decode_entries(&bundle).unwrap(), records.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let _ = decode_entries(&noise);
            prop_assert!(bundle.is_empty() || decode_entries(&bundle[..bundle.len() - 1]).is_err() || records.last().is_some_and(Vec::is_empty));
        }
    }
}
