//! The way to the Internet through an exit node.

use std::net::Ipv4Addr;
use std::time::Duration;

use writ_agent::engine::ExitWay;
use writ_schema::event::{CloseReason, Side};
use writ_schema::protocol::ServerMessage;

use super::control_plane::Permit;
use super::simulation::{Nat, Said, World};
use super::tunnels::{SYN, SYN_ACK, tcp};

const SECOND: Duration = Duration::from_secs(1);
const ONE: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const ANOTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// Hosts 1 and 2 lead to the Internet; host 0 has chosen host 1.
fn with_exits() -> World {
    let mut world = World::new(7, &[Nat::PortRestricted, Nat::None, Nat::None]);
    let everything = "0.0.0.0/0".parse().unwrap();
    world.routes = vec![(everything, 1), (everything, 2)];
    for exit in [1, 2] {
        world.hosts[exit].engine.set_offered_routes(vec![everything]);
    }
    choose(&mut world, 1);
    world.run_for(SECOND);
    world
}

fn choose(world: &mut World, exit: usize) {
    let node = world.hosts[exit].node.id.clone();
    world.hosts[0].engine.set_exit(ExitWay::Through { node, v4: true, v6: false });
}

fn own(world: &World, host: usize) -> Ipv4Addr {
    world.hosts[host].node.membership.address_v4
}

/// Sends a SYN to an address and brings the answer back.
fn open(world: &mut World, exit: usize, to: Ipv4Addr, port: u16) {
    let a = own(world, 0);
    world.send(0, &tcp(a, to, (port, 80), SYN, b""));
    world.run_until(SECOND, "the first packet arrives", |w| w.hosts[exit].received.pop_front().is_some());
    world.send(exit, &tcp(to, a, (80, port), SYN_ACK, b""));
    world.run_until(SECOND, "the answer arrives", |w| w.hosts[0].received.pop_front().is_some());
}

fn requests(world: &World) -> usize {
    world.said.iter().filter(|said| matches!(said, Said::Connect { host: 0, .. })).count()
}

#[test]
fn all_of_the_internet_is_reached_under_one_authorization() {
    let mut world = with_exits();
    open(&mut world, 1, ONE, 4000);
    open(&mut world, 1, ANOTHER, 4001);
    assert_eq!(requests(&world), 1, "{:?}", world.said);
    let status = world.hosts[0].engine.status(world.now());
    let route = status.peers[0].authorizations[0].route.map(|route| route.to_string());
    assert_eq!(route.as_deref(), Some("0.0.0.0/0"));
}

#[test]
fn addresses_that_are_asked_for_at_once_are_one_question() {
    let mut world = with_exits();
    let a = own(&world, 0);
    for last in 1..=20 {
        world.send(0, &tcp(a, Ipv4Addr::new(198, 51, 100, last), (4000, 80), SYN, b""));
    }
    world.run_for(SECOND);
    assert_eq!(requests(&world), 1, "{:?}", world.said);
    assert!(world.hosts[1].received.len() >= 16, "as many as are held for one question");
}

#[test]
fn what_is_not_on_the_internet_or_not_carried_is_refused_without_a_question() {
    let mut world = with_exits();
    open(&mut world, 1, ONE, 4000);
    let a = own(&world, 0);
    let before = requests(&world);
    for to in [[10, 1, 2, 3], [192, 168, 7, 1], [169, 254, 169, 254], [127, 0, 0, 1]] {
        world.send(0, &tcp(a, to.into(), (4002, 80), SYN, b""));
        world.run_for(SECOND);
        let refusal = world.hosts[0].received.pop_front().expect("whoever asked is told");
        assert_eq!((refusal[9], refusal[20]), (1, 3), "destination unreachable");
    }
    for to in [[224, 0, 0, 251], [255, 255, 255, 255]] {
        world.send(0, &tcp(a, to.into(), (4002, 80), SYN, b""));
        world.run_for(SECOND);
    }
    assert!(world.hosts[0].received.is_empty() && world.hosts[1].received.is_empty());
    // While the exit node may not be used, nothing goes anywhere.
    world.hosts[0].engine.set_exit(ExitWay::Closed);
    world.send(0, &tcp(a, ONE, (4003, 80), SYN, b""));
    world.run_for(SECOND);
    assert!(world.hosts[0].received.pop_front().is_some() && world.hosts[1].received.is_empty());
    assert_eq!(requests(&world), before);
    // And without any, such packets are none of the agent's.
    world.hosts[0].engine.set_exit(ExitWay::None);
    let ignored = world.hosts[0].engine.status(world.now()).counters.ignored_out;
    world.send(0, &tcp(a, ONE, (4004, 80), SYN, b""));
    world.run_for(SECOND);
    assert_eq!(world.hosts[0].engine.status(world.now()).counters.ignored_out, ignored + 1);
}

#[test]
fn another_exit_node_takes_the_place_of_the_one_before() {
    let mut world = with_exits();
    open(&mut world, 1, ONE, 4000);
    choose(&mut world, 2);
    world.run_for(SECOND);
    assert!(
        world.said.iter().any(|said| matches!(said, Said::Closed { host: 0, reason: CloseReason::Idle, .. }))
    );
    open(&mut world, 2, ONE, 4001);
    assert!(world.hosts[1].received.is_empty());
}

#[test]
fn a_nearer_route_goes_before_the_exit_node() {
    let mut world = with_exits();
    let near = "203.0.113.0/24".parse().unwrap();
    world.routes.push((near, 2));
    world.hosts[0].engine.set_accepted_routes(vec![near]);
    world.hosts[2].engine.set_offered_routes(vec![near]);
    open(&mut world, 1, ONE, 4000);
    open(&mut world, 2, ANOTHER, 4001);
    assert!(world.hosts[1].received.is_empty());
}

#[test]
fn an_exit_node_carries_nothing_private_whatever_the_log_says() {
    let mut world = with_exits();
    let permit = Permit { route: Some("10.0.0.0/8".parse().unwrap()), ..Permit::tcp(80) };
    let (source, destination) = (&world.hosts[0].node, &world.hosts[1].node);
    let (_, seq) = world.control.authorize(source, destination, &permit);
    let authorized = world.control.authorized(seq, Side::Destination, source, Vec::new(), None);
    world.tell(1, ServerMessage::Authorized(Box::new(authorized)));
    let status = world.hosts[1].engine.status(world.now());
    assert!(status.peers.is_empty() && status.counters.authorizations_dropped > 0);
}
