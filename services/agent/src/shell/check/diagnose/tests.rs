//! Each trouble is named, and what is well is left alone.

use std::time::Duration;

use jiff::Timestamp;
use writ_schema::NodeId;
use writ_schema::protocol::{Candidate, CandidateKind};

use super::*;
use crate::engine::{Counters, ServerStatus};
use crate::shell::check::ControlPlaneFacts;

const HERE: &str = "192.0.2.7:4000";
const OUTSIDE: &str = "203.0.113.9:4000";
const ELSEWHERE: &str = "203.0.113.9:4001";

fn server(number: u8, observed: Option<&str>) -> ServerStatus {
    let address = SocketAddr::from(([198, 51, 100, number], 3478));
    ServerStatus { address, observed: observed.map(|seen| seen.parse().unwrap()) }
}

fn set_up(by: Way) -> HostDnsStatus {
    let server = "100.64.0.1".parse().unwrap();
    HostDnsStatus::SetUp { by, server, domains: vec!["corp".to_owned()], upstreams: Vec::new() }
}

/// A host as it should be: no NAT, a relay that answers, the right time.
fn well() -> Facts {
    let engine = EngineStatus {
        generation: 0,
        rotation_pending: false,
        relay: true,
        relay_transport: Some(RelayTransport::Udp),
        relay_address: Some("198.51.100.1:3478".parse().unwrap()),
        nat: NatKind::None,
        stun: vec![server(1, Some(HERE)), server(2, Some(HERE))],
        observed: Vec::new(),
        flows: 0,
        peers: Vec::new(),
        denials: Vec::new(),
        flood_since: None,
        counters: Counters::default(),
    };
    let status = AgentStatus {
        reached_routes: Vec::new(),
        exit_node: None,
        dropping_chains: Vec::new(),
        advertised_routes: Vec::new(),
        version: "0",
        node: NodeId::from_bytes([1; 16]),
        name: "here".to_owned(),
        network: writ_schema::NetworkId::from_bytes([1; 16]),
        network_name: "corp".to_owned(),
        addresses: ["100.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        session: SessionStatus::Connected,
        session_since: Timestamp::UNIX_EPOCH,
        session_why: None,
        storage_failure: None,
        checkpoint_size: 7,
        split_view: None,
        unproven_checkpoints: Vec::new(),
        witnesses: None,
        netmap: None,
        host_dns: set_up(Way::SystemdResolved),
        candidates: vec![Candidate { address: HERE.parse().unwrap(), kind: CandidateKind::Host }],
        engine,
        refusals: Vec::new(),
    };
    Facts {
        status,
        name: Some(("writ.example".to_owned(), Ok(vec!["198.51.100.1:443".parse().unwrap()]))),
        control_plane: Ok(ControlPlaneFacts { clock_ahead_seconds: 0, took: Duration::from_millis(9) }),
        names_reach_agent: Some(true),
        dropping_chains: None,
        path_mtu: Some(1500),
    }
}

fn health(facts: &Facts, check: &str) -> (Health, String) {
    let findings = diagnose(facts);
    let finding = findings.iter().find(|finding| finding.check == check).unwrap();
    assert_eq!(finding.remedy.is_some(), finding.health != Health::Ok || check == "none", "{finding:?}");
    (finding.health, finding.found.clone())
}

#[test]
fn a_host_as_it_should_be_has_nothing_to_do() {
    let findings = diagnose(&well());
    assert!(findings.iter().all(|finding| finding.health == Health::Ok), "{findings:#?}");
    let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["clock", "dns", "names", "session", "log", "udp", "nat", "relay", "mtu"]);
}

#[test]
fn clocks_are_judged_by_what_they_break() {
    for (ahead, judged) in [
        (0, Health::Ok),
        (-4, Health::Ok),
        (5, Health::Attention),
        (-60, Health::Attention),
        (120, Health::Failed),
        (-4_000, Health::Failed),
    ] {
        let answer = ControlPlaneFacts { clock_ahead_seconds: ahead, took: Duration::ZERO };
        let facts = Facts { control_plane: Ok(answer), ..well() };
        assert_eq!(health(&facts, "clock").0, judged, "{ahead}");
    }
    let facts = Facts {
        control_plane: Ok(ControlPlaneFacts { clock_ahead_seconds: 60, took: Duration::ZERO }),
        ..well()
    };
    assert_eq!(health(&facts, "clock").1, "60 s behind the control plane's");
}

