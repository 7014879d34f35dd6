//! What strangers and careless nodes send.

use std::time::Duration;

use proptest::prelude::*;
use writ_relay::wire::{
    BINDING_LIFETIME, Hello, HelloAck, MAX_PAYLOAD_BYTES, RefusedReason, WireError, encode_data,
    encode_refused,
};
use writ_relay::{Limits, Refusal, RelayKey, relay_key};

use crate::bench::{Bench, SECRET, address, data, forwarded, node, node_bytes, told};

/// A STUN Binding request without attributes.
const STUN_REQUEST: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

#[test]
fn a_replayed_hello_is_refused_from_anywhere_and_at_any_time() {
    let mut bench = Bench::with_a_permitted_pair();
    let hello = bench.next_hello(1);
    bench.receive(address(1), &hello);
    assert_eq!(told(&bench.receive(address(66), &hello)), Some(RefusedReason::StaleHello));
    assert_eq!(bench.data(2, 1), forwarded(2, 1), "the binding stays where it was");
    bench.advance(BINDING_LIFETIME * 2);
    bench.relay.handle_timeout(bench.now);
    assert_eq!(told(&bench.receive(address(66), &hello)), Some(RefusedReason::StaleHello));
    assert_eq!(bench.refused(Refusal::StaleHello), 2);
}

#[test]
fn a_hello_under_another_key_is_dropped_in_silence() {
    let mut bench = Bench::with_a_permitted_pair();
    for key in [relay_key(&SECRET, &node(2)), relay_key(&[0; 32], &node(1)), RelayKey::from_bytes([0; 32])] {
        let hello = Hello::new(node_bytes(1), 1 << 40, &key).encode();
        assert_eq!(bench.receive(address(66), &hello), []);
    }
    assert_eq!(bench.refused(Refusal::BadMac), 3);
    assert_eq!(bench.data(2, 1), forwarded(2, 1), "the binding stays where it was");
}

#[test]
fn data_counts_for_the_node_at_its_address_whoever_else_is_bound() {
    let mut bench = Bench::with_a_permitted_pair();
    // A stranger cannot borrow the permit of a node that is bound elsewhere, not even from the same host.
    let mut other_port = address(1);
    other_port.set_port(1);
    for spoofed in [address(66), other_port] {
        assert_eq!(told(&bench.receive(spoofed, &data(2, b"x"))), Some(RefusedReason::NotBound));
    }
    // And a bound node is named by its own name, not by what it might claim.
    bench.bind(3);
    bench.permit(3, 2, Duration::from_secs(9));
    assert_eq!(bench.data(3, 2), forwarded(3, 2));
    assert_eq!(bench.relay.counters().forwarded_packets, 1);
}

#[test]
fn an_oversize_payload_is_refused_and_the_largest_is_forwarded() {
    let mut bench = Bench::with_a_permitted_pair();
    let mut bytes = Vec::new();
    encode_data(node_bytes(2), &[7; MAX_PAYLOAD_BYTES], &mut bytes).unwrap();
    assert_eq!(bench.receive(address(1), &bytes)[0].bytes.len(), bytes.len());
    bytes.push(7);
    assert_eq!(bench.receive(address(1), &bytes), []);
    assert_eq!(bench.refused(Refusal::Oversize), 1);
    let too_long = encode_data(node_bytes(2), &[7; MAX_PAYLOAD_BYTES + 1], &mut bytes);
    assert_eq!(too_long, Err(WireError::Oversize(MAX_PAYLOAD_BYTES + 1)));
}

#[test]
fn what_only_a_relay_sends_is_refused_from_a_node() {
    let mut bench = Bench::with_a_permitted_pair();
    let ack = HelloAck::new(1, address(1), &relay_key(&SECRET, &node(1))).encode();
    assert_eq!(bench.receive(address(1), ack.as_ref()), []);
    assert_eq!(bench.receive(address(1), &encode_refused(RefusedReason::Full, node_bytes(1))), []);
    assert_eq!(bench.refused(Refusal::Malformed), 2);
}

#[test]
fn a_flood_of_hellos_is_limited_before_any_mac_is_computed() {
    let limits = Limits { hellos_per_second: 5, ..Limits::default() };
    let mut bench = Bench::with_limits(limits);
    let forged = Hello::new(node_bytes(1), 1, &RelayKey::from_bytes([0; 32])).encode();
    (0..100).for_each(|_| drop(bench.receive(address(66), &forged)));
    assert_eq!((bench.refused(Refusal::BadMac), bench.refused(Refusal::HelloRate)), (20, 80));
    bench.bind(1);
    bench.advance(Duration::from_secs(1));
    bench.receive(address(66), &forged);
    assert_eq!(bench.refused(Refusal::BadMac), 21, "a second later it may try again");
}

#[test]
fn refusals_are_told_seldom_and_counted_always() {
    let limits = Limits { refusals_per_second: 1, ..Limits::default() };
    let mut bench = Bench::with_limits(limits);
    let answers: usize = (0..100).map(|_| bench.data(66, 1).len()).sum();
    assert_eq!((answers, bench.refused(Refusal::NotBound)), (4, 100));
}

#[test]
fn stun_is_answered_without_a_binding_and_limited_per_source() {
    let limits = Limits { stun_per_second: 5, ..Limits::default() };
    let mut bench = Bench::with_limits(limits);
    let answers: usize = (0..100).map(|_| bench.receive(address(66), &STUN_REQUEST).len()).sum();
    assert_eq!((answers, bench.relay.counters().stun_answered), (20, 20));
    assert_eq!(bench.refused(Refusal::StunRate), 80);
    assert_eq!(bench.receive(address(67), &STUN_REQUEST).len(), 1);
}

#[test]
fn hostile_stun_is_counted_and_not_answered() {
    let mut bench = Bench::new();
    let mut hostile = STUN_REQUEST.to_vec();
    hostile[2..4].copy_from_slice(&(48_u16 * 24).to_be_bytes());
    for _ in 0..48 {
        hostile.extend([0x00, 0x08, 0x00, 20]);
        hostile.extend([0; 20]);
    }
    assert_eq!((hostile.len(), bench.receive(address(66), &hostile)), (1172, vec![]));
    assert_eq!(bench.refused(Refusal::BadStun), 1);
}

#[test]
fn one_node_more_than_the_relay_holds_is_told_so() {
    let mut bench = Bench::with_limits(Limits { nodes: 2, ..Limits::default() });
    bench.bind(1);
    bench.bind(2);
    let hello = bench.next_hello(3);
    assert_eq!(told(&bench.receive(address(3), &hello)), Some(RefusedReason::Full));
    bench.bind(1);
    assert_eq!((bench.refused(Refusal::Full), bench.relay.sizes().bound_nodes), (1, 2));
}

#[test]
fn a_wireguard_packet_sent_here_by_mistake_is_dropped() {
    let mut bench = Bench::with_a_permitted_pair();
    assert_eq!(bench.receive(address(1), &[4, 0, 0, 0, 1, 2, 3, 4]), []);
    assert_eq!(bench.refused(Refusal::Malformed), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_datagram_is_answered_to_its_sender_or_counted(
        first in prop_oneof![0xF0_u8..=0xF3, 0_u8..=4, any::<u8>()],
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        bytes.insert(0, first);
        let mut bench = Bench::with_a_permitted_pair();
        let sent = bench.receive(address(66), &bytes);
        prop_assert_eq!(bench.all_refused() + bench.relay.counters().stun_answered, 1);
        for answer in sent {
            prop_assert_eq!(answer.to, address(66));
            prop_assert!(answer.bytes.len() <= bytes.len() + 3);
        }
    }
}
