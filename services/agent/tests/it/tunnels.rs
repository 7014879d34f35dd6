//! From the first packet to the last, over a simulated network.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use writ_agent::engine::RelayTransport;
use writ_relay::wire::HELLO_INTERVAL;
use writ_schema::event::{AcknowledgedAction, CloseReason, PathKind};

use super::simulation::{Nat, Said, World};

const SECOND: Duration = Duration::from_secs(1);
pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const SECRET_TEXT: &[u8] = b"the plain text of a connection";

/// A TCP segment. The filter does not look at checksums.
pub fn tcp(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(40 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

pub fn addresses(world: &World) -> (Ipv4Addr, Ipv4Addr) {
    (world.hosts[0].node.membership.address_v4, world.hosts[1].node.membership.address_v4)
}

/// Opens a connection from host 0 to port 80 of host 1.
pub fn open(world: &mut World) {
    let (a, b) = addresses(world);
    world.run_for(SECOND);
    world.send(0, &tcp(a, b, (4000, 80), SYN, b""));
    world.run_until(SECOND, "the first packet arrives", |w| w.hosts[1].received.pop_front().is_some());
    world.send(1, &tcp(b, a, (80, 4000), SYN_ACK, b""));
    world.run_until(SECOND, "the answer arrives", |w| w.hosts[0].received.pop_front().is_some());
}

/// One packet each way must pass.
pub fn exchange(world: &mut World) {
    let (a, b) = addresses(world);
    world.send(0, &tcp(a, b, (4000, 80), ACK, SECRET_TEXT));
    world.run_until(SECOND, "a packet passes", |w| w.hosts[1].received.pop_front().is_some());
    world.send(1, &tcp(b, a, (80, 4000), ACK, SECRET_TEXT));
    world.run_until(SECOND, "its answer passes", |w| w.hosts[0].received.pop_front().is_some());
}

fn is_direct(world: &mut World) -> bool {
    (0..2).all(|host| world.path(host) == Some(PathKind::Direct))
}

#[test]
fn the_first_packet_is_asked_for_relayed_and_then_direct() {
    for nats in
        [[Nat::None, Nat::None], [Nat::PortRestricted, Nat::None], [Nat::PortRestricted, Nat::PortRestricted]]
    {
        for seed in 0..4 {
            let mut world = World::new(seed, &nats);
            open(&mut world);
            assert_eq!(world.said.iter().filter(|said| matches!(said, Said::Connect { .. })).count(), 1);
            for host in 0..2 {
                let established = Said::Acknowledged { host, action: AcknowledgedAction::Established };
                assert!(world.said.contains(&established));
            }
            world.run_until(2 * SECOND, &format!("direct through {nats:?}"), is_direct);
            exchange(&mut world);
        }
    }
}

#[test]
fn where_no_udp_passes_the_relay_is_reached_over_a_stream_and_udp_is_taken_again_when_it_passes() {
    let transport = |world: &World| world.status(0).relay_transport;
    for seed in 0..8 {
        let mut world = World::new(seed, &[Nat::PortRestricted, Nat::None]);
        world.hosts[0].udp_is_blocked = true;
        world.run_until(SECOND, "a stream", |w| transport(w) == Some(RelayTransport::Tls));
        open(&mut world);
        exchange(&mut world);
        assert_eq!(world.path(0), Some(PathKind::Relayed));
        let loopback = |w: &World| w.status(0).observed.iter().any(|address| address.ip().is_loopback());
        assert!(!loopback(&world), "the other end of the stream is no address of this node");

        world.hosts[0].udp_is_blocked = false;
        world.run_until(40 * SECOND, "UDP again", |w| transport(w) == Some(RelayTransport::Udp));
        world.run_until(2 * SECOND, "direct", is_direct);
        exchange(&mut world);
    }
}

#[test]
fn udp_that_is_blocked_later_is_noticed_by_the_next_hello() {
    let mut world = World::new(1, &[Nat::PortRestricted, Nat::Symmetric]);
    open(&mut world);
    assert_eq!(world.status(0).relay_transport, Some(RelayTransport::Udp));
    world.hosts[0].udp_is_blocked = true;
    let is_over_tls = |w: &mut World| {
        let status = w.status(0);
        status.relay && status.relay_transport == Some(RelayTransport::Tls)
    };
    world.run_until(HELLO_INTERVAL + 2 * SECOND, "a stream", is_over_tls);
    exchange(&mut world);
}

#[test]
fn a_packet_that_is_faster_than_its_authorization_waits_for_it_a_moment() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.allowed.extend([81, 82]);
    world.destinations_wait = true;
    let (a, b) = addresses(&world);
    let knock = |world: &mut World, port| {
        world.send(0, &tcp(a, b, (4001, port), SYN, b""));
        world.run_for(SECOND / 4);
        assert!(world.hosts[1].received.is_empty(), "a packet passed before its authorization was verified");
    };
    knock(&mut world, 81);
    world.tell_destinations();
    assert_eq!(world.hosts[1].received.drain(..).count(), 1);

    knock(&mut world, 82);
    world.run_for(2 * SECOND);
    world.tell_destinations();
    assert!(world.hosts[1].received.is_empty(), "a packet of long ago was delivered");
}

#[test]
fn only_a_few_packets_of_a_peer_wait_for_their_authorization() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.allowed.extend([81]);
    world.destinations_wait = true;
    let (a, b) = addresses(&world);
    for port in 5000..5020 {
        world.send(0, &tcp(a, b, (port, 81), SYN, b""));
    }
    world.run_for(SECOND / 4);
    world.tell_destinations();
    assert_eq!(world.hosts[1].received.drain(..).count(), 8);
}