#[test]
fn nats_are_told_apart_by_what_two_servers_see() {
    let hard = |ports| NatKind::DestinationDependent { ports };
    for (nat, seen, judged, word) in [
        (NatKind::None, [Some(HERE), Some(HERE)], Health::Ok, "none"),
        (NatKind::EndpointIndependent, [Some(OUTSIDE), Some(OUTSIDE)], Health::Ok, "an easy one"),
        (NatKind::Unknown, [Some(OUTSIDE), None], Health::Ok, "cannot be told from one server"),
        (hard(Ports::Near), [Some(OUTSIDE), Some(ELSEWHERE)], Health::Attention, "2 addresses, near each"),
        (hard(Ports::Scattered), [Some(OUTSIDE), Some(ELSEWHERE)], Health::Attention, "far from each"),
        (NatKind::Unknown, [None, None], Health::Attention, "unknown"),
    ] {
        let mut facts = well();
        facts.status.engine.nat = nat;
        facts.status.engine.stun =
            seen.iter().zip(1..).map(|(observed, number)| server(number, *observed)).collect();
        let (health, found) = health(&facts, "nat");
        assert!(health == judged && found.contains(word), "{health:?} {found}");
    }
}

#[test]
fn without_udp_the_relay_is_reached_over_tls_or_not_at_all() {
    let mut facts = well();
    facts.status.engine.stun = vec![server(1, None)];
    facts.status.engine.relay_transport = Some(RelayTransport::Tls);
    assert_eq!(health(&facts, "udp").0, Health::Failed);
    assert_eq!(health(&facts, "relay").0, Health::Attention);
    facts.status.engine.relay = false;
    assert_eq!(health(&facts, "relay").0, Health::Failed);
}

#[test]
fn what_ends_a_session_is_told() {
    let mut facts = well();
    facts.status.session = SessionStatus::Connecting;
    facts.status.session_why = Some("connection refused".to_owned());
    let (judged, found) = health(&facts, "session");
    assert!(judged == Health::Failed && found.contains("connection refused"), "{found}");
    facts.status.storage_failure = Some("disk full".to_owned());
    assert!(health(&facts, "log").1.contains("disk full"));
    let facts = Facts { name: Some(("writ.example".to_owned(), Err("no answer".to_owned()))), ..well() };
    assert_eq!(health(&facts, "dns").0, Health::Failed);
}

#[test]
fn names_are_judged_by_whether_a_query_gets_to_the_agent() {
    let not_set_up = HostDnsStatus::NotSetUp { why: "a link".to_owned(), remedy: "by hand".to_owned() };
    for (status, reaches, judged, word) in [
        (set_up(Way::SystemdResolved), Some(true), Health::Ok, "systemd-resolved asks 100.64.0.1"),
        (set_up(Way::ResolvConf), Some(true), Health::Ok, "/etc/resolv.conf leads to"),
        (set_up(Way::ResolvConf), Some(false), Health::Failed, "does not reach the agent"),
        (set_up(Way::ResolvConf), None, Health::Failed, "does not reach the agent"),
        (not_set_up.clone(), Some(false), Health::Attention, "a link"),
        (not_set_up, Some(true), Health::Ok, "by hand"),
        (HostDnsStatus::Off, Some(true), Health::Ok, "by hand"),
        (HostDnsStatus::Off, Some(false), Health::Ok, "as asked"),
        (HostDnsStatus::Pending, Some(false), Health::Attention, "being set up"),
    ] {
        let mut facts = Facts { names_reach_agent: reaches, ..well() };
        facts.status.host_dns = status.clone();
        let (health, found) = health(&facts, "names");
        assert!(health == judged && found.contains(word), "{status:?} {reaches:?}: {health:?} {found}");
    }
}

#[test]
fn packets_that_would_be_cut_in_two_are_named_with_their_length() {
    let facts = Facts { path_mtu: Some(1200), ..well() };
    let (judged, found) = health(&facts, "mtu");
    assert!(judged == Health::Attention && found.starts_with("1200 bytes"), "{found}");
    let (judged, found) = health(&Facts { path_mtu: Some(1400), ..well() }, "mtu");
    assert!(judged == Health::Ok && found.contains("shorter ones are sent"), "{found}");
    assert_eq!(diagnose(&Facts { path_mtu: None, ..well() }).len(), diagnose(&well()).len() - 1);
}
