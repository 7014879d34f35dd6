//! What came of the pairs, and whether it is what had to.

use std::time::Duration;

use super::access::{Access, Expected};
use crate::load::{Figure, percentile};

/// How packets of a pair went in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// From one to the other.
    Direct,
    /// Over the relay.
    Relayed,
    /// Not at all.
    None,
}

/// One pair.
#[derive(Debug, Clone)]
pub struct Cell {
    /// How the one that opened the connection is connected.
    pub left: Access,
    /// How the other is.
    pub right: Access,
    /// How packets went in the end.
    pub path: Path,
    /// From opening the connection to its first answer; `None` if none came.
    pub first_byte: Option<Duration>,
    /// From opening the connection to the direct path.
    pub direct_after: Option<Duration>,
}

impl Cell {
    /// Whether the lab loses packets on the way on purpose.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        [self.left, self.right].contains(&Access::Lossy)
    }

    /// Whether the pair is connected, directly where that is possible and over the relay elsewhere.
    #[must_use]
    pub fn is_right(&self) -> bool {
        match self.left.expected(self.right) {
            _ if self.path == Path::None || self.first_byte.is_none() => false,
            Expected::Direct => self.path == Path::Direct,
            Expected::Relayed => self.path == Path::Relayed,
            Expected::Either => true,
        }
    }
}

/// All pairs.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// In the order in which they were crossed.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// Those that are not what they had to be.
    pub fn wrong(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| !cell.is_right())
    }

    /// How long people wait where the network loses nothing.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let cells = || self.cells.iter().filter(|cell| !cell.is_lossy());
        let mut first: Vec<_> = cells().filter_map(|cell| cell.first_byte).collect();
        let mut direct: Vec<_> = cells().filter_map(|cell| cell.direct_after).collect();
        vec![
            Figure::time("natlab_first_byte_p50", percentile(&mut first, 0.5)),
            Figure::time("natlab_first_byte_p99", percentile(&mut first, 0.99)),
            Figure::time("natlab_direct_p50", percentile(&mut direct, 0.5)),
            Figure::time("natlab_direct_p99", percentile(&mut direct, 0.99)),
        ]
    }
}
