//! Wall clocks that are set, by hours: nothing lives longer for it, nothing breaks, and when they are right again all goes on.

use std::time::Duration;

use jiff::SignedDuration;
use writ_schema::event::CloseReason;

use super::simulation::{Nat, Said, World};
use super::tunnels::{SYN, addresses, exchange, open, tcp};

const SECOND: Duration = Duration::from_secs(1);
const HOURS: SignedDuration = SignedDuration::from_hours(5);

#[test]
fn a_clock_that_is_set_back_lets_no_authorization_live_longer() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    for host in 0..2 {
        world.lose_session(host);
    }
    world.skew = -HOURS;
    world.run_for(world.life / 2);
    exchange(&mut world);
    world.run_for(world.life / 2 + SECOND);
    for host in 0..2 {
        assert!(world.status(host).peers.is_empty(), "host {host} has lengthened it");
    }
}

#[test]
fn what_is_granted_under_a_clock_that_is_behind_lives_as_long_as_was_granted() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    world.skew = -HOURS;
    open(&mut world);
    for host in 0..2 {
        world.lose_session(host);
    }
    for _ in 0..19 {
        world.run_for(world.life / 20);
        exchange(&mut world);
    }
    world.run_for(world.life / 20);
    assert!((0..2).all(|host| world.status(host).peers.is_empty()));
}

#[test]
fn what_is_in_use_is_renewed_in_time_by_a_clock_that_was_set_back() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.skew = -HOURS;
    for _ in 0..40 {
        world.run_for(world.life / 20);
        exchange(&mut world);
    }
    let renewed = world.said.iter().filter(|said| matches!(said, Said::Connect { renews: true, .. })).count();
    assert!((2..6).contains(&renewed), "{renewed} renewals in two lives");
}

#[test]
fn a_clock_that_is_set_forward_ends_what_is_live_and_when_it_is_right_again_all_goes_on() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.skew = HOURS;
    world.run_for(2 * SECOND);
    assert!((0..2).all(|host| world.status(host).peers.is_empty()));
    let expired = |said: &Said| matches!(said, Said::Closed { reason: CloseReason::Expired, .. });
    assert_eq!(world.said.iter().filter(|said| expired(said)).count(), 2, "{:?}", world.said);

    // What is asked for now has run out when it comes, by the wrong clock, and that is said.
    let (a, b) = addresses(&world);
    world.send(0, &tcp(a, b, (4001, 80), SYN, b""));
    world.run_for(10 * SECOND);
    assert!(world.hosts[1].received.is_empty());
    assert!(world.hosts[0].refused.iter().any(|refusal| refusal.to_string().contains("expired")));

    world.skew = SignedDuration::ZERO;
    let tries = |world: &mut World| {
        world.send(0, &tcp(a, b, (4002, 80), SYN, b""));
        world.run_for(SECOND);
        !world.hosts[1].received.is_empty()
    };
    world.run_until(60 * SECOND, "a connection is made", tries);
}
