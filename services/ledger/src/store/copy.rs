//! Copying a log from one store into another, its root unchanged.

use super::error::{AppendError, ReadError};
use super::log::Log;
use super::reader::Reader;
use crate::tree::Hash;

/// The most records of one commit of a copy.
const COMMIT_RECORDS: usize = 4096;

/// A commit of a copy that has reached this size gets no more records, where the store takes more.
const COMMIT_BYTES: usize = 1024 * 1024;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The size of both logs.
    pub size: u64,
    /// The root of both.
    pub root: Hash,
    /// Records that were in the other store already, from a copy that did not come to its end.
    pub found: u64,
}

/// Why a log was not copied. What was copied before stays; copying again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The other store holds something else.
    #[error(
        "the other store holds {size} records that are not the first {size} of this log: nothing was copied; name an \
         empty place"
    )]
    NotAPrefix {
        /// How many records are there.
        size: u64,
    },
    /// The two have one size and other roots, or other sizes, after all was copied.
    #[error(
        "after the copy, the other store holds {found} records with root {found_root}, not {size} with root {root}"
    )]
    Differs {
        /// The size of the log.
        size: u64,
        /// Its root.
        root: Hash,
        /// The size of the copy.
        found: u64,
        /// The copy's root.
        found_root: Hash,
    },
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The other store does not take a commit.
    #[error("record {at} and those after it were not copied: {source}")]
    Append {
        /// The first record of the commit.
        at: u64,
        /// Why.
        source: AppendError,
    },
}

/// Appends the records that another store does not have yet, and checks at the end that both have one root.
///
/// # Errors
/// When the other store holds something else, or one of the two fails.
pub fn copy_log(from: &Reader, to: &mut Log) -> Result<Copied, CopyError> {
    let signed = from.checkpoint();
    let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
    let found = to.size();
    if found > size || from.root(found)? != to.reader().root(found)? {
        return Err(CopyError::NotAPrefix { size: found });
    }
    let max_bytes = COMMIT_BYTES.min(to.max_commit_bytes());
    let (mut commit, mut bytes) = (Vec::new(), 0);
    for record in from.read_range(found..size) {
        let (_, record) = record?;
        if commit.len() == COMMIT_RECORDS || (bytes + record.len() > max_bytes && !commit.is_empty()) {
            append(to, &mut commit)?;
            bytes = 0;
        }
        bytes += record.len();
        commit.push(record);
    }
    if !commit.is_empty() {
        append(to, &mut commit)?;
    }
    let (copied, copied_root) = (to.size(), to.reader().root(to.size())?);
    if (copied, copied_root) != (size, root) {
        return Err(CopyError::Differs { size, root, found: copied, found_root: copied_root });
    }
    Ok(Copied { size, root, found })
}

fn append(to: &mut Log, commit: &mut Vec<Vec<u8>>) -> Result<(), CopyError> {
    let at = to.size();
    to.append(commit).map_err(|source| CopyError::Append { at, source })?;
    commit.clear();
    Ok(())
}
