//! What a control plane can say to an agent.
//!
//! Nobody becomes a peer whose permission is not in the log.

use std::collections::BTreeSet;

use writ_agent::engine::Engine;
use writ_schema::protocol::ServerFrame;

use crate::simulation::{Nat, World};
use crate::tunnels::open;

/// Has a host take the bytes for a frame.
pub fn run(data: &[u8]) {
    let Ok(frame) = serde_json::from_slice::<ServerFrame>(data) else { return };
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    let now = world.now();
    let host = &mut world.hosts[0];
    let before = held(&host.engine, now);
    let number = frame.frame;
    match host.node.trust.verify(now.wall, frame) {
        Ok(verified) => host.engine.handle_message(now, verified),
        Err(refusal) => host.engine.reject(number, &refusal.to_string()),
    }
    host.engine.handle_timeout(now);
    assert!(held(&host.engine, now).is_subset(&before), "something was let in that the log does not hold");
    while host.engine.poll_transmit().is_some() {}
    while host.engine.poll_message().is_some() {}
}

fn held(engine: &Engine, now: writ_agent::engine::Now) -> BTreeSet<String> {
    let peers = engine.status(now).peers.into_iter();
    peers
        .flat_map(|peer| peer.authorizations)
        .map(|held| format!("{} {} {}", held.id, held.protocol, held.expires_at))
        .collect()
}
