//! What lies behind nodes: offered, approved, reached, withdrawn, taken over.

use std::net::IpAddr;

use writ_schema::event::{DenialReason, RevocationReason, SessionEnd};
use writ_schema::net::Prefix;
use writ_schema::protocol::MAX_ROUTES;
use writ_schema::{AuthorizationId, Event};

use super::world::{World, id, request};
use crate::core::{Command, Rejection};
use crate::fixtures::{self, Endpoint, user};

const BEHIND: &str = "10.20.3.4";

/// Person 1 reaches part of what lies behind the web nodes, whose routes are approved by the policy as far as they lie in 10.20/16.
fn policy(approvers: &str) -> String {
    let person = user(1);
    format!(
        r#"{{"acls":[{{"action":"accept","src":["{person}"],"dst":["10.20.0.0/20:443","tag:web:80"]}}],
            "tagOwners":{{"tag:web":[]}},"autoApprovers":{{"routes":{{{approvers}}}}}}}"#
    )
}

const APPROVED: &str = r#""10.20.0.0/16":["tag:web"]"#;

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn advertise(world: &mut World, node: u8, routes: &[&str]) -> Vec<String> {
    let command = Command::AdvertiseRoutes { node: id(node), routes: prefixes(routes) };
    kinds(&world.submit(command).unwrap())
}

fn approve(world: &mut World, node: u8, routes: &[&str]) -> Vec<String> {
    let command = Command::ApproveRoutes { node: id(node), routes: prefixes(routes) };
    kinds(&world.submit(command).unwrap())
}

fn kinds(records: &[std::sync::Arc<crate::sequencer::OpenRecord>]) -> Vec<String> {
    records.iter().map(|record| record.record.event.kind().to_owned()).collect()
}

fn routes(world: &World, node: u8) -> Vec<String> {
    world.state.node(&id(node)).unwrap().routes().map(|route| route.to_string()).collect()
}

fn connect(world: &mut World, from: u8, port: u16) -> Result<AuthorizationId, Rejection> {
    let address: IpAddr = BEHIND.parse().unwrap();
    let records = world.submit(request(from, address, port, None))?;
    match &records[0].record.event {
        Event::ConnectionAuthorized(body) => Ok(body.authorization.clone()),
        other => panic!("{other}"),
    }
}

fn denied(result: Result<AuthorizationId, Rejection>) -> (DenialReason, String) {
    match result {
        Err(Rejection::Connection { reason, explanation }) => (reason, explanation),
        other => panic!("{other:?}"),
    }
}

fn why_ended(world: &World, authorization: &AuthorizationId) -> Option<RevocationReason> {
    world.state.authorization(authorization).unwrap().revoked.map(|end| end.reason)
}

/// A second web node, number 4.
fn with_second_router(world: &mut World) {
    let key = fixtures::enrolment_key(4, fixtures::tags(&["tag:web"]), 1, world.now);
    world.submit(key).unwrap();
    world.join(4, 4).unwrap();
    world.submit(Endpoint::new(4).start_session()).unwrap();
}

#[test]
fn what_the_policy_approves_is_in_force_at_once_and_the_rest_waits_for_an_administrator() {
    let mut world = World::peopled(&policy(APPROVED));
    let recorded = advertise(&mut world, 3, &["10.20.0.0/16", "192.168.7.0/24", "10.20.0.0/16"]);
    assert_eq!(recorded, ["node.routes_advertised", "node.routes_approved"]);
    assert_eq!(routes(&world, 3), ["10.20.0.0/16"]);
    assert_eq!(approve(&mut world, 3, &["10.20.0.0/16", "192.168.7.0/24"]), ["node.routes_approved"]);
    assert_eq!(routes(&world, 3), ["10.20.0.0/16", "192.168.7.0/24"]);
    // What is approved stays so while it is not on offer.
    assert_eq!(advertise(&mut world, 3, &["10.20.0.0/16"]), ["node.routes_advertised"]);
    assert_eq!(advertise(&mut world, 3, &["192.168.7.0/24"]), ["node.routes_advertised"]);
    assert_eq!(routes(&world, 3), ["192.168.7.0/24"]);
    assert_eq!(world.refolded(), world.state);
}

