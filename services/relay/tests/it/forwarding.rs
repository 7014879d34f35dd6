//! What is forwarded, and when it ends.

use std::time::Duration;

use writ_relay::wire::{self, BINDING_LIFETIME, Message, RefusedReason};
use writ_relay::{Refusal, relay_key};

use crate::bench::{Bench, SECRET, address, data, forwarded, node, told};

#[test]
fn a_permitted_pair_talks_in_both_directions_and_sees_the_source() {
    let mut bench = Bench::with_a_permitted_pair();
    assert_eq!(bench.data(1, 2), forwarded(1, 2));
    assert_eq!(bench.data(2, 1), forwarded(2, 1));
    let counters = bench.relay.counters();
    assert_eq!((counters.forwarded_packets, counters.forwarded_bytes), (2, 20));
}

#[test]
fn a_hello_is_answered_with_the_observed_address_and_proven() {
    let mut bench = Bench::new();
    let hello = bench.next_hello(1);
    let sent = bench.receive(address(1), &hello);
    let Ok(Message::HelloAck(ack)) = wire::decode(&sent[0].bytes) else { panic!("{sent:?}") };
    assert_eq!((ack.counter, ack.observed), (1, address(1)));
    assert_eq!(ack.verify(&relay_key(&SECRET, &node(1))), Ok(()));
    assert!(ack.verify(&relay_key(&SECRET, &node(2))).is_err());
}

#[test]
fn without_a_permit_nothing_is_forwarded_and_nothing_is_told_about_the_peer() {
    let mut bench = Bench::with_a_permitted_pair();
    bench.bind(3);
    let present = bench.data(3, 2);
    let absent = bench.data(3, 9);
    assert_eq!(
        (told(&present), told(&absent)),
        (Some(RefusedReason::NoPermit), Some(RefusedReason::NoPermit))
    );
    assert_eq!(bench.refused(Refusal::NoPermit), 2);
    assert_eq!(bench.relay.counters().forwarded_packets, 0);
}

#[test]
fn a_revoked_pair_stops_with_the_next_packet() {
    let mut bench = Bench::with_a_permitted_pair();
    assert_eq!(bench.data(1, 2), forwarded(1, 2));
    bench.relay.revoke(&node(2), &node(1));
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::NoPermit));
    assert_eq!(told(&bench.data(2, 1)), Some(RefusedReason::NoPermit));
}

#[test]
fn a_permit_ends_at_its_time_without_any_clean_up() {
    let mut bench = Bench::with_a_permitted_pair();
    bench.relay.revoke(&node(1), &node(2));
    bench.permit(1, 2, Duration::from_secs(5));
    bench.advance(Duration::from_millis(4999));
    assert_eq!(bench.data(1, 2), forwarded(1, 2));
    bench.advance(Duration::from_millis(1));
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::NoPermit));
}

#[test]
fn permits_are_replaced_as_a_whole() {
    let mut bench = Bench::with_a_permitted_pair();
    bench.bind(3);
    bench.relay.set_permits([(node(3), node(1), bench.now + Duration::from_secs(9))]).unwrap();
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::NoPermit));
    assert_eq!(bench.data(1, 3), forwarded(1, 3));
}

#[test]
fn a_dropped_node_neither_sends_nor_receives_even_when_it_says_hello_again() {
    let mut bench = Bench::with_a_permitted_pair();
    bench.relay.drop_node(&node(1));
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::NotBound));
    assert_eq!(told(&bench.data(2, 1)), Some(RefusedReason::NoPermit));
    bench.bind(1);
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::NoPermit));
}

#[test]
fn an_unbound_sender_and_an_absent_peer_are_refused() {
    let mut bench = Bench::new();
    bench.permit(1, 2, Duration::from_secs(60));
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::NotBound));
    bench.bind(1);
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::PeerAbsent));
    assert_eq!((bench.refused(Refusal::NotBound), bench.refused(Refusal::PeerAbsent)), (1, 1));
}

#[test]
fn a_binding_expires_without_hello_and_lives_on_with_one() {
    let mut bench = Bench::with_a_permitted_pair();
    bench.advance(BINDING_LIFETIME - Duration::from_millis(1));
    assert_eq!(bench.data(1, 2), forwarded(1, 2));
    bench.bind(1);
    bench.advance(Duration::from_millis(1));
    assert_eq!(told(&bench.data(1, 2)), Some(RefusedReason::PeerAbsent));
    assert_eq!(told(&bench.data(2, 1)), Some(RefusedReason::NotBound));
    bench.bind(2);
    assert_eq!(bench.data(2, 1), forwarded(2, 1));
}

#[test]
fn a_node_that_moves_is_found_at_its_new_address_only() {
    let mut bench = Bench::with_a_permitted_pair();
    let hello = bench.next_hello(2);
    bench.receive(address(20), &hello);
    let sent = bench.data(1, 2);
    assert_eq!((sent[0].to, &sent[0].bytes), (address(20), &data(1, b"ciphertext")));
    assert_eq!(told(&bench.data(2, 1)), Some(RefusedReason::NotBound), "the old address is nobody's");
}

#[test]
fn clean_up_frees_what_has_expired() {
    let mut bench = Bench::with_a_permitted_pair();
    let sizes = bench.relay.sizes();
    assert_eq!((sizes.bound_nodes, sizes.permits), (2, 1));
    bench.advance(Duration::from_secs(3600));
    bench.relay.handle_timeout(bench.now);
    let sizes = bench.relay.sizes();
    assert_eq!((sizes.bound_nodes, sizes.permits), (0, 0));
}
