//! What is written back into the TUN device when a packet may not go: the program learns at once, not by a timeout.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{Packet, Transport, number};

/// Bytes of a refused packet that an ICMP error quotes: enough for any header, and within the least MTU.
const MAX_QUOTED: usize = 512;

/// The refusal of a packet: a reset for an established TCP connection, "administratively prohibited" otherwise.
pub(super) fn refuse(packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    match packet.transport {
        Transport::Ports { tcp: Some(flags), .. } if flags.resets() => None,
        Transport::Ports { tcp: Some(flags), .. } if !flags.opens() => reset(packet, bytes),
        Transport::Error(_) | Transport::OtherIcmp | Transport::Echo { reply: true, .. } => None,
        Transport::Ports { .. } | Transport::Echo { .. } | Transport::Plain => prohibit(packet, bytes),
    }
}

fn prohibit(packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    let quoted = bytes.get(..bytes.len().min(MAX_QUOTED))?;
    let (kind, code, protocol) = match packet.source {
        IpAddr::V4(_) => (3, 13, number::ICMP),
        IpAddr::V6(_) => (1, 1, number::ICMP_V6),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(quoted);
    wrap(packet.destination, packet.source, protocol, message, 2)
}

/// A reset that an established connection believes: its sequence number is what this end awaits (RFC 9293, 3.10.7).
fn reset(packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    let head: &[u8; 20] = bytes.get(packet.transport_at..)?.first_chunk()?;
    let mut segment = Vec::with_capacity(head.len());
    segment.extend_from_slice(&head[2..4]);
    segment.extend_from_slice(&head[0..2]);
    segment.extend_from_slice(&head[8..12]);
    segment.extend_from_slice(&[0; 4]);
    segment.extend_from_slice(&[0x50, 0x04, 0, 0, 0, 0, 0, 0]);
    wrap(packet.destination, packet.source, number::TCP, segment, 16)
}

/// Puts an IP header before a message and fills in the checksums.
pub(super) fn wrap(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    mut message: Vec<u8>,
    checksum_at: usize,
) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    let mut sum = Sum::default();
    if protocol != number::ICMP {
        sum.add_address(source);
        sum.add_address(destination);
        sum.add(&u32::from(length).to_be_bytes());
        sum.add(&u32::from(protocol).to_be_bytes());
    }
    sum.add(&message);
    message.get_mut(checksum_at..)?.first_chunk_mut::<2>()?.copy_from_slice(&sum.finish());
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => wrap_v4(from, to, protocol, &message),
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(wrap_v6(from, to, protocol, &message, length)),
        _ => None,
    }
}

/// Puts an IPv4 header before a message.
pub(super) fn wrap_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    message: &[u8],
) -> Option<Vec<u8>> {
    let total = u16::try_from(message.len().checked_add(20)?).ok()?;
    let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let mut sum = Sum::default();
    sum.add(&header);
    header[10..12].copy_from_slice(&sum.finish());
    Some([&header, message].concat())
}

fn wrap_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, message: &[u8], length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let head = [0x60, 0, 0, 0, high, low, protocol, 64];
    [&head, &source.octets()[..], &destination.octets()[..], message].concat()
}

/// The Internet checksum (RFC 1071). Every part but the last has an even length.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let word = match *pair {
                [high, low] => u16::from_be_bytes([high, low]),
                [high] => u16::from_be_bytes([high, 0]),
                _ => 0,
            };
            self.0 += u64::from(word);
        }
    }

    fn add_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.add(&address.octets()),
            IpAddr::V6(address) => self.add(&address.octets()),
        }
    }

    fn finish(&self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
    }
}
