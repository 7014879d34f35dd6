//! Inclusion and consistency proofs, verified as RFC 9162 §2.1.3.2 and §2.1.4.2 say.

use serde::{Deserialize, Serialize};

use crate::tree::{Hash, NodeHashes, empty_root, largest_power_below, node_hash, range_hash};

/// Proof that a leaf stands at `index` in the tree of `size` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The leaf's position, from 0.
    pub index: u64,
    /// The size of the tree that the root is of.
    pub size: u64,
    /// The siblings from the leaf up.
    pub hashes: Vec<Hash>,
}

/// Proof that the tree of `new_size` leaves begins with the tree of `old_size` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyProof {
    /// The size of the older tree.
    pub old_size: u64,
    /// The size of the newer tree.
    pub new_size: u64,
    /// The hashes in the order of RFC 6962 §2.1.2.
    pub hashes: Vec<Hash>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The position lies outside the tree.
    #[error("leaf {index} lies outside a tree of {size} leaves")]
    OutsideTree {
        /// The position asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The old tree is larger than the new one.
    #[error("the older tree has {old_size} leaves, more than the newer one's {new_size}")]
    Shrunk {
        /// The older size.
        old_size: u64,
        /// The newer size.
        new_size: u64,
    },
    /// The proof has too few or too many hashes for its sizes.
    #[error("the proof has {found} hashes, which is not what a proof for these sizes has")]
    WrongLength {
        /// How many hashes there are.
        found: usize,
    },
    /// The hashes do not lead to the root of the (newer) tree.
    #[error("the proof does not lead to the tree's root")]
    RootMismatch,
    /// The hashes do not lead to the root of the older tree: history was changed.
    #[error("the proof does not lead to the older tree's root: the newer tree does not continue it")]
    OldRootMismatch,
}

impl InclusionProof {
    /// Makes the proof for leaf `index` in the tree over the first `size` leaves; `None` if it is outside.
    ///
    /// # Errors
    /// When a stored hash cannot be read.
    pub fn build<N: NodeHashes + ?Sized>(nodes: &N, index: u64, size: u64) -> Result<Option<Self>, N::Error> {
        if index >= size {
            return Ok(None);
        }
        let (mut low, mut high, mut hashes) = (0, size, Vec::new());
        while high - low > 1 {
            let middle = low + largest_power_below(high - low);
            if index < middle {
                hashes.push(range_hash(nodes, middle, high)?);
                high = middle;
            } else {
                hashes.push(range_hash(nodes, low, middle)?);
                low = middle;
            }
        }
        hashes.reverse();
        Ok(Some(Self { index, size, hashes }))
    }

    /// Checks that `leaf` is at the proof's position in the tree with this root.
    ///
    /// # Errors
    /// When it does not prove that, to the bit; a hash too many or too few is refused too.
    pub fn verify(&self, leaf: &Hash, root: &Hash) -> Result<(), ProofError> {
        if self.index >= self.size {
            return Err(ProofError::OutsideTree { index: self.index, size: self.size });
        }
        let wrong_length = ProofError::WrongLength { found: self.hashes.len() };
        let (mut node, mut last, mut hash) = (self.index, self.size - 1, *leaf);
        for sibling in &self.hashes {
            if last == 0 {
                return Err(wrong_length);
            }
            if node & 1 == 1 || node == last {
                hash = node_hash(sibling, &hash);
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node_hash(&hash, sibling);
            }
            node >>= 1;
            last >>= 1;
        }
        if last != 0 {
            return Err(wrong_length);
        }
        if hash == *root { Ok(()) } else { Err(ProofError::RootMismatch) }
    }
}

