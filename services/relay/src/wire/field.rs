//! Fields of a message, read and written in order.

use super::{NodeBytes, WireError};

/// Takes fields off the front; `bytes` is what is left after the first byte.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) kind: &'static str,
}

impl Reader<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or_else(|| self.wrong_length())?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(super) fn node(&mut self) -> Result<NodeBytes, WireError> {
        self.array().map(NodeBytes)
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.wrong_length()) }
    }

    pub(super) fn wrong_length(&self) -> WireError {
        WireError::Length { kind: self.kind, bytes: self.bytes.len() }
    }
}

/// Fills a message of known greatest length.
pub(super) struct Writer<const N: usize> {
    pub(super) bytes: [u8; N],
    pub(super) length: usize,
}

impl<const N: usize> Writer<N> {
    pub(super) fn new(kind: u8) -> Self {
        let mut writer = Self { bytes: [0; N], length: 0 };
        writer.put(&[kind]);
        writer
    }

    pub(super) fn put(&mut self, part: &[u8]) {
        let end = self.length.saturating_add(part.len());
        // Every caller's parts add up to at most N, which the round-trip tests show.
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        }
    }
}
