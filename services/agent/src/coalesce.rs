//! Puts packets that follow each other in one flow together, as the kernel takes them: up to 64 KiB in one write, which then
//! go through its network stack as one.
//!
//! Nothing is copied: a run is written from where its packets are, the first with its headers, the others without. Only what
//! the kernel would cut up into the very same packets is put together: the same headers, the next bytes of the stream, a
//! checksum that is right, and segments of one length of which the last may be shorter.

use tun_rs::{VIRTIO_NET_HDR_LEN, checksum, checksum_no_fold};

use crate::engine::HEADROOM;

/// Most packets in a run: as many as Linux cuts a datagram up into (`UDP_MAX_SEGMENTS` of older kernels).
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes of a run: what the length of an IP packet can say.
const MAX_BYTES: usize = 65_535;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

// virtio_net.h
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;

/// Packets to be written together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many of the first packets.
    pub packets: usize,
    /// The headers, which only the first packet is written with.
    pub header_bytes: usize,
}

/// Finds how many of the first packets go together, and prepares the first one's headers, the device's before it included. Each
/// packet is behind [`HEADROOM`] bytes.
pub fn first_run(packets: &mut [Vec<u8>], takes_udp: bool) -> Run {
    let run = packets.first().and_then(|first| find(first, packets, takes_udp));
    let Some(first) = packets.first_mut() else { return Run { packets: 0, header_bytes: 0 } };
    match run {
        Some((head, joined)) => {
            let prepared = head.prepare(first, joined);
            let packets = if prepared.is_some() { joined.packets } else { 1 };
            Run { packets, header_bytes: head.header_bytes }
        }
        None => {
            if let Some(device) = device_header(first) {
                device.fill(0);
            }
            Run { packets: 1, header_bytes: 0 }
        }
    }
}

fn device_header(packet: &mut [u8]) -> Option<&mut [u8]> {
    packet.get_mut(HEADROOM.checked_sub(VIRTIO_NET_HDR_LEN)?..HEADROOM)
}

/// What a run has come to.
#[derive(Debug, Clone, Copy)]
struct Joined {
    packets: usize,
    bytes: usize,
    is_pushed: bool,
}

/// The run that begins with the first packet, if it is of more than one.
fn find(first: &[u8], packets: &[Vec<u8>], takes_udp: bool) -> Option<(Segment, Joined)> {
    let first = first.get(HEADROOM..)?;
    let head = Segment::of(first).filter(|head| head.number == TCP || takes_udp)?;
    let mut joined = Joined { packets: 1, bytes: first.len(), is_pushed: head.is_pushed };
    let mut is_open = !head.is_pushed;
    for packet in packets.get(1..MAX_SEGMENTS.min(packets.len()))? {
        let Some(packet) = packet.get(HEADROOM..).filter(|_| is_open) else { break };
        let Some(next) = Segment::of(packet) else { break };
        let sent = joined.bytes.saturating_sub(head.header_bytes);
        if !head.continues(first, &next, packet, sent) || joined.bytes + next.payload > MAX_BYTES {
            break;
        }
        if !next.is_intact(packet) || (joined.packets == 1 && !head.is_intact(first)) {
            break;
        }
        joined = Joined {
            packets: joined.packets + 1,
            bytes: joined.bytes + next.payload,
            is_pushed: next.is_pushed,
        };
        is_open = next.payload == head.payload && !next.is_pushed;
    }
    (joined.packets > 1).then_some((head, joined))
}

/// A packet that others may follow in one run: data of TCP or UDP behind plain headers.
#[derive(Debug, Clone, Copy)]
struct Segment {
    is_v4: bool,
    number: u8,
    transport_at: usize,
    header_bytes: usize,
    payload: usize,
    sequence: u32,
    is_pushed: bool,
}

