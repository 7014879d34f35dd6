//! The Merkle tree of RFC 6962: hashes, the streaming right edge, and roots over stored nodes.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Bytes in a hash.
pub const HASH_BYTES: usize = 32;

/// Tree levels that one tile level stands for: a full tile is 2^8 hashes wide.
pub const TILE_HEIGHT: u32 = 8;

/// A SHA-256 hash of a leaf or a node. Shown, and written in JSON, as standard base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// Reads a hash from exactly 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The hash's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Text that is not the base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash must be 32 bytes in standard base64 (44 characters)")]
pub struct HashParseError;

impl FromStr for Hash {
    type Err = HashParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 44 {
            return Err(HashParseError);
        }
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| HashParseError)?;
        Self::from_slice(&bytes).ok_or(HashParseError)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The hash of a leaf: one record's exact bytes.
#[must_use]
pub fn leaf_hash(record: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(record).finalize().into())
}

/// The hash of an inner node over its two children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut input = [1; 1 + 2 * HASH_BYTES];
    input[1..=HASH_BYTES].copy_from_slice(&left.0);
    input[1 + HASH_BYTES..].copy_from_slice(&right.0);
    Hash(Sha256::digest(input).into())
}

/// The root of the tree that has no leaf: the hash of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// The right edge of a growing tree: what is needed to go on appending and to know the root.
///
/// It holds one hash per set bit of the size, so it never exceeds 64 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the full subtrees that the size is made of, the largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of the tree over the first `size` leaves, from its stored hashes.
    ///
    /// # Errors
    /// When a stored hash cannot be read.
    pub fn at<N: NodeHashes + ?Sized>(nodes: &N, size: u64) -> Result<Self, N::Error> {
        let (mut peaks, mut low) = (Vec::new(), 0);
        for height in (0..u64::BITS).rev().filter(|height| size >> height & 1 == 1) {
            let high = low + (1 << height);
            peaks.push(range_hash(nodes, low, high)?);
            low = high;
        }
        Ok(Self { size, peaks })
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _| ());
    }

    /// Appends a leaf and tells every hash that this completes and that a tile stores, by tile level.
    pub fn push_with(&mut self, leaf: Hash, mut stored: impl FnMut(u8, Hash)) {
        let mut hash = leaf;
        stored(0, hash);
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            if height % TILE_HEIGHT == 0 {
                stored((height / TILE_HEIGHT) as u8, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The edge of a tree of `size` leaves whose full subtrees, the largest first, have these roots; `None` if a tree of that
    /// size has more or fewer of them.
    #[must_use]
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == peaks.len()).then_some(Self { size, peaks })
    }

    /// The roots of the full subtrees that the size is made of, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends leaves that were hashed elsewhere, and tells the hashes that tiles store and that the run could not complete by
    /// itself, by tile level and position; `false`, and nothing is appended, if they do not begin where this ends.
    pub fn append_with(&mut self, run: &LeafRun, mut stored: impl FnMut(u8, u64, Hash)) -> bool {
        if run.first != self.size {
            return false;
        }
        for (of_run, root) in &run.subtrees {
            let (mut hash, mut height) = (*root, *of_run);
            for _ in 0..(self.size >> of_run).trailing_ones() {
                let Some(left) = self.peaks.pop() else { break };
                hash = node_hash(&left, &hash);
                height += 1;
                if height % TILE_HEIGHT == 0 {
                    stored((height / TILE_HEIGHT) as u8, self.size >> height, hash);
                }
            }
            self.peaks.push(hash);
            self.size += 1 << of_run;
        }
        true
    }

    /// As [`Frontier::append_with`], telling no hashes.
    pub fn append(&mut self, run: &LeafRun) -> bool {
        self.append_with(run, |_, _, _| ())
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(smallest) = peaks.next() else { return empty_root() };
        peaks.fold(*smallest, |right, left| node_hash(left, &right))
    }
}

/// Successive leaves somewhere in a tree, reduced to the roots of the full subtrees that they make up, so that the leaves of one
/// tree can be hashed in several threads. Holds at most 126 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafRun {
    first: u64,
    next: u64,
    /// Height and root of each full subtree, from left to right.
    subtrees: Vec<(u32, Hash)>,
}

impl LeafRun {
    /// A run that begins with leaf `first`.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self { first, next: first, subtrees: Vec::new() }
    }

    /// The first leaf.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The leaf after the last.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next leaf and tells every hash that tiles store and that these leaves alone complete, by tile level and
    /// position.
    pub fn push_with(&mut self, leaf: Hash, mut stored: impl FnMut(u8, u64, Hash)) {
        let (mut hash, mut height) = (leaf, 0);
        stored(0, self.next, hash);
        // Where the left half of a subtree lies before the run, only the frontier can complete it.
        while let Some((_, left)) =
            self.subtrees.pop_if(|(of_left, _)| *of_left == height && self.next >> height & 1 == 1)
        {
            hash = node_hash(&left, &hash);
            height += 1;
            if height % TILE_HEIGHT == 0 {
                stored((height / TILE_HEIGHT) as u8, self.next >> height, hash);
            }
        }
        self.subtrees.push((height, hash));
        self.next += 1;
    }
}

/// Where the stored hashes of a tree are read from.
///
/// Hash `i` of tile level `l` is the root of the full subtree over leaves `i·256^l .. (i+1)·256^l`.
pub trait NodeHashes {
    /// Why a hash could not be read.
    type Error;

