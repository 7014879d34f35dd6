//! What anybody on the network can send to an agent: WireGuard, the relay's frames, STUN, probes, rubbish; and what was on the
//! wire before, whole or altered.
//!
//! Nothing of it gets in, what goes out is bounded, and the tunnel that stands goes on.

use std::net::SocketAddr;

use crate::simulation::{Nat, World, take_packets};
use crate::tunnels::{exchange, open};

use super::acts::{acts, edited};

/// Datagrams that one can cause.
const MAX_ANSWERS: usize = 80;

/// Plays the acts to a host with a live tunnel.
pub fn run(data: &[u8]) {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    let (now, seen) = (world.now(), world.wire.clone());
    let from: [SocketAddr; 4] = [
        ([203, 0, 113, 99], 4444).into(),
        ([198, 51, 100, 1], 3478).into(),
        world.hosts[0].address,
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 4444).into(),
    ];
    for (kind, bytes) in acts(data).take(64) {
        let datagram = match (kind & 4 != 0, bytes.split_first()) {
            (true, Some((which, edits))) => edited(&seen[usize::from(*which) % seen.len()], edits),
            _ => bytes.to_vec(),
        };
        let engine = &mut world.hosts[1].engine;
        let sent =
            |engine: &mut writ_agent::engine::Engine| std::iter::from_fn(|| engine.poll_transmit()).count();
        sent(engine);
        engine.handle_datagram(now, from[usize::from(kind & 3)], &datagram);
        engine.handle_timeout(now);
        assert!(take_packets(engine).is_empty(), "something got in");
        assert!(sent(engine) <= MAX_ANSWERS, "one datagram caused many");
    }
    assert!(world.status(1).peers.len() == 1, "a peer came or went");
    exchange(&mut world);
}
