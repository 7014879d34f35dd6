//! Sealed segments: the lines of a full segment, compressed in frames that can be read singly.
//!
//! ```text
//! <first sequence number, 20 digits>.jsonl.zst = frame … frame index
//!
//! frame   a Zstandard frame (RFC 8878) with checksum: whole lines, about 256 KiB of them
//! index   a skippable frame (magic 0x184D2A5E): JSON, its SHA-256, its length (32 bits, little-endian), "writ/idx"
//! ```
//!
//! `zstdcat FILE | jq` reads it: decompressed, the frames are the plain segment to the byte. The index tells where each frame is
//! and how many records it has, and the edge of the tree after the last record, so that opening a log reads no record.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

use crate::disk::{Disk, DiskFile, replace};
use crate::tree::{Frontier, Hash};

/// A frame takes no further line when it has so many bytes: read and decompressed in a few tenths of a millisecond.
pub(crate) const FRAME_BYTES: usize = 256 * 1024;

/// Compression level, out of 22: see the benchmark for what others give.
const LEVEL: i32 = 12;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const INDEX_MARK: &[u8; 8] = b"writ/idx";
const DIGEST_BYTES: usize = 32;
const TRAILER_BYTES: usize = DIGEST_BYTES + 4 + INDEX_MARK.len();

/// An index that is larger is none: a segment of 4 GiB has 16,384 frames of under 40 bytes here.
const MAX_INDEX_BYTES: u64 = 4 * 1024 * 1024;

/// One frame of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// Its bytes in the file.
    pub stored: u32,
    /// Its bytes decompressed.
    pub bytes: u32,
    /// The records in it.
    pub records: u32,
}

/// What the end of a sealed segment says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedIndex {
    /// The sequence number of its first record.
    pub first: u64,
    pub frames: Vec<Frame>,
    /// Roots of the full subtrees of the tree up to its last record, the largest first. None in an index that was made anew.
    pub peaks: Option<Vec<Hash>>,
}

impl SealedIndex {
    pub fn records(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.records)).sum()
    }

    /// The sequence number after its last record.
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.records())
    }

    /// The bytes of its lines.
    pub fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.bytes)).sum()
    }

    /// The edge of the tree after its last record.
    pub fn frontier(&self) -> Option<Frontier> {
        Frontier::from_peaks(self.next(), self.peaks.clone()?)
    }

    fn stored(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.stored)).sum()
    }

    /// Reads the index of a sealed segment; `None` if it is not whole.
    pub fn read(path: &Path, first: u64) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let Some(trailer_at) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let (digest, rest) = trailer.split_at(DIGEST_BYTES);
        let Some((json_length, mark)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let json_length = u64::from(u32::from_le_bytes(*json_length));
        let Some(at) = trailer_at.checked_sub(json_length).filter(|_| json_length <= MAX_INDEX_BYTES) else {
            return Ok(None);
        };
        let mut json = vec![0; usize::try_from(json_length).unwrap_or_default()];
        file.read_exact_at(&mut json, at)?;
        if mark != INDEX_MARK || Sha256::digest(&json).as_slice() != digest {
            return Ok(None);
        }
        let index: Option<Self> = serde_json::from_slice(&json).ok();
        let fits = |index: &Self| {
            index.first == first
                && !index.frames.is_empty()
                && index.stored() + 8 == at
                && index.bytes() <= u64::from(u32::MAX)
                && index.records() <= u64::from(u32::MAX)
                && index.first.checked_add(index.records()).is_some()
                && index.frontier().is_some()
        };
        Ok(index.filter(fits))
    }

    /// Makes the index anew from the frames, for a file whose own is damaged. Frames end where one is damaged.
    pub fn rebuild(path: &Path, first: u64) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let (mut rest, mut frames) = (bytes.as_slice(), Vec::new());
        while let Ok(stored) = find_frame_compressed_size(rest) {
            let Some((frame, after)) = rest.split_at_checked(stored).filter(|_| stored > 0) else { break };
            let magic = frame.first_chunk::<4>().map_or(0, |magic| u32::from_le_bytes(*magic));
            if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
                break;
            }
            let bound = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten().unwrap_or_default();
            let capacity = usize::try_from(bound).unwrap_or(usize::MAX).min(MAX_FRAME_BYTES);
            let Ok(lines) = Decompressor::new()?.decompress(frame, capacity) else { break };
            let records = count_records(&lines);
            let lengths = (u32::try_from(stored).ok(), u32::try_from(lines.len()).ok());
            let (Some(stored), Some(bytes)) = lengths else { break };
            frames.push(Frame { stored, bytes, records });
            rest = after;
        }
        Ok(Self { first, frames, peaks: None })
    }

    /// Puts this index in the place of a damaged one. The frames stay as they are.
    pub fn renew(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let mut content = std::fs::read(path)?;
        content.truncate(usize::try_from(self.stored()).unwrap_or(usize::MAX));
        content.extend(self.encode()?);
        replace(disk, path, &content)
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let json_length = u32::try_from(json.len()).map_err(too_large)?;
        let payload = u32::try_from(json.len() + TRAILER_BYTES).map_err(too_large)?;
        let mut bytes = SKIPPABLE_MAGIC.to_le_bytes().to_vec();
        bytes.extend(payload.to_le_bytes());
        bytes.extend(&json);
        bytes.extend(Sha256::digest(&json));
        bytes.extend(json_length.to_le_bytes());
        bytes.extend(INDEX_MARK);
        Ok(bytes)
    }
}

