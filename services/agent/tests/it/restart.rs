//! Agents that were killed and started anew while nobody answers: what was live goes on to its end, and nothing else.

use std::time::Duration;

use writ_agent::trust::{Refusal, StoredLive, StoredTrust};
use writ_schema::event::{AcknowledgedAction, PathKind};

use super::simulation::{Nat, Said, World};
use super::tunnels::{addresses, exchange, open, tcp};

const SECOND: Duration = Duration::from_secs(1);
const SYN: u8 = 0x02;

/// Two hosts with an open connection and a direct path.
fn connected(nats: &[Nat]) -> World {
    let mut world = World::new(1, nats);
    open(&mut world);
    world.run_until(5 * SECOND, "direct", |world| {
        (0..2).all(|host| world.path(host) == Some(PathKind::Direct))
    });
    world
}

/// Both are killed and started anew; control plane and relay are away.
fn restart_both(world: &mut World) {
    world.relay_is_away = true;
    for host in 0..2 {
        let stored = world.stored(host);
        assert_eq!(world.restart(host, stored), []);
    }
}

/// Whether a new connection to the same port gets through.
fn passes(world: &mut World) -> bool {
    let (a, b) = addresses(world);
    world.hosts[1].received.clear();
    world.send(0, &tcp(a, b, (4001, 80), SYN, b""));
    world.run_for(2 * SECOND);
    world.hosts[1].received.drain(..).count() > 0
}

#[test]
fn what_was_live_goes_on_without_control_plane_and_relay_until_it_expires() {
    for nats in
        [[Nat::None, Nat::None], [Nat::PortRestricted, Nat::None], [Nat::PortRestricted, Nat::PortRestricted]]
    {
        let mut world = connected(&nats);
        restart_both(&mut world);
        world.run_for(5 * SECOND);
        assert!(passes(&mut world), "{nats:?}");
        exchange(&mut world);
        world.run_for(world.life);
        assert!(!passes(&mut world), "beyond its expiry, {nats:?}");
        assert!(world.status(0).peers.is_empty() && world.status(1).peers.is_empty());
    }
}

#[test]
fn when_the_control_plane_is_back_everything_goes_on_and_is_acknowledged_once() {
    let mut world = connected(&[Nat::None, Nat::None]);
    world.said.clear();
    restart_both(&mut world);
    world.run_for(SECOND);
    world.relay_is_away = false;
    (0..2).for_each(|host| world.connect_session(host));
    world.run_for(2 * SECOND);
    let established =
        |said: &&Said| matches!(said, Said::Acknowledged { action: AcknowledgedAction::Established, .. });
    assert_eq!(world.said.iter().filter(established).count(), 2);
    exchange(&mut world);
    world.allowed.clear();
    world.revoke_all();
    assert!(!passes(&mut world));
}

#[test]
fn a_revocation_is_not_undone_by_a_restart_nor_by_an_older_list() {
    let mut world = connected(&[Nat::None, Nat::None]);
    let (_, older) = world.stored(1);
    assert_eq!(older.live.authorizations.len(), 1);
    world.revoke_all();
    let (trust, newer) = world.stored(1);
    assert!(newer.live.authorizations.is_empty() && newer.live.peers.is_empty());
    assert_eq!(world.restart(1, (trust.clone(), newer)), []);
    assert!(world.status(1).peers.is_empty());
    let refused = world.restart(1, (trust, older));
    assert!(matches!(refused[..], [Refusal::Ended(_)]), "{refused:?}");
    assert!(world.status(1).peers.is_empty());
}

#[test]
fn a_renewal_takes_the_place_of_what_it_renews_on_disk_too() {
    let mut world = connected(&[Nat::None, Nat::None]);
    let before = world.stored(0).1;
    for _ in 0..10 {
        world.run_for(50 * SECOND);
        exchange(&mut world);
    }
    let (trust, after) = world.stored(0);
    assert_eq!(after.live.authorizations.len(), 1);
    assert_ne!(before.live.authorizations.keys().next(), after.live.authorizations.keys().next());
    assert_eq!(world.restart(0, (trust, after)), []);
    assert_eq!(world.status(0).peers.len(), 1);
}

#[test]
fn what_was_altered_on_disk_is_not_taken_up() {
    type Change = fn(&mut StoredTrust, &mut StoredLive);
    let changes: [(&str, Change); 6] = [
        ("a record", |_, live| {
            let kept = live.live.authorizations.values_mut().next().unwrap();
            let record = std::sync::Arc::make_mut(&mut kept.record);
            record.record.record =
                record.record.record.replace("\"last\":80", "\"last\":90").replace("80", "81");
        }),
        ("the checkpoint of a record", |_, live| {
            let kept = live.live.authorizations.values_mut().next().unwrap();
            let record = std::sync::Arc::make_mut(&mut kept.record);
            record.checkpoint = record.checkpoint.replacen("\n", "\n1", 1).into();
        }),
        ("the peer", |_, live| live.live.peers.clear()),
        ("the name", |_, live| {
            let (_, kept) = live.live.authorizations.pop_first().unwrap();
            live.live.authorizations.insert(writ_schema::AuthorizationId::from_bytes([200; 16]), kept);
        }),
        ("the end", |_, live| {
            let kept = live.live.authorizations.values_mut().next().unwrap();
            kept.side = writ_schema::event::Side::Source;
        }),
        ("the clock", |_, live| live.saved_at += jiff::SignedDuration::from_secs(100)),
    ];
    for (what, change) in changes {
        let mut world = connected(&[Nat::None, Nat::None]);
        let (mut trust, mut live) = world.stored(1);
        change(&mut trust, &mut live);
        let refused = world.restart(1, (trust, live));
        assert_eq!(refused.len(), 1, "{what}");
        assert!(world.status(1).peers.is_empty(), "{what}");
    }
}

#[test]
fn a_list_that_is_newer_than_the_checkpoint_is_not_taken_up() {
    let mut world = connected(&[Nat::None, Nat::None]);
    let (older, _) = world.stored(1);
    world.allowed.insert(81);
    let (a, b) = addresses(&world);
    world.send(0, &tcp(a, b, (4002, 81), SYN, b""));
    world.run_for(SECOND);
    let (_, newer) = world.stored(1);
    assert_eq!(newer.live.authorizations.len(), 2);
    let refused = world.restart(1, (older, newer));
    // The peer's records were proven anew together with the newer authorization.
    assert!(
        !refused.is_empty() && refused.iter().all(|it| matches!(it, Refusal::Shrunk { .. })),
        "{refused:?}"
    );
}
