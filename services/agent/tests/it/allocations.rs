//! Packets of a connection that stands cost no allocation, however they go.

use std::time::Duration;

use allocation_counter::measure;
use writ_relay::wire::{DATA_HEADER_BYTES, NodeBytes, data_header};
use writ_schema::event::PathKind;

use super::simulation::{Nat, World};
use super::tunnels::{addresses, exchange, open, tcp};

const SECOND: Duration = Duration::from_secs(1);
/// As many as the kernel hands over in one go, the last shorter.
const BATCH: usize = 50;
const WARM_UP_ROUNDS: usize = 8;
const ROUNDS: usize = 20;

/// Carries packets from one engine to another as a shell and the relay do. Gives how many arrived.
fn carry(world: &mut World, (from, to): (usize, usize), packets: &[Vec<u8>], relayed: &mut Vec<u8>) -> usize {
    let (now, address, relay) = (world.now(), world.hosts[from].address, ([198, 51, 100, 1], 3478).into());
    for packet in packets {
        world.hosts[from].engine.handle_tun_packet(now, packet);
    }
    while let Some(transmit) = world.hosts[from].engine.poll_transmit() {
        for sent in transmit.datagrams() {
            let engine = &mut world.hosts[to].engine;
            if transmit.to == relay {
                // The relay names the sender in the place of the receiver.
                relayed.truncate(DATA_HEADER_BYTES);
                relayed.extend_from_slice(&sent[DATA_HEADER_BYTES..]);
                engine.handle_datagram(now, relay, relayed);
            } else {
                engine.handle_datagram(now, address, sent);
            }
        }
        world.hosts[from].engine.reuse(transmit);
    }
    let mut arrived = 0;
    world.hosts[to].engine.take_packets(|packets| arrived = packets.len());
    arrived
}

fn costs_nothing(world: &mut World) {
    let (a, b) = addresses(world);
    let batch = |from, to, ports| -> Vec<Vec<u8>> {
        let lengths = (0..BATCH).map(|number| if number + 1 == BATCH { 333 } else { 1240 });
        lengths.map(|length| tcp(from, to, ports, 0x10, &vec![7; length])).collect()
    };
    let (out, back) = (batch(a, b, (4000, 80)), batch(b, a, (80, 4000)));
    let mut relayed = [0, 1].map(|host: usize| {
        let mut datagram = data_header(NodeBytes::from(&world.hosts[host].node.membership.node)).to_vec();
        datagram.reserve(2048);
        datagram
    });
    let mut round = |world: &mut World| {
        assert_eq!(carry(world, (0, 1), &out, &mut relayed[0]), BATCH);
        assert_eq!(carry(world, (1, 0), &back, &mut relayed[1]), BATCH);
    };
    // Each of the buffers that take turns grows to what it needs.
    (0..WARM_UP_ROUNDS).for_each(|_| round(world));
    let counted = measure(|| (0..ROUNDS).for_each(|_| round(world)));
    assert_eq!(counted.count_total, 0, "{counted:?} for {} packets", 2 * BATCH * ROUNDS);
}

#[test]
fn a_packet_on_a_direct_path_costs_no_allocation() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.run_until(2 * SECOND, "direct", |w| (0..2).all(|host| w.path(host) == Some(PathKind::Direct)));
    costs_nothing(&mut world);
    exchange(&mut world);
}

#[test]
fn a_packet_over_the_relay_costs_no_allocation() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    world.hosts[1].direct_is_blocked = true;
    open(&mut world);
    assert_eq!(world.path(0), Some(PathKind::Relayed));
    costs_nothing(&mut world);
    exchange(&mut world);
}