impl ConsistencyProof {
    /// Makes the proof between the trees over the first `old_size` and `new_size` leaves; `None` if it shrank.
    ///
    /// # Errors
    /// When a stored hash cannot be read.
    pub fn build<N: NodeHashes + ?Sized>(
        nodes: &N,
        old_size: u64,
        new_size: u64,
    ) -> Result<Option<Self>, N::Error> {
        if old_size > new_size {
            return Ok(None);
        }
        let mut hashes = Vec::new();
        if old_size != 0 && old_size != new_size {
            let (mut low, mut high, mut whole) = (0, new_size, true);
            while old_size != high {
                let middle = low + largest_power_below(high - low);
                if old_size <= middle {
                    hashes.push(range_hash(nodes, middle, high)?);
                    high = middle;
                } else {
                    hashes.push(range_hash(nodes, low, middle)?);
                    (low, whole) = (middle, false);
                }
            }
            if !whole {
                hashes.push(range_hash(nodes, low, high)?);
            }
            hashes.reverse();
        }
        Ok(Some(Self { old_size, new_size, hashes }))
    }

    /// Checks that the tree with `new_root` begins with the tree with `old_root`.
    ///
    /// # Errors
    /// When it does not prove that, to the bit; a hash too many or too few is refused too.
    pub fn verify(&self, old_root: &Hash, new_root: &Hash) -> Result<(), ProofError> {
        let (old_size, new_size) = (self.old_size, self.new_size);
        let wrong_length = ProofError::WrongLength { found: self.hashes.len() };
        if old_size > new_size {
            return Err(ProofError::Shrunk { old_size, new_size });
        }
        if old_size == new_size || old_size == 0 {
            if !self.hashes.is_empty() {
                return Err(wrong_length);
            }
            if old_size == 0 && *old_root != empty_root() {
                return Err(ProofError::OldRootMismatch);
            }
            let agree = old_size != new_size || old_root == new_root;
            return if agree { Ok(()) } else { Err(ProofError::OldRootMismatch) };
        }
        let (old, new) = self.roots(old_root)?;
        if old != *old_root {
            return Err(ProofError::OldRootMismatch);
        }
        if new == *new_root { Ok(()) } else { Err(ProofError::RootMismatch) }
    }

    /// The root of the older tree as the proof itself shows it, if it leads to this root of the newer one. `None` also where
    /// the older size is a power of two (or nothing, or the newer one): such a proof takes the older root for granted.
    #[must_use]
    pub fn older_root(&self, new_root: &Hash) -> Option<Hash> {
        let says = self.old_size < self.new_size && self.old_size != 0 && !self.old_size.is_power_of_two();
        let (old, new) = says.then(|| self.roots(new_root).ok()).flatten()?;
        (new == *new_root).then_some(old)
    }

