//! Reading a segment line by line: which commits are whole, and what is wrong where.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::blocks::SegmentIndex;
use super::damage::Problem;
use super::record::{RecordProblem, check_record};
use super::sealed::{SealedIndex, SealedLines};
use crate::tile::MAX_RECORD_BYTES;
use crate::tree::{Hash, leaf_hash};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What one segment holds.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    /// Where the records of its whole commits are.
    pub index: SegmentIndex,
    /// The length of its lines when it was read.
    pub length: u64,
    /// The first line that is wrong, if any; an unfinished end is not wrong.
    pub fault: Option<Fault>,
}

impl SegmentScan {
    /// Bytes after the last whole commit.
    pub fn unfinished_bytes(&self) -> u64 {
        self.length.saturating_sub(self.index.end())
    }
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

/// Reads a segment and tells where each record of every whole commit begins, and its leaf hash, in order.
pub(crate) fn scan_segment(
    segment: &SegmentFile,
    committed: impl FnMut(u64, Hash),
) -> io::Result<SegmentScan> {
    Ok(match &segment.sealed {
        Some(sealed) => {
            let lines = SealedLines::open(&segment.path, sealed)?;
            let mut scan = scan_lines(lines, segment, sealed.bytes(), committed)?;
            let is_whole = scan.index.next() == sealed.next() && scan.unfinished_bytes() == 0;
            if scan.fault.is_none() && !is_whole {
                let problem = Problem::Frame("it does not hold the records that it should".to_owned());
                let (index, offset) = (scan.index.next() - segment.first, scan.index.end());
                scan.fault = Some(Fault { index, offset, problem, in_last_commit: false });
            }
            if scan.fault.is_none() {
                scan.index = SegmentIndex::sealed(segment.path.clone(), sealed);
            }
            scan
        }
        None => {
            let file = File::open(&segment.path)?;
            let length = file.metadata()?.len();
            // A writer may be appending: what comes after the length seen here is not looked at.
            scan_lines(file.take(length), segment, length, committed)?
        }
    })
}

fn scan_lines(
    lines: impl Read,
    segment: &SegmentFile,
    length: u64,
    mut committed: impl FnMut(u64, Hash),
) -> io::Result<SegmentScan> {
    let mut input = BufReader::with_capacity(READ_BUFFER_BYTES, lines);
    let index = SegmentIndex::plain(segment.first, segment.path.clone());
    let mut scan = SegmentScan { index, length, fault: None };
    let (mut line, mut offset, mut open) = (Vec::new(), 0_u64, Vec::new());
    loop {
        line.clear();
        let read = match input.by_ref().take(MAX_RECORD_BYTES as u64 + 2).read_until(b'\n', &mut line) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let index = scan.index.next() - segment.first + open.len() as u64;
                let problem = Problem::Frame(error.to_string());
                scan.fault = Some(Fault { index, offset, problem, in_last_commit: false });
                break;
            }
            read => read?,
        };
        let problem = match line.split_last() {
            Some((b'\n', [])) if open.is_empty() => Some(Problem::EmptyCommit),
            Some((b'\n', [])) => {
                for (begin, leaf) in open.drain(..) {
                    scan.index.push(begin);
                    committed(u64::from(begin), leaf);
                }
                scan.index.set_end(offset + 1);
                None
            }
            Some((b'\n', record)) => match (check_record(record), u32::try_from(offset)) {
                (Ok(()), Ok(begin)) => {
                    open.push((begin, leaf_hash(record)));
                    None
                }
                (Err(problem), _) => Some(problem.into()),
                (Ok(()), Err(_)) => Some(RecordProblem::TooLarge(read).into()),
            },
            Some(_) if line.len() > MAX_RECORD_BYTES => Some(RecordProblem::TooLarge(line.len()).into()),
            Some(_) | None => break,
        };
        if let Some(problem) = problem {
            let index = scan.index.next() - segment.first + open.len() as u64;
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
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            buffer => buffer?,
        };
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

/// A segment and the sequence number in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    /// The sequence number of its first record.
    pub first: u64,
    pub path: PathBuf,
    /// Where its frames are, if it is sealed.
    pub sealed: Option<SealedIndex>,
    /// A plain copy of a sealed segment, which is kept for a while, or that was left behind in a crash.
    pub plain_copy: Option<PathBuf>,
}

impl SegmentFile {
    /// The file's name without its folder.
    pub fn name(&self) -> String {
        if self.sealed.is_some() { sealed_name(self.first) } else { file_name(self.first) }
    }
}

/// The name of the plain segment that begins with record `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// The name of the sealed segment that begins with record `first`.
pub(crate) fn sealed_name(first: u64) -> String {
    format!("{first:020}.jsonl.zst")
}

/// The segments of a folder, in order. Files of other names are not segments.
///
/// A sealed segment stands before its plain copy, as long as its index is whole.
pub(crate) fn list_segments(folder: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found: std::collections::BTreeMap<u64, (bool, bool)> = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(first) = name.split('.').next().and_then(|digits| digits.parse().ok()) else { continue };
        if name == file_name(first) {
            found.entry(first).or_default().0 = true;
        } else if name == sealed_name(first) {
            found.entry(first).or_default().1 = true;
        }
    }
    let mut segments = Vec::new();
    for (first, (is_plain, is_sealed)) in found {
        let (plain, path) = (folder.join(file_name(first)), folder.join(sealed_name(first)));
        let sealed = match is_sealed.then(|| SealedIndex::read(&path, first)) {
            Some(Ok(None)) if !is_plain => Some(SealedIndex::rebuild(&path, first)?),
            Some(index) => index?,
            None => None,
        };
        segments.push(match sealed {
            Some(sealed) => {
                let plain_copy = is_plain.then_some(plain);
                SegmentFile { first, path, sealed: Some(sealed), plain_copy }
            }
            None => SegmentFile { first, path: plain, sealed: None, plain_copy: None },
        });
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> (SegmentScan, u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, bytes).unwrap();
        let mut leaves = 0;
        let segment = SegmentFile { first: 5, path, sealed: None, plain_copy: None };
        let scan = scan_segment(&segment, |_, _| leaves += 1).unwrap();
        assert_eq!(scan.index.next(), 5 + leaves);
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
            assert_eq!((leaves, scan.index.end(), scan.length), (records, end, bytes.len() as u64));
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
