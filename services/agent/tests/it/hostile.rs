//! Bytes from anywhere: nothing panics, nothing gets in, and the tunnel that stands goes on.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::simulation::{Nat, Said, World, take_packets};
use super::tunnels::{SYN, addresses, exchange, open, tcp};

fn stranger() -> SocketAddr {
    "203.0.113.99:4444".parse().unwrap()
}

fn relay() -> SocketAddr {
    "198.51.100.1:3478".parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_datagram_and_any_packet_are_dropped_without_harm(
        datagrams in proptest::collection::vec((0_u8..8, proptest::collection::vec(any::<u8>(), 0..1700)), 1..40),
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..40),
    ) {
        let mut world = World::new(1, &[Nat::None, Nat::None]);
        open(&mut world);
        let now = world.now();
        for (kind, mut bytes) in datagrams {
            // Make it look like something of every protocol on the socket.
            let head: &[u8] = match kind {
                0 => &[1, 0, 0, 0],
                1 => &[2, 0, 0, 0],
                2 => &[4, 0, 0, 0],
                3 => &[0xF1],
                4 => &[0xF2],
                5 => &[0xF3],
                6 => &[1, 1, 0, 12, 0x21, 0x12, 0xA4, 0x42],
                _ => &[],
            };
            bytes.splice(0..0, head.iter().copied());
            for from in [stranger(), relay()] {
                world.hosts[1].engine.handle_datagram(now, from, &bytes);
            }
        }
        for packet in packets {
            let (mut v4, mut v6) = (packet.clone(), packet);
            v4.splice(0..0, [0x45]);
            v6.splice(0..0, [0x60]);
            world.hosts[1].engine.handle_tun_packet(now, &v4);
            world.hosts[1].engine.handle_tun_packet(now, &v6);
        }
        prop_assert!(take_packets(&mut world.hosts[1].engine).is_empty());
        exchange(&mut world);
    }

    #[test]
    fn altered_and_replayed_datagrams_change_nothing(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_u8..), 1..60),
    ) {
        let mut world = World::new(1, &[Nat::None, Nat::None]);
        open(&mut world);
        exchange(&mut world);
        let now = world.now();
        let seen = world.wire.clone();
        for (which, at, bits) in changes {
            let whole = which.get(&seen).clone();
            let mut altered = whole.clone();
            let at = at.index(altered.len());
            altered[at] ^= bits;
            for host in 0..2 {
                for from in [stranger(), relay()] {
                    world.hosts[host].engine.handle_datagram(now, from, &altered);
                    world.hosts[host].engine.handle_datagram(now, from, &whole);
                }
                prop_assert!(take_packets(&mut world.hosts[host].engine).is_empty(), "something got in twice or altered");
            }
        }
        world.run_for(Duration::from_millis(100));
        for host in 0..2 {
            world.hosts[host].received.clear();
        }
        exchange(&mut world);
    }
}

#[test]
fn a_flood_of_forged_handshakes_is_limited_and_the_tunnel_goes_on() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    let initiation = world.wire.iter().find_map(|bytes| {
        let inner = bytes.get(17..).filter(|_| bytes[0] == 0xF2)?;
        (inner.len() == 148 && inner[0] == 1).then(|| inner.to_vec())
    });
    let initiation = initiation.expect("a handshake was seen");
    let now = world.now();
    for number in 0..20_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let from = SocketAddr::from(([11, a, b, c], 5));
        world.hosts[1].engine.handle_datagram(now, from, &initiation);
    }
    assert!(world.status(1).counters.handshakes_limited >= 19_000);
    exchange(&mut world);
}

#[test]
fn a_program_that_scans_costs_bounded_requests() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    let (a, b) = addresses(&world);
    world.run_for(Duration::from_secs(1));
    world.lose_session(0);
    for port in 1..5_000 {
        world.send(0, &tcp(a, b, (4000, port), SYN, b""));
    }
    world.connect_session(0);
    world.run_for(Duration::from_secs(1));
    let requests = world.said.iter().filter(|said| matches!(said, Said::Connect { .. })).count();
    assert_eq!(requests, 256);
}
