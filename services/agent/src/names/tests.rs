//! What is asked is answered, in both directions; what is not ours is refused; rubbish is survived.

use hickory_proto::op::{self, Edns, MessageType, OpCode};
use proptest::prelude::*;
use writ_schema::protocol::{NetmapNode, Reachable};
use writ_schema::{NetworkId, NodeId};

use super::*;

fn membership(network_name: &str) -> Membership {
    Membership {
        node: NodeId::from_bytes([1; 16]),
        network: NetworkId::from_bytes([1; 16]),
        network_name: network_name.to_owned(),
        address_v4: "100.64.0.1".parse().unwrap(),
        address_v6: "fd00:1:2::1".parse().unwrap(),
    }
}

fn node(number: u8, name: &str) -> NetmapNode {
    let addresses = [format!("100.64.0.{number}"), format!("fd00:1:2::{number}")];
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    NetmapNode { node: NodeId::from_bytes([number; 16]), name: name.to_owned(), addresses }
}

fn zone() -> Zone {
    // More addresses than a datagram has room for.
    let mut many = node(4, "many");
    many.addresses = (0..=255).map(|last| IpAddr::from([100, 65, 1, last])).collect();
    let reachable = [node(2, "staging-cluster"), node(3, "not a label"), many]
        .map(|node| Reachable { node, services: Vec::new() });
    Zone::of(&membership("corp.example")).unwrap().with(&Netmap {
        routes: Vec::new(),
        exits: Vec::new(),
        approved: Vec::new(),
        hash: String::new(),
        node: node(1, "laptop"),
        network_name: "corp.example".to_owned(),
        reachable: reachable.into(),
    })
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 7;
    query.add_query(op::Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

fn respond(zone: &Zone, query: &Message, transport: Transport) -> Vec<u8> {
    zone.answer(&Query::read(&query.to_vec().unwrap()).unwrap(), transport)
}

fn ask(name: &str, kind: RecordType) -> Message {
    let answer = Message::from_vec(&respond(&zone(), &query(name, kind), Transport::Udp)).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (7, MessageType::Response));
    answer
}

fn told(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let answer = ask(name, kind);
    let told = answer.answers.iter().map(|record| record.data.to_string()).collect();
    (answer.metadata.response_code, told)
}

#[test]
fn nodes_have_names_in_both_families_and_both_directions() {
    let found = |text: &str| (ResponseCode::NoError, vec![text.to_owned()]);
    assert_eq!(told("staging-cluster.corp.example.", RecordType::A), found("100.64.0.2"));
    assert_eq!(told("Staging-Cluster.CORP.example.", RecordType::AAAA), found("fd00:1:2::2"));
    assert_eq!(told("laptop.corp.example.", RecordType::A), found("100.64.0.1"));
    assert_eq!(told("2.0.64.100.in-addr.arpa.", RecordType::PTR), found("staging-cluster.corp.example."));
    let reverse = Name::from("fd00:1:2::2".parse::<IpAddr>().unwrap()).to_string();
    assert_eq!(told(&reverse, RecordType::PTR), found("staging-cluster.corp.example."));
}

#[test]
fn what_is_not_there_is_said_not_to_be_and_for_how_long() {
    for name in ["nobody.corp.example.", "a.laptop.corp.example.", "9.0.64.100.in-addr.arpa."] {
        let answer = ask(name, RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(answer.authorities[0].ttl, NEGATIVE_LIFE);
        assert!(answer.metadata.authoritative);
    }
    assert_eq!(told("laptop.corp.example.", RecordType::MX), (ResponseCode::NoError, vec![]));
    assert_eq!(told("corp.example.", RecordType::A), (ResponseCode::NoError, vec![]));
}

#[test]
fn what_is_not_of_the_network_is_refused() {
    for name in ["example.", "www.example.org.", "1.2.0.192.in-addr.arpa.", "100.in-addr.arpa.", "."] {
        assert_eq!(told(name, RecordType::A), (ResponseCode::Refused, vec![]), "{name}");
        let asked = Query::read(&query(name, RecordType::A).to_vec().unwrap()).unwrap();
        assert!(!zone().is_asked(&asked), "{name}");
    }
    for name in ["corp.example.", "x.CORP.example.", "9.0.64.100.in-addr.arpa."] {
        let asked = Query::read(&query(name, RecordType::A).to_vec().unwrap()).unwrap();
        assert!(zone().is_asked(&asked), "{name}");
    }
}

#[test]
fn before_the_first_netmap_nobody_is_said_not_to_be() {
    let zone = Zone::of(&membership("corp.example")).unwrap();
    for (name, code) in
        [("laptop.corp.example.", ResponseCode::ServFail), ("www.example.org.", ResponseCode::Refused)]
    {
        let answer = Message::from_vec(&respond(&zone, &query(name, RecordType::A), Transport::Udp)).unwrap();
        assert_eq!(answer.metadata.response_code, code, "{name}");
    }
}

#[test]
fn a_network_whose_name_is_no_dns_name_has_no_zone() {
    for name in ["", ".", "two words", "a..b"] {
        assert_eq!(Zone::of(&membership(name)), Err(NotAZone(name.to_owned())), "{name}");
    }
}

#[test]
fn a_hosts_resolver_is_told_the_domains_that_are_in_use() {
    assert_eq!(
        zone().domains(),
        ["corp.example", "64.100.in-addr.arpa", "65.100.in-addr.arpa", "2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"]
    );
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_is_asked_for_again_over_tcp() {
    let edns = |payload: u16| {
        let mut query = query("many.corp.example.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        query.set_edns(edns);
        query
    };
    let short = query("many.corp.example.", RecordType::A);
    for (query, limit) in [(&short, 512), (&edns(700), 700), (&edns(4096), MAX_DATAGRAM_BYTES)] {
        let bytes = respond(&zone(), query, Transport::Udp);
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= limit && answer.metadata.truncation && answer.answers.is_empty(), "{answer}");
        assert_eq!(answer.edns.is_some(), query.edns.is_some());
        let whole = Message::from_vec(&respond(&zone(), query, Transport::Tcp)).unwrap();
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 256));
    }
}

#[test]
fn what_cannot_be_understood_or_is_not_spoken_is_told_so() {
    let code = |query: &Message| {
        Message::from_vec(&respond(&zone(), query, Transport::Udp)).unwrap().metadata.response_code
    };
    let mut two = query("laptop.corp.example.", RecordType::A);
    two.add_query(op::Query::query(Name::from_ascii("other.corp.example.").unwrap(), RecordType::A));
    let mut none = query("laptop.corp.example.", RecordType::A);
    none.queries.clear();
    let mut update = query("laptop.corp.example.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    let mut newer = query("laptop.corp.example.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let mut chaos = query("laptop.corp.example.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    for (query, expected) in [
        (two, ResponseCode::FormErr),
        (none, ResponseCode::FormErr),
        (update, ResponseCode::NotImp),
        // 16 is BADVERS; read back it is called by its other name (RFC 6895, 2.3).
        (newer, ResponseCode::BADSIG),
        (chaos, ResponseCode::Refused),
    ] {
        assert_eq!(code(&query), expected, "{query}");
    }

    let well = query("laptop.corp.example.", RecordType::A).to_vec().unwrap();
    for bytes in
        [&well[..0], &well[..11], &respond(&zone(), &query("corp.example.", RecordType::A), Transport::Udp)]
    {
        assert_eq!(Query::read(bytes).unwrap_err(), Unanswerable::Silence);
    }
    // A header that promises what does not follow; a name that points at itself.
    let looped = [&well[..12], &[0xC0, 0x0C, 0, 1, 0, 1]].concat();
    for bytes in [&well[..well.len() - 1], &well[..12], &looped] {
        let Err(Unanswerable::Malformed(answer)) = Query::read(bytes) else { panic!("{bytes:?}") };
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::FormErr));
    }
}

