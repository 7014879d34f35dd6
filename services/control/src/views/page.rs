//! Pages: no answer is longer than a caller can hold.

use super::ViewError;

/// Most rows of one page.
pub const MAX_PAGE: usize = 200;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<K> {
    first: usize,
    /// The key of the last row that the caller has.
    pub after: Option<K>,
    /// Whether the newest rows come first, where a list is ordered by records.
    pub newest_first: bool,
}

impl<K> Slice<K> {
    /// The first rows after a key, oldest first.
    pub fn new(first: usize, after: Option<K>) -> Result<Self, ViewError> {
        if first > MAX_PAGE {
            return Err(ViewError::PageTooLarge { asked: first });
        }
        Ok(Self { first, after, newest_first: false })
    }

    /// The same the other way round.
    pub fn newest_first(self, newest_first: bool) -> Self {
        Self { newest_first, ..self }
    }

    /// Rows to ask the database for: one more than wanted tells whether there are further ones.
    pub(super) fn limit(&self) -> i64 {
        i64::try_from(self.first).unwrap_or(0).saturating_add(1)
    }

    /// Cuts the extra row off.
    pub(super) fn page<T>(&self, mut rows: Vec<T>) -> Page<T> {
        let has_next = rows.len() > self.first;
        rows.truncate(self.first);
        Page { rows, has_next }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether more follow.
    pub has_next: bool,
}
