//! Bytes from anywhere: nothing panics, nothing gets in, and the tunnel that stands goes on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use writ_relay::wire::{NodeBytes, RefusedReason, encode_refused};
use writ_schema::event::PathKind;

use super::insider::Insider;
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

/// A first handshake message that was on the wire, for host 1.
fn initiation(world: &World) -> Vec<u8> {
    let seen = world.wire.iter().find_map(|bytes| {
        let inner = bytes.get(17..).filter(|_| bytes[0] == 0xF2)?;
        (inner.len() == 148 && inner[0] == 1).then(|| inner.to_vec())
    });
    seen.expect("a handshake was seen")
}

#[test]
fn a_hundred_thousand_forged_handshakes_are_told_and_tunnels_go_on_and_are_renewed() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.run_until(Duration::from_secs(2), "direct", |w| w.path(1) == Some(PathKind::Direct));
    let forged = initiation(&world);
    let mut strange = forged.clone();
    strange[120] ^= 1;
    let flood = |world: &mut World, bytes: &[u8], count: u32| {
        let now = world.now();
        for number in 0..count {
            let [_, a, b, c] = number.to_be_bytes();
            world.hosts[1].engine.handle_datagram(now, SocketAddr::from(([11, a, b, c], 5)), bytes);
        }
    };
    // Whoever does not know the key costs a hash.
    flood(&mut world, &strange, 100_000);
    assert_eq!((world.status(1).counters.handshakes_limited, world.status(1).flood_since), (0, None));
    let allocated = allocation_counter::measure(|| flood(&mut world, &forged, 100_000));
    assert!(allocated.bytes_max < 256 * 1024, "{allocated:?}");
    let status = world.status(1);
    assert_eq!(status.counters.handshakes_limited, 100_000 - 400);
    let since = status.flood_since.expect("it is told");
    exchange(&mut world);

    // A peer that makes a new tunnel in the middle of it is heard.
    world.run_for(Duration::from_secs(2));
    flood(&mut world, &forged, 20_000);
    let mut insider = Insider::enter(&mut world);
    let (a, b) = addresses(&world);
    assert_eq!(insider.say(&mut world, &tcp(a, b, (4000, 80), 0x10, b"")).len(), 1);
    assert_eq!(world.status(1).flood_since, Some(since), "it is one flood");
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.status(1).flood_since, None, "it is over");
}

/// An IPv4 packet with another header field than it should have.
fn altered(packet: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet
}

/// An IPv6 packet.
fn v6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0, high, low, next, 64], &from.octets()[..], &to.octets(), payload].concat()
}

#[test]
fn a_hostile_peer_gets_nothing_in_but_what_it_was_granted() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    let mut insider = Insider::enter(&mut world);
    let (a, b) = addresses(&world);
    let [a6, b6] = [0, 1].map(|host: usize| world.hosts[host].node.membership.address_v6);
    let syn = tcp(a, b, (4001, 80), SYN, b"");
    assert_eq!(insider.say(&mut world, &syn), std::slice::from_ref(&syn), "what was granted");

    let stranger = Ipv4Addr::new(100, 64, 0, 99);
    let segment = &syn[20..];
    let udp = |port: u16| [&[0x10, 0, 0, port as u8, 0, 8, 0, 0][..]].concat();
    let echo = [8, 0, 0, 0, 0, 1, 0, 1];
    let quoting = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &tcp(b, a, (22, 4009), SYN, b"")[..28]].concat();
    let ip = |number: u8, payload: &[u8]| {
        let mut packet = tcp(a, b, (0, 0), 0, b"");
        packet.truncate(20);
        packet[9] = number;
        packet[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
        [packet, payload.to_vec()].concat()
    };
    // RFC 1858: a first fragment too short for the flags, and a second that writes over the ports of the first.
    let tiny = altered(&ip(6, &segment[..8]), 6, &[0x20, 0]);
    let overlapping = altered(&ip(6, &[0, 22, 0, 22, 0, 0, 0, 0]), 6, &[0x20, 1]);
    let last = altered(&ip(6, segment), 6, &[0, 3]);
    let fragment_v6 = |offset: u8| [&[6, 0, 0, offset, 0, 0, 0, 9][..], segment].concat();
    let attempts = [
        ("from somebody else", tcp(stranger, b, (4001, 80), SYN, b"")),
        ("from this host itself", tcp(b, b, (4001, 80), SYN, b"")),
        ("from its loopback", tcp(Ipv4Addr::LOCALHOST, b, (4001, 80), SYN, b"")),
        ("from everybody", tcp(Ipv4Addr::BROADCAST, b, (4001, 80), SYN, b"")),
        ("to somebody else", tcp(a, stranger, (4001, 80), SYN, b"")),
        ("to its loopback", tcp(a, Ipv4Addr::LOCALHOST, (4001, 80), SYN, b"")),
        ("to a group", tcp(a, Ipv4Addr::new(224, 0, 0, 1), (4001, 80), SYN, b"")),
        ("to everybody", tcp(a, Ipv4Addr::BROADCAST, (4001, 80), SYN, b"")),
        ("another port", tcp(a, b, (4001, 81), SYN, b"")),
        ("another protocol", ip(17, &udp(80))),
        ("an echo", ip(1, &echo)),
        ("an error about nothing", ip(1, &quoting)),
        ("a redirect", ip(1, &[5, 1, 0, 0, 100, 64, 0, 99, 0, 0, 0, 0])),
        ("a tunnel", ip(4, &syn)),
        ("GRE", ip(47, &[0; 8])),
        ("a tiny first fragment", tiny),
        ("an overlapping fragment", overlapping),
        ("a last fragment", last),
        (
            "a source route",
            [&[0x47, 0, 0, 48][..], &syn[4..20], &[131, 7, 4, 100, 64, 0, 99, 0], segment].concat(),
        ),
        ("a packet that ends before its length", altered(&syn, 2, &[0, 200])),
        ("a packet shorter than its header", altered(&syn, 2, &[0, 19])),
        ("half a TCP header", ip(6, &segment[..12])),
        ("IPv6 from somebody else", v6(b6, b6, 6, segment)),
        ("IPv6 to another port", v6(a6, b6, 6, &tcp(a, b, (4001, 81), SYN, b"")[20..])),
        ("IPv6 options", v6(a6, b6, 0, &[&[6, 0, 1, 4, 0, 0, 0, 0][..], segment].concat())),
        ("an IPv6 routing header", v6(a6, b6, 43, &[&[6, 0, 0, 0, 0, 0, 0, 0][..], segment].concat())),
        ("an IPv6 fragment", v6(a6, b6, 44, &fragment_v6(8))),
        ("ICMP in IPv6", v6(a6, b6, 1, &echo)),
        ("a probe in another's name", altered(&ip(253, b"WRP1\0\0\0\0\0\0\0\0\0"), 12, &stranger.octets())),
    ];
    for (what, packet) in attempts {
        let dropped = |world: &World| {
            let counters = world.status(1).counters;
            counters.refused_in + counters.malformed_in
        };
        let before = dropped(&world);
        assert!(insider.say(&mut world, &packet).is_empty(), "{what} got in");
        // What WireGuard itself drops is counted by nobody.
        let is_cut =
            matches!(what, "a packet that ends before its length" | "a packet shorter than its header");
        assert!(dropped(&world) > before || is_cut, "{what} is not counted");
    }
    let again = tcp(a, b, (4002, 80), SYN, b"");
    assert_eq!(
        insider.say(&mut world, &again),
        std::slice::from_ref(&again),
        "and what was granted still passes"
    );
    assert_eq!(insider.say(&mut world, &v6(a6, b6, 6, segment)).len(), 1, "over IPv6 too");
}

