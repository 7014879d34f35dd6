//! The matrix as people read it.

use std::fmt;
use std::time::Duration;

use super::matrix::{Cell, Matrix, Path};

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<9}{:<10}{:<10}{:<10}{:>11}{:>13}",
            "from", "to", "path", "has to be", "first byte", "direct after"
        )?;
        self.cells.iter().try_for_each(|cell| writeln!(f, "{cell}"))?;
        let direct = self.cells.iter().filter(|cell| cell.path == Path::Direct).count();
        let wrong = self.wrong().count();
        write!(f, "{} pairs: {direct} direct, {wrong} not as they have to be", self.cells.len())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, right, path, first_byte, direct_after } = self;
        let expected = left.expected(*right);
        let (first_byte, direct_after) = (Wait(*first_byte), Wait(*direct_after));
        write!(f, "{left:<9}{right:<10}{path:<10}{expected:<10}{first_byte:>11}{direct_after:>13}")?;
        if self.is_right() { Ok(()) } else { f.write_str("   WRONG") }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::None => "none",
        })
    }
}

/// A time that may not have come.
pub(super) struct Wait(pub(super) Option<Duration>);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(wait) => f.pad(&format!("{:.1} ms", wait.as_secs_f64() * 1000.0)),
            None => f.pad("-"),
        }
    }
}