#[test]
fn a_policy_approves_what_was_on_offer_before_it() {
    let mut world = World::peopled(&policy(""));
    assert_eq!(advertise(&mut world, 3, &["10.20.0.0/16"]), ["node.routes_advertised"]);
    assert!(routes(&world, 3).is_empty());
    let (reason, explanation) = denied(connect(&mut world, 1, 443));
    assert_eq!(reason, DenialReason::UnknownDestination);
    assert!(explanation.contains("none carries packets for it"), "{explanation}");
    let records = world.submit(fixtures::set_policy(2, &policy(APPROVED), None)).unwrap();
    assert_eq!(kinds(&records).last().unwrap(), "node.routes_approved");
    connect(&mut world, 1, 443).unwrap();
}

#[test]
fn an_authorization_names_the_router_and_the_widest_prefix_that_route_and_rule_share() {
    let mut world = World::peopled(&policy(APPROVED));
    advertise(&mut world, 3, &["10.20.0.0/16"]);
    let authorization = connect(&mut world, 1, 443).unwrap();
    let held = world.state.authorization(&authorization).unwrap();
    assert_eq!((&held.destination, held.route), (&id(3), Some("10.20.0.0/20".parse().unwrap())));
    let record = world.log.iter().rev().find(|it| it.record.seq == held.record).unwrap();
    assert!(record.bytes.contains(r#""connection.authorized":{"v":2,"#), "{}", record.bytes);
    // And one without a route is what it always was.
    world.connect(1, 3, 80).unwrap();
    assert!(world.log.last().unwrap().bytes.contains(r#""connection.authorized":{"v":1,"#));
    let (reason, explanation) = denied(connect(&mut world, 1, 80));
    assert_eq!(reason, DenialReason::NoRule);
    assert!(explanation.contains(BEHIND) && explanation.contains("acls[0]"), "{explanation}");
    assert_eq!(denied(connect(&mut world, 2, 443)).0, DenialReason::NoRule);
}

#[test]
fn the_netmap_names_what_may_be_reached_behind_others() {
    let mut world = World::peopled(&policy(APPROVED));
    advertise(&mut world, 3, &["10.20.0.0/16"]);
    assert_eq!(world.state.routes_for(&id(1)), prefixes(&["10.20.0.0/16"]));
    assert!(world.state.routes_for(&id(2)).is_empty());
    assert!(world.state.routes_for(&id(3)).is_empty(), "its own");
}

#[test]
fn what_leads_through_a_route_ends_with_the_offer_the_approval_and_the_rule() {
    let end = |change: fn(&mut World)| {
        let mut world = World::peopled(&policy(APPROVED));
        advertise(&mut world, 3, &["10.20.0.0/16"]);
        let (routed, own) = (connect(&mut world, 1, 443).unwrap(), world.connect(1, 3, 80).unwrap());
        change(&mut world);
        assert_eq!(why_ended(&world, &own), None, "the router itself is reached as before");
        why_ended(&world, &routed)
    };
    let offer = |world: &mut World| drop(advertise(world, 3, &[]));
    assert_eq!(end(offer), Some(RevocationReason::RouteWithdrawn));
    assert_eq!(end(|world| drop(approve(world, 3, &[]))), Some(RevocationReason::RouteWithdrawn));
    let narrower = |world: &mut World| {
        let text = policy(APPROVED).replace("10.20.0.0/20", "10.20.0.0/24");
        world.submit(fixtures::set_policy(2, &text, None)).unwrap();
    };
    assert_eq!(end(narrower), Some(RevocationReason::PolicyChanged));
    assert_eq!(end(|world| drop(advertise(world, 3, &["10.20.0.0/16", "10.9.0.0/16"]))), None);
}

#[test]
fn another_router_takes_over_when_one_is_gone_and_nobody_waits_for_a_restart_of_the_control_plane() {
    let mut world = World::peopled(&policy(APPROVED));
    with_second_router(&mut world);
    for router in [3, 4] {
        advertise(&mut world, router, &["10.20.0.0/16"]);
    }
    let first = connect(&mut world, 1, 443).unwrap();
    let router = world.state.authorization(&first).unwrap().destination.clone();
    let (gone, other) = if router == id(3) { (3, 4) } else { (4, 3) };
    // The other end of something else goes: nothing happens to this.
    world.submit(Command::EndSession { node: id(other), reason: SessionEnd::TimedOut }).unwrap();
    world.submit(Endpoint::new(other).start_session()).unwrap();
    assert_eq!(why_ended(&world, &first), None);
    let stop = SessionEnd::ControlPlaneStopped;
    world.submit(Command::EndSession { node: id(gone), reason: stop }).unwrap();
    assert_eq!(why_ended(&world, &first), None);
    world.submit(Endpoint::new(gone).start_session()).unwrap();
    let records = world.submit(Command::EndSession { node: id(gone), reason: SessionEnd::TimedOut }).unwrap();
    assert_eq!(kinds(&records), ["session.terminated", "connection.revoked"]);
    assert_eq!(records[1].record.cause, Some(records[0].record.seq));
    assert_eq!(why_ended(&world, &first), Some(RevocationReason::RouterReplaced));
    let second = connect(&mut world, 1, 443).unwrap();
    assert_eq!(world.state.authorization(&second).unwrap().destination, id(other));
    // With nobody to take over, what is authorized waits for the router.
    world.submit(Command::EndSession { node: id(other), reason: SessionEnd::TimedOut }).unwrap();
    assert_eq!(why_ended(&world, &second), None);
    let (reason, explanation) = denied(connect(&mut world, 1, 443));
    assert_eq!(reason, DenialReason::DestinationOffline);
    assert!(explanation.contains("node-3") && explanation.contains("node-4"), "{explanation}");
}

#[test]
fn a_renewal_continues_what_leads_the_same_way() {
    let mut world = World::peopled(&policy(APPROVED));
    advertise(&mut world, 3, &["10.20.0.0/16"]);
    let first = connect(&mut world, 1, 443).unwrap();
    let again = request(1, "10.20.0.0".parse().unwrap(), 443, Some(first.clone()));
    let renewed = world.submit(again).unwrap();
    let Event::ConnectionAuthorized(body) = &renewed[0].record.event else { panic!() };
    assert_eq!(body.renews.as_ref(), Some(&first));
    // A permission for the router itself is no continuation.
    let own = world.submit(request(1, world.address(3), 80, Some(first))).unwrap();
    let Event::ConnectionAuthorized(body) = &own[0].record.event else { panic!() };
    assert_eq!(body.renews, None);
}

#[test]
fn what_nobody_can_carry_packets_for_is_refused_with_what_is_wrong() {
    let mut world = World::peopled(&policy(APPROVED));
    for (route, part) in [
        ("100.64.0.0/16", "overlaps the addresses of this network's nodes"),
        ("100.0.0.0/8", "overlaps"),
        ("fd7a:115c:a1e0:5::/64", "overlaps"),
        ("127.0.0.0/8", "no network that can be routed to"),
        ("169.254.0.0/16", "no network"),
        ("ff02::/16", "no network"),
    ] {
        let command = Command::AdvertiseRoutes { node: id(3), routes: prefixes(&[route]) };
        let refused = world.submit(command).unwrap_err();
        assert!(matches!(refused, Rejection::Invalid { field: "routes", .. }), "{refused:?}");
        assert!(refused.to_string().contains(route) && refused.to_string().contains(part), "{refused}");
    }
    let many: Vec<String> = (0..=MAX_ROUTES).map(|n| format!("10.{n}.0.0/16")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let command = Command::ApproveRoutes { node: id(3), routes: prefixes(&many) };
    assert!(world.submit(command).unwrap_err().to_string().contains("at most 64"));
    let stranger = Command::AdvertiseRoutes { node: id(9), routes: Vec::new() };
    assert_eq!(world.submit(stranger).unwrap_err(), Rejection::UnknownNode(id(9)));
}

/// Asks for an address of the Internet.
fn connect_out(world: &mut World, exit: Option<u8>, address: &str) -> Result<AuthorizationId, Rejection> {
    let (exit, address) = (exit.map(id), address.parse().unwrap());
    let protocol = writ_schema::net::Protocol::Tcp;
    let request =
        Command::RequestConnection { node: id(1), address, exit, protocol, port: 443, renews: None };
    let records = world.submit(request)?;
    match &records[0].record.event {
        Event::ConnectionAuthorized(body) => Ok(body.authorization.clone()),
        other => panic!("{other}"),
    }
}

/// Person 1 reaches the Internet through web nodes, and what is private by the routes of those.
fn with_exit() -> World {
    let person = user(1);
    let text = format!(
        r#"{{"acls":[{{"action":"accept","src":["{person}"],"dst":["autogroup:internet:443","10.20.0.0/16:443"]}}],
            "tagOwners":{{"tag:web":[]}},"autoApprovers":{{"exitNode":["tag:web"],"routes":{{{APPROVED}}}}}}}"#
    );
    let mut world = World::peopled(&text);
    let recorded = advertise(&mut world, 3, &["0.0.0.0/0", "::/0", "10.20.0.0/16"]);
    assert_eq!(recorded, ["node.routes_advertised", "node.routes_approved"]);
    world
}

#[test]
fn one_authorization_is_for_all_of_the_internet_behind_the_exit_node_that_is_chosen() {
    let mut world = with_exit();
    assert_eq!(world.state.routes_for(&id(1)), prefixes(&["10.20.0.0/16"]));
    assert_eq!(world.state.exits_for(&id(1)), [(id(3), prefixes(&["0.0.0.0/0", "::/0"]))]);
    assert!(world.state.exits_for(&id(2)).is_empty());
    for (address, everything) in [("203.0.113.9", "0.0.0.0/0"), ("2001:db8::1", "::/0")] {
        let authorization = connect_out(&mut world, Some(3), address).unwrap();
        let held = world.state.authorization(&authorization).unwrap();
        assert_eq!((&held.destination, held.route), (&id(3), Some(everything.parse().unwrap())));
    }
    for (exit, address, part) in [
        (None, "203.0.113.9", "an exit node would"),
        (Some(2), "203.0.113.9", "no exit node"),
        (Some(3), "192.168.1.1", "not for such addresses"),
        (Some(3), BEHIND, "not for such addresses"),
    ] {
        let (reason, explanation) = denied(connect_out(&mut world, exit, address));
        assert_eq!(reason, DenialReason::UnknownDestination);
        assert!(explanation.contains(part), "{explanation}");
    }
    connect_out(&mut world, None, BEHIND).unwrap();
    assert_eq!(world.refolded(), world.state);
}

#[test]
fn what_leads_through_an_exit_node_is_renewed_and_ends_with_its_approval_and_its_rule() {
    let mut world = with_exit();
    let first = connect_out(&mut world, Some(3), "203.0.113.9").unwrap();
    let private = connect_out(&mut world, None, BEHIND).unwrap();
    let address = writ_schema::internet::first(true);
    let protocol = writ_schema::net::Protocol::Tcp;
    let (exit, renews) = (Some(id(3)), Some(first.clone()));
    let again = Command::RequestConnection { node: id(1), address, exit, protocol, port: 443, renews };
    let renewed = world.submit(again).unwrap();
    let Event::ConnectionAuthorized(body) = &renewed[0].record.event else { panic!() };
    assert_eq!(body.renews.as_ref(), Some(&first));
    let renewed = body.authorization.clone();
    // An exit node that has gone is not replaced by another that nobody has chosen.
    with_second_router(&mut world);
    advertise(&mut world, 4, &["0.0.0.0/0", "10.20.0.0/16"]);
    world.submit(Command::EndSession { node: id(3), reason: SessionEnd::TimedOut }).unwrap();
    assert_eq!(why_ended(&world, &renewed), None);
    assert_eq!(why_ended(&world, &private), Some(RevocationReason::RouterReplaced));
    assert_eq!(denied(connect_out(&mut world, Some(3), "203.0.113.9")).0, DenialReason::DestinationOffline);
    world.submit(Endpoint::new(3).start_session()).unwrap();
    approve(&mut world, 3, &["10.20.0.0/16"]);
    assert_eq!(why_ended(&world, &renewed), Some(RevocationReason::RouteWithdrawn));
    let other = connect_out(&mut world, Some(4), "203.0.113.9").unwrap();
    world.submit(fixtures::set_policy(2, &policy(APPROVED), None)).unwrap();
    assert_eq!(why_ended(&world, &other), Some(RevocationReason::PolicyChanged));
}

#[test]
fn a_route_to_a_private_network_is_withdrawn_though_the_node_leads_to_the_internet() {
    let mut world = with_exit();
    let (out, private) = (
        connect_out(&mut world, Some(3), "203.0.113.9").unwrap(),
        connect_out(&mut world, None, BEHIND).unwrap(),
    );
    advertise(&mut world, 3, &["0.0.0.0/0", "::/0"]);
    assert_eq!(why_ended(&world, &private), Some(RevocationReason::RouteWithdrawn));
    assert_eq!(why_ended(&world, &out), None);
}
