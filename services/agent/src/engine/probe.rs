//! Path probes: small IPv4 packets of protocol 253 between the overlay addresses, inside the tunnel. They never leave it.

use std::net::Ipv4Addr;

use super::answer::wrap_v4;
use super::packet::number;

const MAGIC: [u8; 4] = *b"WRP1";
const IP_HEADER_BYTES: usize = 20;

/// Whether a probe asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// "Can you hear me here?"
    Ping(u64),
    /// "I can", with the number of the ping, by the way it came.
    Pong(u64),
}

impl Probe {
    /// The inner packet.
    pub fn encode(self, from: Ipv4Addr, to: Ipv4Addr) -> Option<Vec<u8>> {
        wrap_v4(from, to, number::PROBE, &self.message())
    }

    /// The inner packet, filled up to a length.
    pub fn encode_padded(self, from: Ipv4Addr, to: Ipv4Addr, length: usize) -> Option<Vec<u8>> {
        let mut message = self.message();
        message.resize(length.checked_sub(IP_HEADER_BYTES)?.max(message.len()), 0);
        wrap_v4(from, to, number::PROBE, &message)
    }

    fn message(self) -> Vec<u8> {
        let (kind, id) = match self {
            Self::Ping(id) => (1, id),
            Self::Pong(id) => (2, id),
        };
        [&MAGIC[..], &[kind, 0, 0, 0], &id.to_be_bytes()].concat()
    }

    /// Reads what follows the IP header. What it is filled up with is not looked at.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (magic, rest) = message.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let id = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        match (*magic == MAGIC, kind[0]) {
            (true, 1) => Some(Self::Ping(id)),
            (true, 2) => Some(Self::Pong(id)),
            _ => None,
        }
    }
}