#[test]
fn a_greedy_peer_does_not_push_out_what_another_waits_for() {
    let mut world = World::new(1, &[Nat::None, Nat::None, Nat::None]);
    let address = |world: &World, host: usize| world.hosts[host].node.membership.address_v4;
    let (greedy, asked, modest) = (address(&world, 0), address(&world, 1), address(&world, 2));
    world.run_for(SECOND);
    for (host, from) in [(0, greedy), (2, modest)] {
        world.send(host, &tcp(from, asked, (4000, 80), SYN, b""));
        world.run_until(SECOND, "it is connected", |w| w.hosts[1].received.pop_front().is_some());
    }
    world.allowed.extend([81]);
    world.destinations_wait = true;
    for round in 0..20 {
        for port in 5000..5020 {
            world.send(0, &tcp(greedy, asked, (port, 81), SYN, b""));
        }
        if round == 10 {
            world.send(2, &tcp(modest, asked, (6000, 81), SYN, b""));
        }
        world.run_for(SECOND / 50);
    }
    world.tell_destinations();
    let of_modest = |packet: &Vec<u8>| packet[12..16] == modest.octets();
    let (of_modest, of_greedy): (Vec<_>, Vec<_>) = world.hosts[1].received.drain(..).partition(of_modest);
    assert_eq!((of_modest.len(), of_greedy.len()), (1, 8));
}

#[test]
fn nats_that_cannot_be_passed_stay_relayed_and_work() {
    let mut world = World::new(1, &[Nat::Symmetric, Nat::Symmetric]);
    open(&mut world);
    for _ in 0..5 {
        world.run_for(20 * SECOND);
        exchange(&mut world);
    }
    assert_eq!(world.path(0), Some(PathKind::Relayed));
}

#[test]
fn lost_datagrams_delay_but_do_not_break_a_connection() {
    for seed in 0..4 {
        let mut world = World::new(seed, &[Nat::PortRestricted, Nat::None]).with_loss(0.2);
        let (a, b) = addresses(&world);
        world.run_for(2 * SECOND);
        let mut arrived = 0;
        for _ in 0..60 {
            world.send(0, &tcp(a, b, (4000, 80), SYN, b""));
            world.run_for(SECOND / 2);
            arrived += world.hosts[1].received.drain(..).count();
        }
        assert!(arrived >= 30, "seed {seed}: {arrived} of 60");
        world.run_until(60 * SECOND, "direct in spite of loss", is_direct);
    }
}

