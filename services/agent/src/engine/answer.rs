//! What is written back into the TUN device when a packet may not go: the program learns at once, not by a timeout.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{Packet, Transport, number};

/// Bytes of a refused packet that an ICMP error quotes: enough for any header, and within the least MTU.
const MAX_QUOTED: usize = 512;
/// In the seventh byte of an IPv4 header.
const DONT_FRAGMENT: u8 = 0x40;

/// The refusal of a packet: a reset for an established TCP connection, "administratively prohibited" otherwise.
pub(super) fn refuse(packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    // RFC 1122, 3.2.2: nobody answers to what is for many.
    let is_for_many = packet.destination.is_multicast() || packet.destination == Ipv4Addr::BROADCAST;
    match packet.transport {
        _ if is_for_many => None,
        Transport::Ports { tcp: Some(flags), .. } if flags.resets() => None,
        Transport::Ports { tcp: Some(flags), .. } if !flags.opens() => reset(packet, bytes),
        Transport::Error(_) | Transport::OtherIcmp | Transport::Echo { reply: true, .. } => None,
        Transport::Ports { .. } | Transport::Echo { .. } | Transport::Plain => prohibit(packet, bytes),
    }
}

/// The answer to a packet that is too long for its path: how long one may be (RFC 1191, RFC 8201). None to one that may be cut
/// in two on its way, and to errors.
pub(super) fn too_long(packet: &Packet, bytes: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let is_error = matches!(packet.transport, Transport::Error(_) | Transport::OtherIcmp);
    let may_be_cut = packet.source.is_ipv4() && bytes.get(6)? & DONT_FRAGMENT == 0;
    if is_error || may_be_cut {
        return None;
    }
    error(packet, bytes, [(3, 4), (2, 0)], u32::try_from(mtu).ok()?)
}

fn prohibit(packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    error(packet, bytes, [(3, 13), (1, 1)], 0)
}

/// An ICMP error about a packet: type and code of each version, and the number that its header has room for.
fn error(packet: &Packet, bytes: &[u8], [v4, v6]: [(u8, u8); 2], number: u32) -> Option<Vec<u8>> {
    let ((kind, code), protocol) = match packet.source {
        IpAddr::V4(_) => (v4, number::ICMP),
        IpAddr::V6(_) => (v6, number::ICMP_V6),
    };
    let mut message = vec![kind, code, 0, 0];
    message.extend(number.to_be_bytes());
    message.extend_from_slice(bytes.get(..bytes.len().min(MAX_QUOTED))?);
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

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{OURS, THEIRS, icmp, tcp, v4, v6};
    use super::*;

    /// What a receiver computes over bytes that hold their own checksum: zero, if it is right.
    fn residue(parts: &[&[u8]]) -> [u8; 2] {
        let mut sum = Sum::default();
        for part in parts {
            sum.add(part);
        }
        sum.finish()
    }

    fn refusal(bytes: &[u8]) -> Option<Vec<u8>> {
        refuse(&Packet::parse(bytes).unwrap(), bytes)
    }

    #[test]
    fn a_new_connection_is_answered_with_prohibited_in_both_families() {
        let packet = v4(OURS, THEIRS, number::TCP, &tcp(4000, 80, 0x02));
        let answer = refusal(&packet).unwrap();
        assert_eq!(Packet::parse(&answer).unwrap().destination, IpAddr::from(OURS));
        assert_eq!(&answer[20..22], &[3, 13]);
        assert_eq!(&answer[28..], &packet[..]);
        assert_eq!((residue(&[&answer[..20]]), residue(&[&answer[20..]])), ([0, 0], [0, 0]));

        let (from, to) = (Ipv6Addr::from([1; 16]), Ipv6Addr::from([2; 16]));
        let answer = refusal(&v6(from, to, number::TCP, &tcp(4000, 80, 0x02))).unwrap();
        assert_eq!(&answer[40..42], &[1, 1]);
        let length = u32::try_from(answer.len() - 40).unwrap().to_be_bytes();
        let pseudo = [&answer[8..40], &length, &[0, 0, 0, number::ICMP_V6]].concat();
        assert_eq!(residue(&[&pseudo, &answer[40..]]), [0, 0]);
    }

    #[test]
    fn an_established_connection_is_reset_with_the_number_it_awaits() {
        let answer = refusal(&v4(OURS, THEIRS, number::TCP, &tcp(4000, 80, 0x10))).unwrap();
        let segment = &answer[20..];
        assert_eq!(&segment[..4], &[0, 80, 0x0f, 0xa0], "ports change places");
        assert_eq!((&segment[4..8], segment[13]), (&[0, 0, 0, 2][..], 0x04));
        let pseudo = [&answer[12..20], &[0, number::TCP, 0, 20]].concat();
        assert_eq!(residue(&[&pseudo, segment]), [0, 0]);
    }

    #[test]
    fn a_packet_that_is_too_long_is_told_how_long_it_may_be_unless_it_may_be_cut() {
        let told = |bytes: &[u8]| too_long(&Packet::parse(bytes).unwrap(), bytes, 1328);
        let mut packet = v4(OURS, THEIRS, number::TCP, &tcp(4000, 80, 0x10));
        let answer = told(&packet).unwrap();
        assert_eq!(Packet::parse(&answer).unwrap().destination, IpAddr::from(OURS));
        assert_eq!((&answer[20..22], &answer[24..28]), (&[3, 4][..], &1328_u32.to_be_bytes()[..]));
        assert_eq!((residue(&[&answer[..20]]), residue(&[&answer[20..]])), ([0, 0], [0, 0]));
        packet[6] = 0;
        assert_eq!(told(&packet), None);
        assert_eq!(told(&v4(OURS, THEIRS, number::ICMP, &icmp(3, 0, b""))), None);
        let (from, to) = (Ipv6Addr::from([1; 16]), Ipv6Addr::from([2; 16]));
        let answer = told(&v6(from, to, number::TCP, &tcp(4000, 80, 0x10))).unwrap();
        assert_eq!((&answer[40..42], &answer[44..48]), (&[2, 0][..], &1328_u32.to_be_bytes()[..]));
    }

    #[test]
    fn resets_and_errors_are_not_answered() {
        assert_eq!(refusal(&v4(OURS, THEIRS, number::TCP, &tcp(4000, 80, 0x04))), None);
        assert_eq!(refusal(&v4(OURS, THEIRS, number::ICMP, &icmp(3, 0, b""))), None);
        assert_eq!(refusal(&v4(OURS, THEIRS, number::ICMP, &icmp(0, 7, b""))), None);
    }
}
