//! Why a policy was refused: what, where, and what to do about it.

use std::fmt;

/// A refusal of a policy file, placed in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    line: usize,
    column: usize,
    path: String,
    message: String,
    help: Option<String>,
}

impl PolicyError {
    pub(crate) fn new(place: Place, path: String, message: impl Into<String>) -> Self {
        Self { line: place.line, column: place.column, path, message: message.into(), help: None }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says it in other words, in front of what was said.
    pub(crate) fn reworded(mut self, words: String) -> Self {
        self.message = format!("{words} ({})", self.message);
        self
    }

    /// Puts words before the message.
    pub(crate) fn prefixed(mut self, words: &str) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// Adds "did you mean" when one of the known names is close to what was written.
    pub(crate) fn with_nearest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, known) {
            Some(name) => self.with_help(format!("did you mean {name:?}?")),
            None => self,
        }
    }

    /// Line of the text, from one.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Column of the line in characters, from one.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Path of keys to the place, such as `acls[0].src[1]`; empty for the file as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, ", {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Line and column, both from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        Self { line, column: before[line_start..].chars().count() + 1 }
    }
}

/// Names longer than this are not compared: a suggestion is a courtesy, not worth quadratic work on outside
/// data.
const COMPARED_CHARS: usize = 64;

fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > COMPARED_CHARS {
        return None;
    }
    let limit = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|name| name.len() <= COMPARED_CHARS)
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Edit distance in characters, letters compared without case; two neighbours exchanged count as one edit.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(0);
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in right.iter().enumerate() {
            let mut edits =
                (cell(&row, j) + usize::from(from != to)).min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            if i > 0 && j > 0 && left.get(i - 1) == Some(to) && right.get(j - 1) == Some(from) {
                edits = edits.min(cell(&above, j - 1) + 1);
            }
            next.push(edits);
        }
        above = std::mem::replace(&mut row, next);
    }
    cell(&row, right.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_name_is_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("grups", ["groups", "grants"]), Some("groups"));
        assert_eq!(nearest("ALCS", ["acls"]), Some("acls"));
        assert_eq!(nearest("app", ["ip"]), None);
        assert_eq!(nearest("Acls", ["acls"]), Some("acls"));
        assert_eq!(nearest("zebra", ["groups", "grants"]), None);
    }

    #[test]
    fn distance_counts_edits() {
        for (left, right, edits) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("scr", "src", 1)]
        {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(Place::of("é\néé x", "é\néé ".len()), Place { line: 2, column: 4 });
    }
}