impl Segment {
    fn of(packet: &[u8]) -> Option<Self> {
        let (is_v4, number, transport_at, length) = match packet.first()? {
            // Without options, and not a fragment.
            0x45 if packet.get(6)? & 0x3F == 0 && *packet.get(7)? == 0 => {
                (true, *packet.get(9)?, 20, usize::from(number_at(packet, 2)?))
            }
            first if first >> 4 == 6 => {
                (false, *packet.get(6)?, 40, usize::from(number_at(packet, 4)?).saturating_add(40))
            }
            _ => return None,
        };
        let transport = packet.get(transport_at..).filter(|_| length == packet.len())?;
        let (transport_bytes, sequence, is_pushed) = match number {
            TCP => {
                let flags = *transport.get(13)?;
                let is_data = flags & !PSH == ACK;
                let bytes = usize::from(transport.get(12).filter(|_| is_data)? >> 4) * 4;
                let sequence = u32::from_be_bytes(*transport.get(4..)?.first_chunk()?);
                (Some(bytes).filter(|bytes| *bytes >= 20)?, sequence, flags & PSH != 0)
            }
            // Without a checksum there is nothing to go by.
            UDP if usize::from(number_at(transport, 4)?) == transport.len()
                && number_at(transport, 6)? != 0 =>
            {
                (8, 0, false)
            }
            _ => return None,
        };
        let payload = transport.len().checked_sub(transport_bytes).filter(|payload| *payload > 0)?;
        let header_bytes = transport_at + transport_bytes;
        Some(Self { is_v4, number, transport_at, header_bytes, payload, sequence, is_pushed })
    }

    /// Whether `next` could have been cut from the same packet, `sent` bytes of payload behind its beginning.
    fn continues(&self, first: &[u8], next: &Self, packet: &[u8], sent: usize) -> bool {
        // All but lengths, checksums, IPv4's identification, TCP's sequence number and flags.
        let same: &[std::ops::Range<usize>] = match (self.is_v4, self.number) {
            (true, TCP) => &[0..2, 6..10, 12..24, 28..33, 34..36, 38..self.header_bytes],
            (true, _) => &[0..2, 6..10, 12..24],
            (false, TCP) => &[0..4, 6..44, 48..53, 54..56, 58..self.header_bytes],
            (false, _) => &[0..4, 6..44],
        };
        let follows = self.number != TCP
            || u32::try_from(sent).is_ok_and(|sent| next.sequence == self.sequence.wrapping_add(sent));
        next.header_bytes == self.header_bytes
            && next.payload <= self.payload
            && follows
            && same.iter().all(|range| first.get(range.clone()) == packet.get(range.clone()))
    }

    fn is_intact(&self, packet: &[u8]) -> bool {
        let transport = packet.get(self.transport_at..).unwrap_or_default();
        checksum(transport, self.pseudo_header(packet, transport.len())) == u16::MAX
    }

    /// The sum over the pseudo-header (RFC 9293, 3.1), not folded.
    fn pseudo_header(&self, packet: &[u8], length: usize) -> u64 {
        let addresses = if self.is_v4 { packet.get(12..20) } else { packet.get(8..40) };
        checksum_no_fold(addresses.unwrap_or_default(), u64::from(self.number).saturating_add(length as u64))
    }

