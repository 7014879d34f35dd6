//! The filter, packet by packet, and against a model.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use writ_schema::net::PortRange;

use super::trial::Trial;
use super::*;
use crate::engine::packet::number;
use crate::engine::packet::tests::{OURS, THEIRS, icmp, tcp, udp, v4};

const PEER: NodeBytes = NodeBytes([2; 16]);
const OTHER: NodeBytes = NodeBytes([3; 16]);
const THEIRS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const OTHERS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 3);
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;

struct Scene {
    filter: Filter,
    now: Instant,
    granted: u8,
}

impl Scene {
    fn new() -> Self {
        let mut filter = Filter::new([OURS.into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into()]);
        filter.add_peer(PEER, [THEIRS.into(), THEIRS_V6.into()]);
        filter.add_peer(OTHER, [OTHERS.into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into()]);
        Self { filter, now: Instant::now(), granted: 0 }
    }

    fn grant(&mut self, side: Side, protocol: Protocol, port: u16) -> AuthorizationId {
        self.granted += 1;
        let id = AuthorizationId::from_bytes([self.granted; 16]);
        self.filter.grant(PEER, Grant::new(id.clone(), side, protocol, PortRange::single(port)));
        id
    }

    fn out(&mut self, bytes: &[u8]) -> Outbound {
        self.filter.outbound(self.now, &Packet::parse(bytes).unwrap(), bytes.len())
    }

    fn r#in(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.filter.inbound(self.now, PEER, &Packet::parse(bytes).unwrap(), bytes.len())
    }
}

fn to_peer(ports: (u16, u16), flags: u8) -> Vec<u8> {
    v4(OURS, THEIRS, number::TCP, &tcp(ports.0, ports.1, flags))
}

fn from_peer(ports: (u16, u16), flags: u8) -> Vec<u8> {
    v4(THEIRS, OURS, number::TCP, &tcp(ports.0, ports.1, flags))
}