/// Repeats, alters, mixes up, sends back, and forges whatever needs no key of others.
fn mischief(to: SocketAddr, bytes: &[u8], seen: &[Vec<u8>]) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut altered = bytes.to_vec();
    if let Some(last) = altered.last_mut() {
        *last ^= 1;
    }
    let renamed = bytes.first().filter(|first| **first == 0xF2).map(|_| {
        let mut renamed = bytes.to_vec();
        renamed[1..17].fill(7);
        renamed
    });
    let older = seen.iter().rev().filter(|datagram| datagram.first() == Some(&0xF2)).nth(7).cloned();
    let refused = encode_refused(RefusedReason::NotBound, NodeBytes([7; 16])).to_vec();
    let sent = [Some(altered), renamed, older, Some(refused), Some(bytes.to_vec()), Some(bytes.to_vec())];
    sent.into_iter().flatten().map(|bytes| (to, bytes)).collect()
}

#[test]
fn a_hostile_relay_neither_reads_nor_alters_nor_repeats_and_is_not_flooded() {
    for seed in 0..4 {
        let mut world = World::new(seed, &[Nat::None, Nat::None]);
        world.hosts[1].direct_is_blocked = true;
        world.hostile_relay = Some(mischief);
        open(&mut world);
        world.run_for(Duration::from_secs(20));
        (0..2).for_each(|host| world.hosts[host].received.clear());
        exchange(&mut world);
        assert_eq!(world.path(0), Some(PathKind::Relayed));
        world.run_for(Duration::from_secs(2));
        assert!((0..2).all(|host| world.hosts[host].received.is_empty()), "something came twice or altered");
        assert!(!world.wire.iter().any(|bytes| bytes.windows(14).any(|part| part == b"the plain text")));
        let hellos = world.wire.iter().filter(|bytes| bytes.first() == Some(&0xF0)).count();
        assert!(hellos < 100, "{hellos} hellos in 23 seconds");
    }
}

#[test]
fn a_relay_that_answers_and_carries_nothing_does_not_keep_peers_apart() {
    for nats in [[Nat::None, Nat::None], [Nat::PortRestricted, Nat::None]] {
        let mut world = World::new(3, &nats);
        world.hostile_relay = Some(|to, bytes, _| {
            let is_data = bytes.first() == Some(&0xF2);
            if is_data { Vec::new() } else { vec![(to, bytes.to_vec())] }
        });
        let (a, b) = addresses(&world);
        world.run_for(Duration::from_secs(1));
        world.send(0, &tcp(a, b, (4000, 80), SYN, b""));
        world.run_until(Duration::from_secs(8), "the first packet arrives", |w| {
            !w.hosts[1].received.is_empty()
        });
        world.hosts[1].received.clear();
        world.run_until(Duration::from_secs(3), "direct", |w| {
            (0..2).all(|host| w.path(host) == Some(PathKind::Direct))
        });
        exchange(&mut world);
    }
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