#[test]
fn an_answer_is_one_to_the_same_question_under_the_same_number() {
    let asked = query("www.example.org.", RecordType::A);
    let of = Query::read(&asked.to_vec().unwrap()).unwrap();
    let mut answer = Message::response(9, OpCode::Query);
    answer.add_query(asked.queries[0].clone());
    let good = answer.to_vec().unwrap();
    assert!(of.is_answered_by(9, &good) && !of.is_answered_by(8, &good));
    answer.queries[0].set_query_type(RecordType::AAAA);
    assert!(!of.is_answered_by(9, &answer.to_vec().unwrap()));
    assert!(!of.is_answered_by(7, &asked.to_vec().unwrap()) && !of.is_answered_by(9, &good[..20]));
}

proptest! {
    #[test]
    fn rubbish_is_survived_and_answers_are_short_and_are_not_answered(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        well_until in 0..50_usize,
    ) {
        // As it is, and as the end of something that began well.
        let well = query("laptop.corp.example.", RecordType::A).to_vec().unwrap();
        let half = [&well[..well_until.min(well.len())], &bytes].concat();
        for bytes in [&bytes, &half] {
            let answer = match Query::read(bytes) {
                Ok(query) => zone().answer(&query, Transport::Udp),
                Err(Unanswerable::Malformed(answer)) => answer,
                Err(Unanswerable::Silence) => continue,
            };
            prop_assert!(!answer.is_empty() && answer.len() <= MAX_DATAGRAM_BYTES);
            prop_assert_eq!(Query::read(&answer).unwrap_err(), Unanswerable::Silence);
        }
    }
}
