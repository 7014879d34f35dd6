//! What lies behind a node: reached through it, and under a permission for it alone.

use std::net::Ipv4Addr;
use std::time::Duration;

use writ_schema::event::{AcknowledgedAction, Side};
use writ_schema::protocol::{Candidate, CandidateKind, ServerMessage};

use super::control_plane::Permit;
use super::simulation::{Nat, Said, World};
use super::tunnels::{SYN, SYN_ACK, tcp};

const SECOND: Duration = Duration::from_secs(1);
const ACK: u8 = 0x10;
/// A server behind host 1.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 5);

fn routed(nats: &[Nat]) -> World {
    let mut world = World::new(7, nats);
    world.route("10.20.0.0/16", 1);
    world.run_for(SECOND);
    world
}

fn own(world: &World, host: usize) -> Ipv4Addr {
    world.hosts[host].node.membership.address_v4
}

fn open(world: &mut World) {
    let a = own(world, 0);
    world.send(0, &tcp(a, BEHIND, (4000, 80), SYN, b""));
    world.run_until(SECOND, "the first packet arrives", |w| w.hosts[1].received.pop_front().is_some());
    world.send(1, &tcp(BEHIND, a, (80, 4000), SYN_ACK, b""));
    world.run_until(SECOND, "the answer arrives", |w| w.hosts[0].received.pop_front().is_some());
}

#[test]
fn a_server_behind_a_node_is_reached_through_it_and_answers() {
    let mut world = routed(&[Nat::PortRestricted, Nat::None]);
    open(&mut world);
    let established = Said::Acknowledged { host: 1, action: AcknowledgedAction::Established };
    assert!(world.said.contains(&established), "{:?}", world.said);
    let status = world.hosts[0].engine.status(world.now());
    let route = status.peers[0].authorizations[0].route.map(|route| route.to_string());
    assert_eq!(route.as_deref(), Some("10.20.0.0/16"));
}

#[test]
fn a_permission_for_what_lies_behind_a_node_is_none_for_the_node_nor_the_other_way_round() {
    let mut world = routed(&[Nat::None, Nat::None]);
    open(&mut world);
    let (a, b) = (own(&world, 0), own(&world, 1));
    // The node itself is asked for anew, and denied.
    world.allowed.clear();
    world.send(0, &tcp(a, b, (4001, 80), SYN, b""));
    world.run_for(SECOND);
    assert!(world.hosts[1].received.is_empty());
    // Nor does a permission for the node lead behind it.
    let mut world = routed(&[Nat::None, Nat::None]);
    super::tunnels::open(&mut world);
    world.allowed.clear();
    world.send(0, &tcp(a, BEHIND, (4001, 80), SYN, b""));
    world.run_for(SECOND);
    assert!(world.hosts[1].received.is_empty());
}

#[test]
fn a_revocation_cuts_a_flow_that_leads_behind_a_node_at_both_ends() {
    let mut world = routed(&[Nat::None, Nat::None]);
    open(&mut world);
    let a = own(&world, 0);
    world.allowed.clear();
    world.revoke_all();
    world.run_for(SECOND);
    for (host, packet) in
        [(0, tcp(a, BEHIND, (4000, 80), ACK, b"more")), (1, tcp(BEHIND, a, (80, 4000), ACK, b"more"))]
    {
        world.send(host, &packet);
        world.run_for(SECOND);
        let passed = world.hosts[1 - host].received.iter().any(|it| it.ends_with(b"more"));
        assert!(!passed, "from host {host}");
    }
    for host in 0..2 {
        let withdrawn = Said::Acknowledged { host, action: AcknowledgedAction::Withdrawn };
        assert!(world.said.contains(&withdrawn));
    }
}

#[test]
fn neighbours_of_a_router_begin_nothing_and_strangers_answer_in_no_flow() {
    let mut world = routed(&[Nat::None, Nat::None]);
    open(&mut world);
    let a = own(&world, 0);
    let other = Ipv4Addr::new(10, 20, 0, 6);
    for packet in [
        tcp(BEHIND, a, (4000, 22), SYN, b""),
        tcp(other, a, (80, 4000), ACK, b"not in this flow"),
        tcp(BEHIND, a, (81, 4000), ACK, b"nor from this port"),
        tcp(Ipv4Addr::new(192, 0, 2, 1), a, (80, 4000), ACK, b"from elsewhere"),
    ] {
        world.send(1, &packet);
        world.run_for(SECOND);
        assert!(world.hosts[0].received.is_empty());
    }
}

#[test]
fn a_node_carries_packets_no_further_than_it_offers_whatever_the_log_says() {
    let mut world = routed(&[Nat::None, Nat::None]);
    world.routes = vec![("172.16.0.0/12".parse().unwrap(), 1)];
    world.hosts[0].engine.set_accepted_routes(vec!["172.16.0.0/12".parse().unwrap()]);
    let a = own(&world, 0);
    world.send(0, &tcp(a, Ipv4Addr::new(172, 16, 0, 1), (4000, 80), SYN, b""));
    world.run_for(2 * SECOND);
    assert!(world.hosts[1].received.is_empty());
    let status = world.hosts[1].engine.status(world.now());
    assert!(status.peers.is_empty() && status.counters.authorizations_dropped > 0);
}

#[test]
fn a_route_to_addresses_of_nodes_is_not_believed() {
    let mut world = World::new(7, &[Nat::None, Nat::None]);
    for route in ["100.64.0.0/24", "100.0.0.0/8", "fd00:1:2::/64"] {
        let route = Some(route.parse().unwrap());
        let permit = Permit { route, ..Permit::tcp(80) };
        let (source, destination) = (&world.hosts[0].node, &world.hosts[1].node);
        let (_, seq) = world.control.authorize(source, destination, &permit);
        let authorized = world.control.authorized(seq, Side::Source, destination, Vec::new(), None);
        world.tell(0, ServerMessage::Authorized(Box::new(authorized)));
        let refused = world.hosts[0].refused.pop().unwrap().to_string();
        assert!(refused.contains("a route that cannot be one"), "{refused}");
    }
}

#[test]
fn a_path_does_not_run_through_the_tunnel_itself() {
    // The router is in the network that it leads to, and says so.
    let mut world = routed(&[Nat::PortRestricted, Nat::PortRestricted]);
    open(&mut world);
    let inside = Candidate { address: "10.20.0.1:51820".parse().unwrap(), kind: CandidateKind::Host };
    let node = world.hosts[1].node.id.clone();
    let outside = Candidate { address: "10.30.0.1:51820".parse().unwrap(), kind: CandidateKind::Host };
    world.tell(0, ServerMessage::Candidates { node, candidates: vec![inside, outside] });
    world.run_for(2 * SECOND);
    assert!(world.sent_to.contains(&outside.address), "what is not behind the router is tried");
    assert!(!world.sent_to.contains(&inside.address), "probes went into the tunnel");
}