#[test]
fn an_eavesdropper_sees_no_plain_text() {
    let mut world = World::new(1, &[Nat::None, Nat::PortRestricted]);
    open(&mut world);
    exchange(&mut world);
    world.run_until(2 * SECOND, "direct", is_direct);
    exchange(&mut world);
    let seen = world.wire.iter().any(|bytes| bytes.windows(12).any(|w| SECRET_TEXT.starts_with(w)));
    assert!(!seen);
}

#[test]
fn what_is_denied_is_answered_at_once_and_leaves_nothing_on_the_wire() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    let (a, b) = addresses(&world);
    world.run_for(SECOND);
    let before = world.wire.len();
    for _ in 0..10 {
        world.send(0, &tcp(a, b, (4000, 5432), SYN, b""));
    }
    let refused = world.hosts[0].received.pop_front().expect("the program is told");
    assert_eq!((refused[9], refused[20], refused[21]), (1, 3, 13), "administratively prohibited");
    let source = IpAddr::from(<[u8; 4]>::try_from(&refused[12..16]).unwrap());
    assert_eq!(source, IpAddr::from(b), "in the name of the address that was asked for");
    let asked = world.said.iter().filter(|said| matches!(said, Said::Connect { .. })).count();
    assert_eq!(asked, 1, "a denial answers for a while");
    assert_eq!(world.wire.len(), before);
    assert!(world.status(0).peers.is_empty());
    assert_eq!(world.status(0).denials.len(), 1);
    // Later it is asked again.
    world.run_for(6 * SECOND);
    world.send(0, &tcp(a, b, (4000, 5432), SYN, b""));
    assert_eq!(world.said.iter().filter(|said| matches!(said, Said::Connect { .. })).count(), 2);
}

#[test]
fn a_revocation_cuts_the_flow_with_the_next_packet_at_both_ends() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    let (a, b) = addresses(&world);
    open(&mut world);
    world.run_until(2 * SECOND, "direct", is_direct);
    world.allowed.clear();
    let on_its_way = tcp(a, b, (4000, 80), ACK, SECRET_TEXT);
    world.send(0, &on_its_way);
    world.revoke_all();
    for host in 0..2 {
        let withdrawn = Said::Acknowledged { host, action: AcknowledgedAction::Withdrawn };
        assert!(world.said.contains(&withdrawn), "{:?}", world.said);
        assert!(world.said.iter().any(|said| matches!(
            said, Said::Closed { host: h, reason: CloseReason::Revoked, bytes_sent } if *h == host && *bytes_sent > 0
        )));
    }
    world.run_for(SECOND);
    assert!(world.hosts[1].received.is_empty(), "not even what was on its way");
    assert!(world.status(0).peers.is_empty() && world.status(1).peers.is_empty());
    // The server's last words do not look like a wish of its own, and the client is told.
    let asked = world.said.iter().filter(|said| matches!(said, Said::Connect { host: 1, .. })).count();
    world.send(1, &tcp(b, a, (80, 4000), ACK, SECRET_TEXT));
    world.send(0, &on_its_way);
    world.run_for(SECOND);
    assert_eq!(world.said.iter().filter(|said| matches!(said, Said::Connect { host: 1, .. })).count(), asked);
    let reset = world.hosts[0].received.pop_front().expect("the client is told");
    assert_eq!((reset[9], reset[33] & 0x04), (6, 0x04), "a reset");
    assert!(
        world.hosts[1].received.iter().all(|packet| packet[9] == 6 && packet[33] & 0x04 != 0),
        "resets only"
    );
}

#[test]
fn a_key_rotation_in_the_middle_of_a_flow_loses_no_packet() {
    for seed in 0..4 {
        for rotating in 0..2 {
            let mut world = World::new(seed, &[Nat::PortRestricted, Nat::None]);
            open(&mut world);
            world.run_until(2 * SECOND, "direct", is_direct);
            world.rotate(rotating, [50; 32]);
            let (a, b) = addresses(&world);
            let mut sent = 0;
            for _ in 0..40 {
                world.send(0, &tcp(a, b, (4000, 80), ACK, SECRET_TEXT));
                world.run_for(Duration::from_millis(5));
                sent += 1;
            }
            world.run_for(SECOND);
            assert_eq!(world.hosts[1].received.drain(..).count(), sent, "seed {seed}");
            assert_eq!(world.status(rotating).generation, 1);
            assert_eq!(world.status(1 - rotating).peers[0].generation, 1);
            // After the time for which the old key is still taken.
            world.run_for(200 * SECOND);
            exchange(&mut world);
        }
    }
}