#[test]
fn without_a_grant_everything_is_asked_for_or_refused() {
    let mut scene = Scene::new();
    let wish = Wish { address: THEIRS.into(), protocol: Protocol::Tcp, port: 80, by_exit: false };
    assert_eq!(scene.out(&to_peer((4000, 80), SYN)), Outbound::Ask(wish));
    assert_eq!(scene.out(&to_peer((4000, 80), ACK)), Outbound::Refuse(Refused::NoFlow));
    assert_eq!(scene.r#in(&from_peer((4000, 80), SYN)), Err(Refused::NotGranted));
}

#[test]
fn a_packet_is_tried_without_a_trace_in_the_filter() {
    let mut scene = Scene::new();
    let granted = scene.grant(Side::Source, Protocol::Tcp, 80);
    let tried =
        |scene: &Scene, bytes: &[u8]| scene.filter.try_outbound(scene.now, &Packet::parse(bytes).unwrap());
    let opened = Trial { verdict: Outbound::Admit(PEER), under: Some(granted) };
    for _ in 0..2 {
        assert_eq!(tried(&scene, &to_peer((4000, 80), SYN)), opened);
        let strange = tried(&scene, &to_peer((4000, 81), SYN));
        assert!(matches!(strange, Trial { verdict: Outbound::Ask(_), under: None }), "{strange:?}");
        let answer = Packet::parse(&from_peer((80, 4000), ACK)).unwrap();
        let answer = scene.filter.try_inbound(scene.now, PEER, &answer);
        assert_eq!(answer, Trial { verdict: Err(Refused::NotGranted), under: None });
    }
    let grant = &scene.filter.grants(PEER)[0];
    assert_eq!((scene.filter.flow_count(), grant.bytes_sent, grant.used), (0, 0, None));
    scene.out(&to_peer((4000, 80), SYN));
    let answer = Packet::parse(&from_peer((80, 4000), ACK)).unwrap();
    assert_eq!(scene.filter.flow_in(scene.now, &answer).unwrap().side, Side::Source);
    assert_eq!(scene.filter.try_inbound(scene.now, PEER, &answer).under, opened.under);
}

#[test]
fn a_grant_opens_its_direction_and_ports_and_the_answers_to_them() {
    let mut scene = Scene::new();
    scene.grant(Side::Source, Protocol::Tcp, 80);
    assert_eq!(scene.out(&to_peer((4000, 80), SYN)), Outbound::Admit(PEER));
    assert_eq!(scene.r#in(&from_peer((80, 4000), ACK)), Ok(()));
    // Not the other way, not another port, not a stray answer, not another protocol.
    assert_eq!(scene.r#in(&from_peer((4000, 80), SYN)), Err(Refused::NotGranted));
    assert_eq!(scene.r#in(&from_peer((80, 4001), ACK)), Err(Refused::NotGranted));
    assert!(matches!(scene.out(&to_peer((4000, 81), SYN)), Outbound::Ask(_)));
    assert!(matches!(scene.out(&v4(OURS, THEIRS, number::UDP, &udp(4000, 80))), Outbound::Ask(_)));
    let grant = &scene.filter.grants(PEER)[0];
    assert_eq!((grant.bytes_sent, grant.bytes_received, grant.last_port), (40, 40, 80));
}

#[test]
fn a_peer_sends_from_its_own_addresses_to_ours_only() {
    let mut scene = Scene::new();
    scene.grant(Side::Destination, Protocol::Tcp, 80);
    assert_eq!(scene.r#in(&from_peer((4000, 80), SYN)), Ok(()));
    let spoofed = v4(OTHERS, OURS, number::TCP, &tcp(4000, 80, SYN));
    assert_eq!(scene.r#in(&spoofed), Err(Refused::ForeignAddress));
    let to_another = v4(THEIRS, OTHERS, number::TCP, &tcp(4000, 80, SYN));
    assert_eq!(scene.r#in(&to_another), Err(Refused::ForeignAddress));
    let from_another = v4(OTHERS, THEIRS, number::TCP, &tcp(4000, 80, SYN));
    assert_eq!(scene.out(&from_another), Outbound::Refuse(Refused::ForeignAddress));
}

#[test]
fn another_peer_cannot_answer_in_a_flow() {
    let mut scene = Scene::new();
    scene.grant(Side::Source, Protocol::Tcp, 80);
    scene.out(&to_peer((4000, 80), SYN));
    let bytes = from_peer((80, 4000), ACK);
    let packet = Packet::parse(&bytes).unwrap();
    let answered = scene.filter.inbound(scene.now, OTHER, &packet, bytes.len());
    assert_eq!(answered, Err(Refused::ForeignAddress));
}

#[test]
fn taking_a_grant_away_stops_its_flows_at_once_and_asks_for_ours_only() {
    let mut scene = Scene::new();
    let ours = scene.grant(Side::Source, Protocol::Tcp, 80);
    let theirs = scene.grant(Side::Destination, Protocol::Tcp, 22);
    scene.out(&to_peer((4000, 80), SYN));
    scene.r#in(&from_peer((5000, 22), SYN)).unwrap();
    assert_eq!(scene.out(&to_peer((22, 5000), ACK)), Outbound::Admit(PEER));
    for id in [&ours, &theirs] {
        assert!(scene.filter.revoke(PEER, id).is_some());
    }
    assert!(matches!(scene.out(&to_peer((4000, 80), ACK)), Outbound::Ask(_)));
    assert_eq!(scene.out(&to_peer((22, 5000), ACK)), Outbound::Refuse(Refused::NotGranted));
    assert_eq!(scene.r#in(&from_peer((80, 4000), ACK)), Err(Refused::NotGranted));
    assert_eq!(scene.r#in(&from_peer((5000, 22), ACK)), Err(Refused::NotGranted));
    // The same without the peer.
    scene.filter.remove_peer(PEER);
    assert_eq!(scene.out(&to_peer((22, 5000), ACK)), Outbound::Refuse(Refused::NotGranted));
}

#[test]
fn a_new_grant_opens_between_the_ports_of_a_flow_that_was_cut() {
    let mut scene = Scene::new();
    let id = scene.grant(Side::Destination, Protocol::Tcp, 80);
    scene.r#in(&from_peer((4000, 80), SYN)).unwrap();
    scene.filter.revoke(PEER, &id);
    scene.grant(Side::Source, Protocol::Tcp, 4000);
    assert_eq!(scene.out(&to_peer((80, 4000), SYN)), Outbound::Admit(PEER));
}

#[test]
fn an_echo_passes_with_its_answer_and_a_stray_answer_does_not() {
    let mut scene = Scene::new();
    scene.grant(Side::Source, Protocol::Icmp, 0);
    let ping = v4(OURS, THEIRS, number::ICMP, &icmp(8, 7, b""));
    let pong = |identifier| v4(THEIRS, OURS, number::ICMP, &icmp(0, identifier, b""));
    assert_eq!(scene.out(&ping), Outbound::Admit(PEER));
    assert_eq!(scene.r#in(&pong(7)), Ok(()));
    assert!(scene.r#in(&pong(8)).is_err());
    assert!(scene.r#in(&v4(THEIRS, OURS, number::ICMP, &icmp(8, 7, b""))).is_err());
    assert!(scene.r#in(&v4(THEIRS, OURS, number::ICMP, &icmp(13, 7, b""))).is_err());
    assert_eq!(
        scene.out(&v4(OURS, THEIRS, number::ICMP, &icmp(0, 9, b""))),
        Outbound::Refuse(Refused::NoFlow)
    );
}

#[test]
fn an_error_passes_if_it_is_about_a_live_flow() {
    let mut scene = Scene::new();
    let id = scene.grant(Side::Source, Protocol::Udp, 53);
    let question = v4(OURS, THEIRS, number::UDP, &udp(1000, 53));
    let unreachable = v4(THEIRS, OURS, number::ICMP, &icmp(3, 0, &question));
    assert_eq!(scene.r#in(&unreachable), Err(Refused::NoFlow));
    scene.out(&question);
    assert_eq!(scene.r#in(&unreachable), Ok(()));
    let about_another = v4(OURS, OTHERS, number::UDP, &udp(1000, 53));
    assert!(scene.r#in(&v4(THEIRS, OURS, number::ICMP, &icmp(3, 0, &about_another))).is_err());
    scene.filter.revoke(PEER, &id);
    assert_eq!(scene.r#in(&unreachable), Err(Refused::NotGranted));
    // Ours, about a flow of theirs.
    scene.grant(Side::Destination, Protocol::Udp, 99);
    let theirs = v4(THEIRS, OURS, number::UDP, &udp(2000, 99));
    scene.r#in(&theirs).unwrap();
    assert_eq!(scene.out(&v4(OURS, THEIRS, number::ICMP, &icmp(3, 0, &theirs))), Outbound::Admit(PEER));
}

#[test]
fn silent_and_ended_flows_are_forgotten() {
    let mut scene = Scene::new();
    scene.grant(Side::Destination, Protocol::Tcp, 22);
    scene.r#in(&from_peer((5000, 22), SYN)).unwrap();
    scene.now += Duration::from_secs(3600);
    scene.filter.sweep(scene.now);
    assert_eq!(scene.out(&to_peer((22, 5000), ACK)), Outbound::Admit(PEER), "an hour of silence is no end");
    scene.r#in(&from_peer((5000, 22), FIN)).unwrap();
    scene.now += Duration::from_secs(60);
    assert_eq!(scene.out(&to_peer((22, 5000), ACK)), Outbound::Refuse(Refused::NoFlow));
    scene.filter.sweep(scene.now);
    assert_eq!(scene.filter.flow_count(), 0);
}

#[test]
fn a_flow_that_another_router_takes_over_is_counted_as_that_ones() {
    let mut scene = Scene::new();
    let behind = Ipv4Addr::new(10, 20, 0, 5);
    let bytes = v4(OURS, behind, number::TCP, &tcp(4000, 80, SYN));
    for (number, router) in [(1, PEER), (2, OTHER), (3, PEER)] {
        let id = AuthorizationId::from_bytes([number; 16]);
        let mut grant = Grant::new(id.clone(), Side::Source, Protocol::Tcp, PortRange::single(80));
        grant.route = Some("10.20.0.0/16".parse().unwrap());
        scene.filter.grant(router, grant);
        assert_eq!(scene.out(&bytes), Outbound::Admit(router));
        let flows = |peer| scene.filter.peers.get(&peer).map_or(0, |peer| peer.flows);
        let other = if router == PEER { OTHER } else { PEER };
        assert_eq!((flows(router), flows(other)), (1, 0));
        scene.filter.revoke(router, &id);
    }
    assert_eq!(
        scene.out(&bytes),
        Outbound::Ask(Wish { address: behind.into(), protocol: Protocol::Tcp, port: 80, by_exit: false })
    );
}

#[test]
fn one_peer_cannot_fill_the_table() {
    let mut scene = Scene::new();
    scene.filter.grant(
        PEER,
        Grant::new(AuthorizationId::from_bytes([9; 16]), Side::Destination, Protocol::Udp, PortRange::ALL),
    );
    let mut refused = 0;
    for number in 0..u32::try_from(MAX_FLOWS_PER_PEER).unwrap() + 10 {
        let [_, _, high, low] = number.to_be_bytes();
        let packet = v4(THEIRS, OURS, number::UDP, &udp(u16::from_be_bytes([high, low]), 7));
        refused += usize::from(scene.r#in(&packet) == Err(Refused::TableFull));
    }
    assert_eq!((refused, scene.filter.flow_count()), (10, MAX_FLOWS_PER_PEER));
    scene.now += Duration::from_secs(181);
    scene.filter.sweep(scene.now);
    assert_eq!(scene.r#in(&v4(THEIRS, OURS, number::UDP, &udp(1, 7))), Ok(()));
}

/// What a packet of a run is.
#[derive(Debug, Clone, Copy)]
enum Act {
    Out(u16, u16, u8),
    In(u16, u16, u8),
    Grant(bool, u16),
    Revoke(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let port = prop_oneof![Just(80_u16), Just(22), Just(4000)];
    let flags = prop_oneof![Just(SYN), Just(ACK), Just(FIN)];
    let packet = (port.clone(), port.clone(), flags);
    let act = prop_oneof![
        4 => packet.clone().prop_map(|(a, b, f)| Act::Out(a, b, f)),
        4 => packet.prop_map(|(a, b, f)| Act::In(a, b, f)),
        2 => (any::<bool>(), port).prop_map(|(source, port)| Act::Grant(source, port)),
        1 => any::<usize>().prop_map(Act::Revoke),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a model: a packet passes only if a live grant names its service at the right end, or it answers
    /// one that did and whose grant still lives.
    #[test]
    fn nothing_passes_that_no_live_grant_accounts_for(acts in acts()) {
        let mut scene = Scene::new();
        let mut grants: Vec<(AuthorizationId, Side, u16)> = Vec::new();
        for act in acts {
            let granted = |side, port| grants.iter().any(|(_, s, p)| (*s, *p) == (side, port));
            match act {
                Act::Out(source, destination, flags) => {
                    let passed = matches!(scene.out(&to_peer((source, destination), flags)), Outbound::Admit(_));
                    let opens = granted(Side::Source, destination);
                    let answers = granted(Side::Destination, source);
                    prop_assert!(!passed || opens || answers);
                    prop_assert!(passed || !opens, "a granted packet was held up");
                }
                Act::In(source, destination, flags) => {
                    let passed = scene.r#in(&from_peer((source, destination), flags)).is_ok();
                    let opens = granted(Side::Destination, destination);
                    let answers = granted(Side::Source, source);
                    prop_assert!(!passed || opens || answers);
                    prop_assert!(passed || !opens, "a granted packet was refused");
                }
                Act::Grant(is_source, port) => {
                    let side = if is_source { Side::Source } else { Side::Destination };
                    let id = scene.grant(side, Protocol::Tcp, port);
                    grants.push((id, side, port));
                }
                Act::Revoke(which) if !grants.is_empty() => {
                    let (id, ..) = grants.swap_remove(which % grants.len());
                    prop_assert!(scene.filter.revoke(PEER, &id).is_some());
                }
                Act::Revoke(_) => {}
            }
        }
    }
}