    /// Writes the headers of the whole run. Of the checksum there is the pseudo-header's part alone: the kernel does the rest.
    fn prepare(&self, first: &mut [u8], joined: Joined) -> Option<()> {
        let length = u16::try_from(joined.bytes).ok()?;
        let transport_length = u16::try_from(joined.bytes.checked_sub(self.transport_at)?).ok()?;
        let checksum_at = if self.number == TCP { 16 } else { 6 };
        let packet = first.get_mut(HEADROOM..)?;
        if self.is_v4 {
            put(packet, 2, length)?;
            put(packet, 10, 0)?;
            let sum = !checksum(packet.get(..self.transport_at)?, 0);
            put(packet, 10, sum)?;
        } else {
            put(packet, 4, transport_length)?;
        }
        let pseudo_header = checksum(&[], self.pseudo_header(packet, usize::from(transport_length)));
        put(packet, self.transport_at + checksum_at, pseudo_header)?;
        match self.number {
            TCP if joined.is_pushed => *packet.get_mut(self.transport_at + 13)? |= PSH,
            TCP => {}
            _ => put(packet, self.transport_at + 4, transport_length)?,
        }
        let kind = match (self.number, self.is_v4) {
            (TCP, true) => GSO_TCP_V4,
            (TCP, false) => GSO_TCP_V6,
            _ => GSO_UDP,
        };
        let device = device_header(first)?;
        device.get_mut(..2)?.copy_from_slice(&[NEEDS_CHECKSUM, kind]);
        let numbers = [self.header_bytes, self.payload, self.transport_at, checksum_at];
        for (field, number) in device.get_mut(2..)?.chunks_exact_mut(2).zip(numbers) {
            // In the byte order of the machine, as the device was not told otherwise.
            field.copy_from_slice(&u16::try_from(number).ok()?.to_ne_bytes());
        }
        Some(())
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put(bytes: &mut [u8], at: usize, number: u16) -> Option<()> {
    bytes.get_mut(at..)?.get_mut(..2)?.copy_from_slice(&number.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const HOSTS: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::new(100, 64, 0, 2));

    /// A packet behind its headroom, with right checksums.
    fn ip_packet(is_v4: bool, number: u8, mut transport: Vec<u8>) -> Vec<u8> {
        let length = u16::try_from(transport.len()).unwrap();
        let mut header = if is_v4 {
            let [high, low] = (length + 20).to_be_bytes();
            let fixed = [0x45, 0, high, low, 9, 9, 0x40, 0, 64, number, 0, 0];
            [&fixed[..], &HOSTS.0.octets(), &HOSTS.1.octets()].concat()
        } else {
            let [high, low] = length.to_be_bytes();
            let (from, to) = (Ipv6Addr::from([1; 16]), Ipv6Addr::from([2; 16]));
            [&[0x60, 0, 0, 0, high, low, number, 64][..], &from.octets(), &to.octets()].concat()
        };
        if is_v4 {
            let sum = !checksum(&header, 0);
            put(&mut header, 10, sum).unwrap();
        }
        let at = if number == TCP { 16 } else { 6 };
        let addresses = if is_v4 { &header[12..20] } else { &header[8..40] };
        let pseudo_header = checksum_no_fold(addresses, u64::from(number) + u64::from(length));
        let sum = !checksum(&transport, pseudo_header);
        put(&mut transport, at, sum).unwrap();
        [&[0xEE; HEADROOM][..], &header, &transport].concat()
    }

    fn tcp(is_v4: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = [&[15, 160, 0, 80][..], &sequence.to_be_bytes(), &[0, 0, 0, 7]].concat();
        // Twelve bytes of options, as Linux sends them.
        header.extend([0x80, flags, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
        header.extend_from_slice(payload);
        ip_packet(is_v4, TCP, header)
    }

    fn udp(is_v4: bool, payload: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(payload.len() + 8).unwrap().to_be_bytes();
        ip_packet(is_v4, UDP, [&[15, 160, 0, 53, high, low, 0, 0][..], payload].concat())
    }

    /// The bytes of a run as they are written.
    fn written(packets: &[Vec<u8>], run: Run) -> Vec<u8> {
        let first = packets[0][HEADROOM - VIRTIO_NET_HDR_LEN..].to_vec();
        let others = packets[1..run.packets].iter();
        others.fold(first, |bytes, packet| [&bytes, &packet[HEADROOM + run.header_bytes..]].concat())
    }

    /// Cuts a run up again, by a program of others.
    fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut header = tun_rs::VirtioNetHdr::decode(bytes).unwrap();
        let mut input = bytes[VIRTIO_NET_HDR_LEN..].to_vec();
        let is_v6 = input[0] >> 4 == 6;
        if header.gso_type == 0 {
            return vec![input];
        }
        header.hdr_len = header.hdr_len.max(header.csum_start);
        let (mut out, mut sizes) = (vec![vec![0; 2048]; 128], vec![0; 128]);
        let count = tun_rs::gso_split(&mut input, header, &mut out, &mut sizes, 0, is_v6).unwrap();
        out.iter().zip(&sizes).take(count).map(|(packet, size)| packet[..*size].to_vec()).collect()
    }

    /// The lengths of all runs, each of which the kernel would cut up into what was put together.
    fn runs(mut packets: Vec<Vec<u8>>) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !packets.is_empty() {
            let before = packets.clone();
            let run = first_run(&mut packets, true);
            let pieces = cut(&written(&packets, run));
            assert_eq!(pieces.len(), run.packets);
            for (piece, packet) in pieces.iter().zip(&before) {
                // IPv4's identification goes up by one, which changes its checksum.
                let from = if piece[0] == 0x45 { 12 } else { 0 };
                assert_eq!(piece[from..], packet[HEADROOM + from..]);
            }
            lengths.push(run.packets);
            packets.drain(..run.packets);
        }
        lengths
    }

    #[test]
    fn the_packets_of_a_stream_go_together_and_come_apart_as_they_were() {
        for is_v4 in [true, false] {
            let at = |number: u32| (u32::MAX - 1_000).wrapping_add(number * 1_200);
            let mut packets: Vec<_> = (0..40).map(|it| tcp(is_v4, at(it), ACK, &[it as u8; 1_200])).collect();
            packets.push(tcp(is_v4, at(40), ACK | PSH, &[9; 333]));
            assert_eq!(runs(packets), [41]);
            let datagrams = [[1; 700], [2; 700], [3; 700]].map(|payload| udp(is_v4, &payload));
            assert_eq!(runs([&datagrams[..], &[udp(is_v4, &[4; 5]), udp(is_v4, &[5; 5])]].concat()), [4, 1]);
        }
    }

    #[test]
    fn what_the_kernel_would_not_cut_up_the_same_way_is_not_put_together() {
        let data = |sequence| tcp(true, sequence, ACK, &[1; 100]);
        let altered = |at: usize, value: u8| {
            let mut packet = data(100)[HEADROOM + 20..].to_vec();
            packet[at] = value;
            packet[16..18].fill(0);
            ip_packet(true, TCP, packet)
        };
        assert_eq!(runs(vec![data(0), data(100), data(200)]), [3]);
        assert_eq!(runs(vec![data(0), data(200)]), [1, 1], "a gap");
        assert_eq!(runs(vec![data(100), data(0)]), [1, 1], "the wrong order");
        assert_eq!(runs(vec![tcp(true, 0, ACK | PSH, &[1; 100]), data(100)]), [1, 1], "after a push");
        assert_eq!(runs(vec![data(0), tcp(true, 100, ACK, &[1; 101])]), [1, 1], "a longer one");
        assert_eq!(
            runs(vec![data(0), tcp(true, 100, ACK, &[1; 99]), data(199)]),
            [2, 1],
            "after a shorter one"
        );
        assert_eq!(runs(vec![data(0), tcp(true, 100, ACK, &[])]), [1, 1], "no data");
        for (at, value) in [(1, 1), (11, 8), (13, 0x11), (13, 0x14), (14, 9), (31, 9)] {
            assert_eq!(runs(vec![data(0), altered(at, value)]), [1, 1], "another byte {at} of TCP's header");
        }
        for at in [1, 8, 15, 19] {
            let mut other = data(100);
            other[HEADROOM + at] ^= 1;
            assert_eq!(first_run(&mut [data(0), other], true).packets, 1, "another byte {at} of IP's header");
        }
        for damaged in 0..2 {
            let mut packets = [data(0), data(100)];
            *packets[damaged].last_mut().unwrap() ^= 1;
            assert_eq!(first_run(&mut packets, true).packets, 1, "a wrong checksum");
        }
        assert_eq!(first_run(&mut [udp(true, &[1; 9]), udp(true, &[1; 9])], false).packets, 1);
    }

    #[test]
    fn a_run_is_bounded() {
        let small = (0..100).map(|number| tcp(true, number * 10, ACK, &[1; 10])).collect();
        assert_eq!(runs(small), [64, 36]);
        let long = (0..60).map(|number| tcp(true, number * 1_400, ACK, &[1; 1_400])).collect();
        assert_eq!(runs(long), [46, 14]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_taken_without_panic(
            packets in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()], 0..90), 0..4),
        ) {
            let mut packets: Vec<_> = packets.into_iter().map(|bytes| [&[0; HEADROOM], &bytes[..]].concat()).collect();
            let run = first_run(&mut packets, true);
            prop_assert!(run.packets <= packets.len() && (run.packets > 0 || packets.is_empty()));
        }
    }
}