/// A frame ends with the line that fills it, and a line has at most 64 KiB.
const MAX_FRAME_BYTES: usize = FRAME_BYTES + 128 * 1024;

fn count_records(lines: &[u8]) -> u32 {
    let count = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Writes a sealed segment.
pub(crate) struct SealedWriter<'a> {
    file: &'a dyn DiskFile,
    compressor: Compressor<'static>,
    lines: Vec<u8>,
    records: u32,
    index: SealedIndex,
    written: u64,
}

impl<'a> SealedWriter<'a> {
    /// Begins one in an empty file.
    pub fn new(file: &'a dyn DiskFile, first: u64) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        let index = SealedIndex { first, frames: Vec::new(), peaks: None };
        Ok(Self { file, compressor, lines: Vec::new(), records: 0, index, written: 0 })
    }

    /// Takes the next record.
    pub fn record(&mut self, record: &[u8]) -> io::Result<()> {
        if self.lines.len() >= FRAME_BYTES {
            self.frame()?;
        }
        self.lines.extend_from_slice(record);
        self.lines.push(b'\n');
        self.records += 1;
        Ok(())
    }

    /// Ends a commit.
    pub fn end_commit(&mut self) {
        self.lines.push(b'\n');
    }

    /// Writes what is left, and the index. The file is not synced yet.
    pub fn finish(mut self, frontier: &Frontier) -> io::Result<SealedIndex> {
        if !self.lines.is_empty() {
            self.frame()?;
        }
        self.index.peaks = Some(frontier.peaks().to_vec());
        self.file.write_all_at(&self.index.encode()?, self.written)?;
        Ok(self.index)
    }

    fn frame(&mut self) -> io::Result<()> {
        let frame = self.compressor.compress(&self.lines)?;
        self.file.write_all_at(&frame, self.written)?;
        self.written += frame.len() as u64;
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        self.index.frames.push(Frame {
            stored: u32::try_from(frame.len()).map_err(too_large)?,
            bytes: u32::try_from(self.lines.len()).map_err(too_large)?,
            records: self.records,
        });
        self.lines.clear();
        self.records = 0;
        Ok(())
    }
}

/// Decompresses successive frames, given stored and raw length of each.
pub(crate) fn decompress_frames(mut stored: &[u8], frames: &[(u64, u64)]) -> io::Result<Vec<u8>> {
    let mut decompressor = Decompressor::new()?;
    let total: u64 = frames.iter().map(|(_, bytes)| bytes).sum();
    let mut lines = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
    for (length, bytes) in frames {
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "a frame does not have its length");
        let (Ok(length), Ok(bytes)) = (usize::try_from(*length), usize::try_from(*bytes)) else {
            return Err(odd());
        };
        let (frame, rest) = stored.split_at_checked(length).ok_or_else(odd)?;
        stored = rest;
        let damaged = |error: io::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let found = decompressor.decompress(frame, bytes).map_err(damaged)?;
        if found.len() != bytes {
            return Err(odd());
        }
        if lines.is_empty() {
            lines = found;
        } else {
            lines.extend_from_slice(&found);
        }
    }
    Ok(lines)
}

/// The lines of a sealed segment, frame by frame. A damaged frame is an error of the kind `InvalidData`.
#[derive(Debug)]
pub(crate) struct SealedLines {
    file: File,
    at: u64,
    frames: std::vec::IntoIter<Frame>,
    lines: io::Cursor<Vec<u8>>,
}

impl SealedLines {
    pub fn open(path: &Path, index: &SealedIndex) -> io::Result<Self> {
        let frames = index.frames.clone().into_iter();
        Ok(Self { file: File::open(path)?, at: 0, frames, lines: io::Cursor::default() })
    }
}

impl Read for SealedLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.lines.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(frame) = self.frames.next() else { return Ok(0) };
            let mut stored = vec![0; frame.stored as usize];
            self.file.read_exact_at(&mut stored, self.at)?;
            self.at += u64::from(frame.stored);
            let lengths = [(u64::from(frame.stored), u64::from(frame.bytes))];
            self.lines = io::Cursor::new(decompress_frames(&stored, &lengths)?);
        }
    }
}
