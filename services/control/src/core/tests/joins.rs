//! Who is let in, and who is not.

use std::net::{Ipv4Addr, Ipv6Addr};

use writ_schema::event::{JoinRefusal, NodeOwner};
use writ_schema::{Actor, EnrolmentKeyId, Event};

use super::world::{World, id};
use crate::core::refusals::RefusalFact;
use crate::core::{Command, Rejection};
use crate::fixtures::{self, Endpoint, bytes};

fn refusal(world: &World) -> JoinRefusal {
    match &world.last_refusal {
        Some(RefusalFact::Join(refused)) => refused.reason,
        other => panic!("{other:?}"),
    }
}

fn with_key(max_uses: u32) -> World {
    let mut world = World::new();
    world.submit(fixtures::enrolment_key(9, fixtures::tags(&["tag:web"]), max_uses, world.now)).unwrap();
    world
}

#[test]
fn a_node_gets_its_owner_from_the_key_and_addresses_in_order() {
    let mut world = with_key(300);
    for number in 0..=254 {
        world.join(number, 9).unwrap();
    }
    let node = world.state.node(&id(0)).unwrap();
    assert_eq!(node.owner, fixtures::tags(&["tag:web"]));
    assert_eq!(node.address_v4, Ipv4Addr::new(100, 64, 0, 1));
    assert_eq!(node.address_v6, "fd7a:115c:a1e0::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(world.log[2].record.actor, Actor::Node(id(0)));
    // .254 is followed by .1 of the next hundred and fifty-six: .255 and .0 are nobody's.
    assert_eq!(world.state.node(&id(253)).unwrap().address_v4, Ipv4Addr::new(100, 64, 0, 254));
    assert_eq!(world.state.node(&id(254)).unwrap().address_v4, Ipv4Addr::new(100, 64, 1, 1));
    let found = world.state.node_by_address("fd7a:115c:a1e0::101".parse().unwrap()).unwrap();
    assert_eq!(found.id, id(254));
}

#[test]
fn a_single_use_key_lets_one_node_in() {
    let mut world = with_key(1);
    world.join(1, 9).unwrap();
    assert_eq!(world.join(2, 9), Err(Rejection::Join(JoinRefusal::UsedKey)));
    assert_eq!(refusal(&world), JoinRefusal::UsedKey);
    assert_eq!(world.state.nodes().count(), 1);
}

#[test]
fn unknown_expired_and_revoked_keys_let_nobody_in() {
    let mut world = with_key(5);
    assert_eq!(world.join(1, 8), Err(Rejection::Join(JoinRefusal::UnknownKey)));
    world.pass(24 * 3600);
    assert_eq!(world.join(1, 9), Err(Rejection::Join(JoinRefusal::ExpiredKey)));
    world.submit(Command::RevokeEnrolmentKey { key: EnrolmentKeyId::from_bytes(bytes(9)) }).unwrap();
    assert_eq!(world.join(1, 9), Err(Rejection::Join(JoinRefusal::RevokedKey)));
    assert_eq!(refusal(&world), JoinRefusal::RevokedKey);
}

#[test]
fn the_key_of_somebody_who_left_lets_nobody_in() {
    let mut world = World::new();
    world.submit(fixtures::provision(1)).unwrap();
    let owner = NodeOwner::User(fixtures::user(1));
    world.submit(fixtures::enrolment_key(9, owner, 5, world.now)).unwrap();
    world.submit(Command::ReceiveLeaver { user: fixtures::user(1), decided_at: None }).unwrap();
    assert_eq!(world.join(1, 9), Err(Rejection::Join(JoinRefusal::OwnerDisabled)));
}

#[test]
fn another_nodes_public_key_is_of_no_use() {
    let mut world = with_key(5);
    let mut request = Endpoint::new(2).join_request(1, 9);
    request.identity_key = Endpoint::new(1).join_request(1, 9).identity_key;
    assert_eq!(world.submit(Command::Join { request }), Err(Rejection::Join(JoinRefusal::BadProof)));
    // Signed for another secret: a join that was overheard cannot be repeated with another key.
    let mut request = Endpoint::new(1).join_request(1, 8);
    request.secret = fixtures::secret(9);
    assert_eq!(world.submit(Command::Join { request }), Err(Rejection::Join(JoinRefusal::BadProof)));
    let mut request = Endpoint::new(1).join_request(1, 9);
    request.key_signature = Endpoint::new(1).rotation_signature(1);
    assert_eq!(world.submit(Command::Join { request }), Err(Rejection::Join(JoinRefusal::BadProof)));
    assert_eq!(refusal(&world), JoinRefusal::BadProof);
}

#[test]
fn identities_and_names_are_used_once() {
    let mut world = with_key(9);
    world.join(1, 9).unwrap();
    assert_eq!(world.join(1, 9), Err(Rejection::Join(JoinRefusal::KeyInUse)));
    let mut request = Endpoint::new(2).join_request(1, 9);
    request.name = "NODE-1".to_owned();
    assert_eq!(world.submit(Command::Join { request }), Err(Rejection::Join(JoinRefusal::NameInUse)));
    let mut request = Endpoint::new(2).join_request(1, 9);
    request.name = "not a label".to_owned();
    assert_eq!(world.submit(Command::Join { request }), Err(Rejection::Join(JoinRefusal::BadName)));
    world.submit(Command::RemoveNode { node: id(1) }).unwrap();
    // The identity is spent for ever, the name is free.
    assert_eq!(world.join(1, 9), Err(Rejection::Join(JoinRefusal::KeyInUse)));
    let mut request = Endpoint::new(2).join_request(1, 9);
    request.name = "node-1".to_owned();
    world.submit(Command::Join { request }).unwrap();
}

#[test]
fn a_rotation_is_signed_and_one_step() {
    let mut world = with_key(9);
    world.join(1, 9).unwrap();
    assert_eq!(world.submit(Endpoint::new(1).rotate(2)), Err(Rejection::WrongGeneration { expected: 1 }));
    let forged = Command::RotateKey {
        node: id(1),
        generation: 1,
        wireguard_key: Endpoint::new(1).wireguard_key(1),
        signature: Endpoint::new(2).rotation_signature(1),
    };
    assert_eq!(world.submit(forged), Err(Rejection::BadSignature(id(1))));
    let records = world.submit(Endpoint::new(1).rotate(1)).unwrap();
    assert!(matches!(records[0].record.event, Event::KeyRotated(_)));
    let node = world.state.node(&id(1)).unwrap();
    assert_eq!((node.generation, node.rotated), (1, Some(records[0].record.seq)));
    assert_eq!(node.wireguard_key, Endpoint::new(1).wireguard_key(1));
}
