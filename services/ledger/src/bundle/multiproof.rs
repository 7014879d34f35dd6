//! One proof for many leaves, as the module above defines it.

use super::Entry;
use crate::tree::{Hash, NodeHashes, empty_root, largest_power_below, node_hash, range_hash};

/// Collects the multiproof for the leaves `indexes`, which all lie in `low..high`.
pub(super) fn collect<N: NodeHashes>(
    nodes: &N,
    low: u64,
    high: u64,
    indexes: &[u64],
    hashes: &mut Vec<Hash>,
) -> Result<(), N::Error> {
    if indexes.is_empty() {
        if low < high {
            hashes.push(range_hash(nodes, low, high)?);
        }
        return Ok(());
    }
    if high - low <= 1 {
        return Ok(());
    }
    let middle = low + largest_power_below(high - low);
    let (left, right) = indexes.split_at(indexes.partition_point(|index| *index < middle));
    collect(nodes, low, middle, left, hashes)?;
    collect(nodes, middle, high, right, hashes)
}

/// The hash of `low..high` from the entries in it (sorted, unique, inside) and the hashes of the rest; `None` if those run out.
pub(super) fn fold<'a>(
    low: u64,
    high: u64,
    entries: &[Entry],
    hashes: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    match entries {
        [] if low == high => Some(empty_root()),
        [] => hashes.next().copied(),
        [entry] if high - low == 1 => Some(entry.leaf),
        _ => {
            let middle = low + largest_power_below(high - low);
            let (left, right) = entries.split_at(entries.partition_point(|entry| entry.index < middle));
            let left = fold(low, middle, left, hashes)?;
            Some(node_hash(&left, &fold(middle, high, right, hashes)?))
        }
    }
}
