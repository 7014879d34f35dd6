//! Reading a segment line by line: which commits are whole, and what is wrong where.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::record::{RecordProblem, check_record};
use crate::tile::MAX_RECORD_BYTES;
use crate::tree::{Hash, leaf_hash};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Damage at one place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file name.
    pub segment: String,
    /// The sequence number of the damaged record.
    pub seq: u64,
    /// Where the record begins in the segment.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, seq, offset, problem } = self;
        write!(f, "segment {segment}, record {seq}, byte {offset}: {problem}")
    }
}

/// What can be wrong with a line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The line is no record.
    #[error("not a record: {0}")]
    Record(#[from] RecordProblem),
    /// A commit without records.
    #[error("an empty line where a record should be")]
    EmptyCommit,
    /// The segment ends inside a commit.
    #[error("the segment ends inside a commit")]
    Unfinished,
    /// The record's hash is not the one in the tree.
    #[error("the record was altered: its hash is not the one in the tree")]
    Altered,
    /// The segment does not begin where the one before ends.
    #[error(
        "the segment begins with record {found}, but the one before ends at {expected}: a segment is missing or too many"
    )]
    NotContiguous {
        /// The sequence number that should come.
        expected: u64,
        /// The one that the file's name says.
        found: u64,
    },
}

/// What one segment holds.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    /// Where each committed record begins.
    pub starts: Vec<u32>,
    /// Where the last whole commit ends.
    pub end: u64,
    /// The file's length when it was read.
    pub length: u64,
    /// The first line that is wrong, if any; an unfinished end is not wrong.
    pub fault: Option<Fault>,
}

/// A line that is wrong.
#[derive(Debug)]
pub(crate) struct Fault {
    pub index: u64,
    pub offset: u64,
    pub problem: Problem,
    /// Whether nothing but the commit it is in follows: a torn write looks like this.
    pub in_last_commit: bool,
}

/// Reads a segment and tells the leaf hash of every record of every whole commit, in order.
pub(crate) fn scan_segment(path: &Path, mut committed: impl FnMut(u64, Hash)) -> io::Result<SegmentScan> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    // A writer may be appending: what comes after the length seen here is not looked at.
    let mut input = BufReader::with_capacity(READ_BUFFER_BYTES, file.take(length));
    let mut scan = SegmentScan { starts: Vec::new(), end: 0, length, fault: None };
    let (mut line, mut offset, mut open) = (Vec::new(), 0_u64, Vec::new());
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_RECORD_BYTES as u64 + 2).read_until(b'\n', &mut line)?;
        let problem = match line.split_last() {
            Some((b'\n', [])) if open.is_empty() => Some(Problem::EmptyCommit),
            Some((b'\n', [])) => {
                scan.end = offset + 1;
                for (start, leaf) in open.drain(..) {
                    scan.starts.push(start);
                    committed(u64::from(start), leaf);
                }
                None
            }
            Some((b'\n', record)) => match (check_record(record), u32::try_from(offset)) {
                (Ok(()), Ok(start)) => {
                    open.push((start, leaf_hash(record)));
                    None
                }
                (Err(problem), _) => Some(problem.into()),
                (Ok(()), Err(_)) => Some(RecordProblem::TooLarge(read).into()),
            },
            Some(_) if line.len() > MAX_RECORD_BYTES => Some(RecordProblem::TooLarge(line.len()).into()),
            Some(_) | None => break,
        };
        if let Some(problem) = problem {
            let index = (scan.starts.len() + open.len()) as u64;
            // The line's own break may be the first half of the commit's end.
            let in_last_commit = ends_at_first_terminator(&mut input, line.ends_with(b"\n"))?;
            scan.fault = Some(Fault { index, offset, problem, in_last_commit });
            break;
        }
        offset += read as u64;
    }
    Ok(scan)
}

/// Whether no empty line follows except at the very end.
fn ends_at_first_terminator(input: &mut impl BufRead, mut after_break: bool) -> io::Result<bool> {
    let mut ended = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(true);
        }
        for byte in buffer {
            if ended {
                return Ok(false);
            }
            ended = after_break && *byte == b'\n';
            after_break = *byte == b'\n';
        }
        let length = buffer.len();
        input.consume(length);
    }
}

/// A segment file and the sequence number in its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub first: u64,
    pub path: PathBuf,
}

impl SegmentName {
    /// The file's name without its folder.
    pub fn name(&self) -> String {
        file_name(self.first)
    }
}

/// The name of the segment that begins with record `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// The segments of a folder, in order. Files of other names are not segments.
pub(crate) fn list_segments(folder: &Path) -> io::Result<Vec<SegmentName>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jsonl")?.parse().ok())
            .filter(|first| path.ends_with(file_name(*first)));
        if let Some(first) = first {
            segments.push(SegmentName { first, path });
        }
    }
    segments.sort();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> (SegmentScan, usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, bytes).unwrap();
        let mut leaves = 0;
        let scan = scan_segment(&path, |_, _| leaves += 1).unwrap();
        assert_eq!(scan.starts.len(), leaves);
        (scan, leaves)
    }

    #[test]
    fn only_whole_commits_count() {
        for (bytes, records, end) in [
            (&b""[..], 0, 0),
            (b"{}", 0, 0),
            (b"{}\n", 0, 0),
            (b"{}\n\n", 1, 4),
            (b"{}\n{}\n\n{}\n{\"a\"", 2, 7),
        ] {
            let (scan, leaves) = scan(bytes);
            assert!(scan.fault.is_none());
            assert_eq!((leaves, scan.end, scan.length), (records, end, bytes.len() as u64));
        }
    }

    #[test]
    fn a_fault_tells_whether_another_commit_follows() {
        for (bytes, index, offset, last) in [
            (&b"{}\n\n\0\0\0\0"[..], 0, 0, true),
            (b"{}\n\n\0\0\0\n\n", 1, 4, true),
            (b"{}\n\n{}\n\0\0\0\n", 2, 7, true),
            (b"{}\n\n\0\0\0\n\n{", 1, 4, false),
            (b"{}\n\n\0\0\0\n{}\n\n{}\n\n", 1, 4, false),
            (b"\n{}\n\n", 0, 0, true),
        ] {
            let Some(fault) = scan(bytes).0.fault else {
                assert_eq!(index, 0, "an unended line is an unfinished end, not a fault");
                continue;
            };
            assert_eq!((fault.index, fault.offset, fault.in_last_commit), (index, offset, last), "{bytes:?}");
        }
    }
}