#[test]
fn both_ends_may_rotate_at_once() {
    let mut world = World::new(3, &[Nat::None, Nat::None]);
    open(&mut world);
    world.rotate(0, [50; 32]);
    world.rotate(1, [51; 32]);
    for _ in 0..20 {
        exchange(&mut world);
        world.run_for(SECOND / 4);
    }
    world.run_for(200 * SECOND);
    exchange(&mut world);
    assert_eq!((world.status(0).generation, world.status(1).generation), (1, 1));
}

#[test]
fn a_direct_path_that_dies_is_left_within_seconds_and_found_again() {
    let mut world = World::new(2, &[Nat::PortRestricted, Nat::None]);
    open(&mut world);
    world.run_until(2 * SECOND, "direct", is_direct);
    for host in &mut world.hosts {
        host.direct_is_blocked = true;
    }
    let relayed = |w: &mut World| (0..2).all(|host| w.path(host) == Some(PathKind::Relayed));
    let (a, b) = addresses(&world);
    let packet = tcp(a, b, (4000, 80), ACK, SECRET_TEXT);
    let before = world.elapsed();
    let mut next = before;
    world.run_until(10 * SECOND, "relayed again", |w| {
        if w.elapsed() >= next {
            next = w.elapsed() + SECOND / 50;
            w.send(0, &packet);
        }
        relayed(w)
    });
    assert!(world.elapsed() - before < 7 * SECOND, "{:?}", world.elapsed() - before);
    world.hosts[1].received.clear();
    exchange(&mut world);
    for host in &mut world.hosts {
        host.direct_is_blocked = false;
    }
    world.run_until(60 * SECOND, "direct again", is_direct);
    let history = &world.status(0).peers[0].path_history;
    assert!(history.len() >= 4, "{history:?}");
}

#[test]
fn while_a_direct_path_is_in_doubt_nothing_waits_for_the_verdict() {
    let mut world = World::new(2, &[Nat::PortRestricted, Nat::None]);
    open(&mut world);
    world.run_until(2 * SECOND, "direct", is_direct);
    world.run_for(30 * SECOND);
    for host in &mut world.hosts {
        host.direct_is_blocked = true;
    }
    let (a, b) = addresses(&world);
    let packet = tcp(a, b, (4000, 80), ACK, SECRET_TEXT);
    world.hosts[1].received.clear();
    let mut next = world.elapsed();
    world.run_until(2 * SECOND, "a packet passes", |w| {
        if w.elapsed() >= next {
            next = w.elapsed() + SECOND / 10;
            w.send(0, &packet);
        }
        !w.hosts[1].received.is_empty()
    });
    assert!(is_direct(&mut world), "it is not given up yet");
}

#[test]
fn what_is_used_is_renewed_and_what_is_idle_is_closed() {
    let mut world = World::new(2, &[Nat::None, Nat::None]);
    open(&mut world);
    for _ in 0..70 {
        world.run_for(10 * SECOND);
        exchange(&mut world);
    }
    let renewals =
        world.said.iter().filter(|said| matches!(said, Said::Connect { renews: true, .. })).count();
    assert_eq!(renewals, 1, "once in 700 seconds");
    // Renewed once more, as it was used in the last minutes; three quarters of that life later it was not.
    world.run_for(700 * SECOND);
    let closed = world.said.iter().any(|said| {
        matches!(said, Said::Closed { host: 0, reason: CloseReason::Idle, bytes_sent } if *bytes_sent > 70 * 40)
    });
    assert!(closed, "with the bytes of the whole connection: {:?}", world.said);
    assert!(world.status(0).peers.is_empty());
}

