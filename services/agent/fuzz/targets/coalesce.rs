//! What peers make the agent write into its TUN device in one go.
//!
//! Whatever is put together, a program of others cuts up into the very packets that it was made of.

use tun_rs::{VIRTIO_NET_HDR_LEN, VirtioNetHdr, gso_split};
use writ_agent::coalesce::first_run;
use writ_agent::engine::HEADROOM;

use super::acts::{acts, edited};

/// Plays the acts: 0 is a packet, 1 the packet before with edits, of which it is the next in the stream with 3.
pub fn run(data: &[u8]) {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for (kind, bytes) in acts(data).take(100) {
        let before = packets.last().map_or(&[][..], |packet| &packet[HEADROOM..]);
        let packet = match kind & 3 {
            1 => edited(before, bytes),
            3 => next_of(before).unwrap_or_default(),
            _ => bytes.to_vec(),
        };
        packets.push([&[0; HEADROOM][..], &packet].concat());
    }
    for takes_udp in [true, false] {
        let mut rest = packets.clone();
        while !rest.is_empty() {
            let before = rest.clone();
            let run = first_run(&mut rest, takes_udp);
            assert!((1..=rest.len()).contains(&run.packets));
            if run.packets > 1 {
                let head = rest[0][HEADROOM - VIRTIO_NET_HDR_LEN..].to_vec();
                let others = rest[1..run.packets].iter().map(|packet| &packet[HEADROOM + run.header_bytes..]);
                let written = others.fold(head, |bytes, payload| [&bytes, payload].concat());
                check(&written, &before[..run.packets]);
            }
            rest.drain(..run.packets);
        }
    }
}

/// The next segment of a stream without options in its IPv4 header, with a checksum that is right.
fn next_of(before: &[u8]) -> Option<Vec<u8>> {
    let mut next = before.to_vec();
    let header = 20 + usize::from(before.get(32)? >> 4) * 4;
    let payload = u32::try_from(before.len().checked_sub(header)?).ok()?;
    let sequence = u32::from_be_bytes(*before.get(24..)?.first_chunk()?).wrapping_add(payload);
    next.get_mut(24..28)?.copy_from_slice(&sequence.to_be_bytes());
    next.get_mut(36..38)?.fill(0);
    let length = u64::try_from(next.len().checked_sub(20)?).ok()?;
    let pseudo = tun_rs::checksum_no_fold(next.get(12..20)?, 6 + length);
    let sum = !tun_rs::checksum(next.get(20..)?, pseudo);
    next.get_mut(36..38)?.copy_from_slice(&sum.to_be_bytes());
    Some(next)
}

fn check(written: &[u8], packets: &[Vec<u8>]) {
    let mut header = VirtioNetHdr::decode(written).expect("a device's header");
    let mut input = written[VIRTIO_NET_HDR_LEN..].to_vec();
    let is_v6 = input[0] >> 4 == 6;
    header.hdr_len = header.hdr_len.max(header.csum_start);
    let (mut out, mut sizes) = (vec![vec![0; 65_536]; 128], vec![0; 128]);
    let count = gso_split(&mut input, header, &mut out, &mut sizes, 0, is_v6).expect("it can be cut up");
    assert_eq!(count, packets.len());
    for ((piece, size), packet) in out.iter().zip(&sizes).zip(packets) {
        // IPv4's identification goes up by one, which changes its checksum.
        let from = if piece[0] >> 4 == 4 { 12 } else { 0 };
        assert_eq!(piece[from..*size], packet[HEADROOM + from..]);
    }
}