    /// The roots that the hashes lead to (RFC 9162 §2.1.4.2), for an older tree that is neither empty nor the newer one.
    fn roots(&self, old_root: &Hash) -> Result<(Hash, Hash), ProofError> {
        let wrong_length = ProofError::WrongLength { found: self.hashes.len() };
        let mut hashes = self.hashes.iter();
        let (mut node, mut last) = (self.old_size - 1, self.new_size - 1);
        while node & 1 == 1 {
            node >>= 1;
            last >>= 1;
        }
        let taken_for_granted = self.old_size.is_power_of_two();
        let seed = if taken_for_granted { *old_root } else { *hashes.next().ok_or(wrong_length)? };
        let (mut old, mut new) = (seed, seed);
        for hash in hashes {
            if last == 0 {
                return Err(wrong_length);
            }
            if node & 1 == 1 || node == last {
                old = node_hash(hash, &old);
                new = node_hash(hash, &new);
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                new = node_hash(&new, hash);
            }
            node >>= 1;
            last >>= 1;
        }
        if last == 0 { Ok((old, new)) } else { Err(wrong_length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{MemoryTree, leaf_hash, root_at};

    fn tree(size: u64) -> MemoryTree {
        let mut tree = MemoryTree::new();
        (0..size).for_each(|i| tree.push(leaf_hash(&i.to_be_bytes())));
        tree
    }

    fn flipped(hash: &Hash, bit: usize) -> Hash {
        let mut bytes = hash.0;
        bytes[bit / 8] ^= 1 << (bit % 8);
        Hash(bytes)
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_its_neighbour_is_not() {
        let tree = tree(40);
        for size in 1..=40 {
            let root = root_at(&tree, size).unwrap();
            for index in 0..size {
                let proof = InclusionProof::build(&tree, index, size).unwrap().unwrap();
                assert_eq!(proof.verify(&leaf_hash(&index.to_be_bytes()), &root), Ok(()));
                assert!(proof.verify(&leaf_hash(&(index + 1).to_be_bytes()), &root).is_err());
                for other in (0..size + 2).filter(|other| *other != index) {
                    let moved = InclusionProof { index: other, ..proof.clone() };
                    assert!(moved.verify(&leaf_hash(&index.to_be_bytes()), &root).is_err());
                }
            }
            assert_eq!(InclusionProof::build(&tree, size, size).unwrap(), None);
        }
    }

    #[test]
    fn every_pair_of_sizes_is_consistent_and_a_changed_root_is_not() {
        let tree = tree(40);
        for new in 0..=40 {
            let new_root = root_at(&tree, new).unwrap();
            for old in 0..=new {
                let old_root = root_at(&tree, old).unwrap();
                let proof = ConsistencyProof::build(&tree, old, new).unwrap().unwrap();
                assert_eq!(proof.verify(&old_root, &new_root), Ok(()), "{old} {new}");
                assert!(proof.verify(&flipped(&old_root, 3), &new_root).is_err(), "{old} {new}");
                assert!(old == 0 || proof.verify(&old_root, &flipped(&new_root, 9)).is_err());
                let shown = (old < new && old != 0 && !old.is_power_of_two()).then_some(old_root);
                assert_eq!(proof.older_root(&new_root), shown, "{old} {new}");
                assert_eq!(proof.older_root(&flipped(&new_root, 9)), None);
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_missing_or_extra_hash_is_refused() {
        let tree = tree(300);
        let (root, old_root) = (tree.root(), root_at(&tree, 77).unwrap());
        let leaf = leaf_hash(&123_u64.to_be_bytes());
        let inclusion = InclusionProof::build(&tree, 123, 300).unwrap().unwrap();
        let consistency = ConsistencyProof::build(&tree, 77, 300).unwrap().unwrap();
        let refused = |hashes: &[Hash], inc: bool| {
            let hashes = hashes.to_vec();
            if inc {
                InclusionProof { hashes, ..inclusion.clone() }.verify(&leaf, &root).is_err()
            } else {
                ConsistencyProof { hashes, ..consistency.clone() }.verify(&old_root, &root).is_err()
            }
        };
        for (hashes, inc) in [(&inclusion.hashes, true), (&consistency.hashes, false)] {
            for at in 0..hashes.len() {
                for bit in 0..256 {
                    let mut changed = hashes.clone();
                    changed[at] = flipped(&changed[at], bit);
                    assert!(refused(&changed, inc));
                }
                let mut shorter = hashes.clone();
                let removed = shorter.remove(at);
                assert!(refused(&shorter, inc));
                let mut longer = hashes.clone();
                longer.insert(at, removed);
                assert!(refused(&longer, inc));
            }
            let mut longer = hashes.clone();
            longer.push(root);
            assert!(refused(&longer, inc));
        }
    }

    #[test]
    fn absurd_sizes_are_refused_without_panic() {
        let root = leaf_hash(b"r");
        for (a, b) in [(0, 0), (1, 0), (u64::MAX, u64::MAX), (u64::MAX - 1, u64::MAX), (1, u64::MAX)] {
            for len in [0, 1, 63, 64, 65, 200] {
                let hashes = vec![root; len];
                let _ = InclusionProof { index: a, size: b, hashes: hashes.clone() }.verify(&root, &root);
                let proof = ConsistencyProof { old_size: a, new_size: b, hashes };
                assert!(proof.verify(&root, &leaf_hash(b"s")).is_err());
            }
        }
    }
}