#[test]
fn live_authorizations_outlast_the_control_plane_until_they_expire() {
    let mut world = World::new(2, &[Nat::None, Nat::None]);
    open(&mut world);
    world.lose_session(0);
    world.lose_session(1);
    for _ in 0..11 {
        world.run_for(50 * SECOND);
        exchange(&mut world);
    }
    world.run_for(60 * SECOND);
    let (a, b) = addresses(&world);
    world.send(0, &tcp(a, b, (4000, 80), ACK, SECRET_TEXT));
    world.run_for(SECOND);
    assert!(world.hosts[1].received.is_empty(), "expired, and nobody could renew it");
    // With the control plane back, what waits is asked for.
    world.live.clear();
    world.connect_session(0);
    world.connect_session(1);
    world.run_until(2 * SECOND, "the connection goes on", |w| w.hosts[1].received.pop_front().is_some());
}

#[test]
fn a_peer_may_send_only_as_itself_and_only_to_granted_ports() {
    let mut world = World::new(2, &[Nat::None, Nat::None]);
    open(&mut world);
    let (a, b) = addresses(&world);
    // The source's own engine would not let these out: they stand for a peer whose agent does as it likes. Here it is
    // enough that the authorization covers them at neither end.
    let refused_before = world.status(1).counters.refused_in;
    world.allowed.insert(22);
    world.send(1, &tcp(b, a, (5000, 22), SYN, b""));
    world.run_for(SECOND);
    assert!(world.hosts[0].received.pop_front().is_some(), "port 22 of host 0 was granted to host 1");
    world.send(0, &tcp(a, b, (4001, 81), SYN, b""));
    world.send(0, &tcp(Ipv4Addr::new(100, 64, 0, 99), b, (4001, 80), SYN, b""));
    world.run_for(SECOND);
    assert!(world.hosts[1].received.is_empty());
    assert_eq!(world.status(1).counters.refused_in, refused_before);
}

#[test]
fn packets_are_as_long_as_the_path_carries_and_whoever_sends_longer_ones_is_told() {
    let known = |world: &World| world.status(0).peers.first().and_then(|peer| peer.path.mtu);
    for (nats, carries, mtu) in [
        ([Nat::None, Nat::None], 1500, 1420),
        ([Nat::None, Nat::None], 1400, 1328),
        ([Nat::None, Nat::None], 1300, 1232),
        // Over the relay, whose header takes 17 bytes.
        ([Nat::Symmetric, Nat::Symmetric], 1500, 1420),
        ([Nat::Symmetric, Nat::Symmetric], 1400, 1312),
    ] {
        let mut world = World::new(1, &nats);
        world.carries = carries;
        open(&mut world);
        let (a, b) = addresses(&world);
        let packet = |length: usize| tcp(a, b, (4000, 80), ACK, &vec![7; length - 40]);
        // Before it is known, packets of every length go.
        world.send(0, &packet(1420));
        world.run_until(SECOND, "a long packet", |w| w.hosts[1].received.pop_front().is_some());
        world.run_until(20 * SECOND, &format!("{nats:?} carry {mtu}"), |w| {
            exchange(w);
            known(w) == Some(mtu)
        });
        world.send(0, &packet(mtu));
        world.run_until(SECOND, "a packet as long", |w| w.hosts[1].received.pop_front().is_some());
        if mtu < 1420 {
            world.send(0, &packet(mtu + 1));
            let answer = world.hosts[0].received.pop_front().unwrap();
            assert_eq!((answer[9], &answer[20..22]), (1, &[3, 4][..]));
            assert_eq!(usize::from(u16::from_be_bytes([answer[26], answer[27]])), mtu);
            world.run_for(SECOND);
            assert!(world.hosts[1].received.is_empty(), "a packet that is too long was sent");
            // One that may be cut in two goes.
            let mut packet = packet(1420);
            packet[6] = 0;
            world.send(0, &packet);
            world.run_until(SECOND, "a packet in two", |w| w.hosts[1].received.pop_front().is_some());
        }
    }
}
