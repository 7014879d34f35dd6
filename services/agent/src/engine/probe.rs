//! Path probes: small IPv4 packets of protocol 253 between the overlay addresses, inside the tunnel. They never leave it.

use std::net::Ipv4Addr;

use super::answer::wrap_v4;
use super::packet::number;

const MAGIC: [u8; 4] = *b"WRP1";

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
        let (kind, id) = match self {
            Self::Ping(id) => (1, id),
            Self::Pong(id) => (2, id),
        };
        let message = [&MAGIC[..], &[kind, 0, 0, 0], &id.to_be_bytes()].concat();
        wrap_v4(from, to, number::PROBE, &message)
    }

    /// Reads what follows the IP header.
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