    /// Reads `count` hashes (at most 256) of tile level `level`, beginning with hash `first`.
    ///
    /// # Errors
    /// When the hashes cannot be read or do not exist.
    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Self::Error>;
}

/// The hash of the leaves `low..high`, a range that RFC 6962's recursion visits.
///
/// # Errors
/// When a stored hash cannot be read.
pub(crate) fn range_hash<N: NodeHashes + ?Sized>(nodes: &N, low: u64, high: u64) -> Result<Hash, N::Error> {
    let count = high.saturating_sub(low);
    if count == 0 {
        return Ok(empty_root());
    }
    if !count.is_power_of_two() {
        let middle = low + largest_power_below(count);
        return Ok(node_hash(&range_hash(nodes, low, middle)?, &range_hash(nodes, middle, high)?));
    }
    let height = count.trailing_zeros();
    let (level, within) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
    let first = low >> (level * TILE_HEIGHT);
    let mut row = nodes.hashes(level as u8, first, 1 << within)?;
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                rest => rest.first().copied().unwrap_or_else(empty_root),
            })
            .collect();
    }
    Ok(row.first().copied().unwrap_or_else(empty_root))
}

/// The root of the tree over the first `size` leaves.
///
/// # Errors
/// When a stored hash cannot be read.
pub fn root_at<N: NodeHashes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    range_hash(nodes, 0, size)
}

/// The largest power of two smaller than `count`, where RFC 6962 splits a range of two or more leaves.
pub(crate) fn largest_power_below(count: u64) -> u64 {
    debug_assert!(count > 1);
    1 << (63 - count.saturating_sub(1).max(1).leading_zeros())
}

/// A whole tree in memory: for tests, and for reading a log whose tiles are missing.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    frontier: Frontier,
    levels: Vec<Vec<Hash>>,
}

impl MemoryTree {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        self.frontier.push_with(leaf, |level, hash| {
            let level = usize::from(level);
            if levels.len() <= level {
                levels.resize_with(level + 1, Vec::new);
            }
            levels[level].push(hash);
        });
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The stored hashes of one tile level.
    pub(crate) fn level(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }
}

impl NodeHashes for MemoryTree {
    type Error = Infallible;

    /// Hashes that do not exist are left out.
    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Infallible> {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        Ok(self.level(level).iter().skip(first).take(count).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs and roots of the Certificate Transparency reference implementation.
    const CT_LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const CT_ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let mut tree = MemoryTree::new();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&tree.root().0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (leaf, root) in CT_LEAVES.iter().zip(CT_ROOTS) {
            tree.push(leaf_hash(leaf));
            assert_eq!(data_encoding::HEXLOWER.encode(&tree.root().0), root);
        }
    }

    #[test]
    fn root_from_stored_hashes_equals_the_streamed_root_across_tile_borders() {
        let (mut tree, mut frontier, mut roots) = (MemoryTree::new(), Frontier::new(), vec![empty_root()]);
        for i in 0..700_u32 {
            let leaf = leaf_hash(&i.to_be_bytes());
            tree.push(leaf);
            frontier.push(leaf);
            roots.push(frontier.root());
        }
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(root_at(&tree, size as u64), Ok(*root), "size {size}");
            let Ok(edge) = Frontier::at(&tree, size as u64);
            assert_eq!((edge.size(), edge.root()), (size as u64, *root));
        }
        assert_eq!(tree.level(1).len(), 2);
    }

    #[test]
    fn a_tree_of_runs_has_the_root_and_the_stored_hashes_of_the_tree_of_leaves() {
        let leaves: Vec<Hash> = (0..66_000_u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let (mut whole, mut roots) = (MemoryTree::new(), vec![empty_root()]);
        for leaf in &leaves {
            whole.push(*leaf);
            roots.push(if whole.size() < 600 { whole.root() } else { *leaf });
        }
        let expected: Vec<_> = (0..3)
            .flat_map(|level| (0..).zip(whole.level(level)).map(move |(at, hash)| (level, at, *hash)))
            .collect();
        for pieces in [1, 257, 4099, 65_999] {
            let (mut joined, mut told) = (Frontier::new(), Vec::new());
            for piece in leaves.chunks(pieces) {
                let mut run = LeafRun::new(joined.size());
                for leaf in piece {
                    run.push_with(*leaf, |level, at, hash| told.push((level, at, hash)));
                }
                assert!(joined.append_with(&run, |level, at, hash| told.push((level, at, hash))));
                assert!(!joined.append(&run), "a run is appended once");
                if joined.size() < 600 {
                    assert_eq!(joined.root(), roots[joined.size() as usize], "{} of {pieces}", joined.size());
                }
            }
            assert_eq!(joined.root(), whole.root());
            told.sort_by_key(|(level, at, _)| (*level, *at));
            assert!(told == expected, "in pieces of {pieces}");
            let again = Frontier::from_peaks(joined.size(), joined.peaks().to_vec());
            assert_eq!(again, Some(joined));
        }
        assert_eq!(Frontier::from_peaks(3, vec![leaves[0]]), None);
    }

    #[test]
    fn hashes_travel_as_base64_and_nothing_else_is_read() {
        let hash = leaf_hash(b"x");
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
        for bad in ["", "AAAA", "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@=", &hash.to_string()[1..]] {
            assert_eq!(bad.parse::<Hash>(), Err(HashParseError), "{bad}");
        }
    }
}
