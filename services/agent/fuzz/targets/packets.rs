//! What a peer whose agent does as it likes can send through its tunnel, and what the programs of this host can send into it.
//!
//! Out of the tunnel comes only what was granted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::insider::Insider;
use crate::simulation::{Nat, World, take_packets};
use crate::tunnels::{SYN, addresses, open, tcp};

use super::acts::{acts, edited};

/// The port that the peer was granted, by TCP.
const GRANTED: [u8; 2] = [0, 80];

/// Plays the acts: 0 and 1 are the peer's packets, the second made of one that is granted; 2 and 3 are this host's, in the same way.
pub fn run(data: &[u8]) {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    let mut insider = Insider::enter(&mut world);
    let (a, b) = addresses(&world);
    let ends = [0, 1].map(|host: usize| {
        let membership = &world.hosts[host].node.membership;
        (membership.address_v4, membership.address_v6)
    });
    let (theirs, ours) = (tcp(a, b, (4001, 80), SYN, b"payload"), tcp(b, a, (80, 4000), 0x10, b"payload"));
    for (kind, bytes) in acts(data).take(64) {
        let packet = match kind & 3 {
            1 => edited(&theirs, bytes),
            3 => edited(&ours, bytes),
            _ => bytes.to_vec(),
        };
        if kind & 2 == 0 {
            for packet in insider.say(&mut world, &packet) {
                assert!(is_granted(&packet, ends[0], ends[1]), "got in: {packet:02x?}");
            }
        } else {
            let now = world.now();
            world.hosts[1].engine.handle_tun_packet(now, &packet);
            for answer in take_packets(&mut world.hosts[1].engine) {
                let (_, to) = addresses_of(&answer).expect("an answer is a packet");
                assert!(addresses_of(&packet).is_some_and(|(from, _)| from == to), "answered: {answer:02x?}");
            }
        }
        while world.hosts[1].engine.poll_transmit().is_some() {}
    }
    let granted = tcp(a, b, (4002, 80), SYN, b"");
    assert_eq!(insider.say(&mut world, &granted), [granted], "what was granted passes still");
}

/// Read again, in another way than the product does.
fn addresses_of(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 =
        |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().map(|it| IpAddr::from(Ipv4Addr::from(*it)));
    let v6 =
        |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().map(|it| IpAddr::from(Ipv6Addr::from(*it)));
    match packet.first()? >> 4 {
        4 => Some((v4(12)?, v4(16)?)),
        6 => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}

type Ends = (Ipv4Addr, Ipv6Addr);

/// TCP to the granted port, or an error about its answers; from the peer and to this host, in a packet that is whole.
fn is_granted(packet: &[u8], (from_v4, from_v6): Ends, (to_v4, to_v6): Ends) -> bool {
    let ends = addresses_of(packet);
    let is_v4 = ends == Some((from_v4.into(), to_v4.into()));
    if !is_v4 && ends != Some((from_v6.into(), to_v6.into())) {
        return false;
    }
    let (number, at) = match is_v4 {
        true if packet[0] == 0x45 && packet[6] & 0x1F == 0 && packet[7] == 0 => (packet[9], 20),
        false if packet[6] == 44 && packet[42] == 0 && packet[43] & 0xF8 == 0 => (packet[40], 48),
        false => (packet[6], 40),
        true => return false,
    };
    let Some(transport) = packet.get(at..) else { return false };
    let quotes_us =
        |at: usize| addresses_of(&transport[at..]).is_some_and(|(from, to)| ends == Some((to, from)));
    match number {
        6 => transport.get(2..4) == Some(&GRANTED) && transport.len() >= 20,
        1 | 58 => transport.len() >= 8 && quotes_us(8),
        _ => false,
    }
}
