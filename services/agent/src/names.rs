//! Names of the network: what a resolver in the agent answers. Pure: a query and a zone in, an answer out.
//!
//! The zone `<network>` holds this node and those it may reach, by the netmap. It is authoritative for that zone and for the
//! reverse names of the overlay; anything else it refuses, and it forwards nothing: a resolver that was asked by mistake must
//! not tell others what it was asked.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use writ_schema::protocol::Netmap;

/// Longest query that is looked at, and longest answer: what EDNS recommends. An answer of two records is far shorter.
pub const MAX_MESSAGE_BYTES: usize = 1232;
/// How long an answer may be kept, seconds: what may be reached changes.
const LIFE: u32 = 30;
/// How long it may be kept that there is no such name.
const NEGATIVE_LIFE: u32 = 5;

/// The names of a network, as one node sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    apex: Name,
    /// An address of the node itself, whose neighbours the overlay's addresses are.
    own_v6: Option<std::net::Ipv6Addr>,
    hosts: Vec<(Name, Vec<IpAddr>)>,
}

/// The network's name cannot be a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`, the name of the network, is no DNS name, so its nodes have no names")]
pub struct NotAZone(String);

impl Zone {
    /// The zone of a netmap. A node whose name is no DNS label has none in it.
    pub fn of(netmap: &Netmap) -> Result<Self, NotAZone> {
        let not_a_zone = || NotAZone(netmap.network_name.clone());
        let mut apex = Name::from_ascii(&netmap.network_name).map_err(|_| not_a_zone())?;
        apex.set_fqdn(true);
        if apex.is_root() {
            return Err(not_a_zone());
        }
        let nodes = netmap.reachable.iter().map(|reachable| &reachable.node).chain([&netmap.node]);
        let hosts = nodes.filter_map(|node| {
            let name = Name::from_ascii(&node.name).ok()?.append_domain(&apex).ok()?;
            Some((name, node.addresses.clone()))
        });
        let own_v6 = netmap.node.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        Ok(Self { hosts: hosts.collect(), apex, own_v6 })
    }

    /// The answer to a query; nothing to what is none.
    pub fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(query)
            .ok()
            .filter(|query| query.metadata.message_type == MessageType::Query)?;
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(MAX_MESSAGE_BYTES).ok()?);
            answer.set_edns(edns);
        }
        let code = match query.queries.as_slice() {
            _ if query.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
            [asked] if asked.query_class() == DNSClass::IN => {
                self.look_up(asked.name(), asked.query_type(), &mut answer)
            }
            [_] => ResponseCode::Refused,
            _ => ResponseCode::FormErr,
        };
        answer.metadata.response_code = code;
        answer.add_queries(query.queries);
        answer.to_vec().ok()
    }

    fn look_up(&self, name: &Name, kind: RecordType, answer: &mut Message) -> ResponseCode {
        let (exists, records) = if self.apex.zone_of(name) {
            self.forward(name, kind)
        } else if let Some(address) = overlay_address(name).filter(|address| self.is_overlay(*address)) {
            self.reverse(name, kind, address)
        } else {
            return ResponseCode::Refused;
        };
        answer.metadata.authoritative = true;
        if records.is_empty() {
            answer.add_authority(Record::from_rdata(self.apex.clone(), NEGATIVE_LIFE, self.soa()));
        }
        answer.add_answers(records);
        if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }
    }

    /// Whether there is the name, and its records of a kind.
    fn forward(&self, name: &Name, kind: RecordType) -> (bool, Vec<Record>) {
        if *name == self.apex {
            let wanted = matches!(kind, RecordType::SOA | RecordType::ANY);
            let soa = wanted.then(|| Record::from_rdata(self.apex.clone(), LIFE, self.soa()));
            return (true, soa.into_iter().collect());
        }
        let Some((_, addresses)) = self.hosts.iter().find(|(host, _)| host == name) else {
            return (false, Vec::new());
        };
        let records = addresses.iter().filter_map(|address| {
            let (of, data) = match address {
                IpAddr::V4(address) => (RecordType::A, RData::A((*address).into())),
                IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA((*address).into())),
            };
            (kind == of || kind == RecordType::ANY).then(|| Record::from_rdata(name.clone(), LIFE, data))
        });
        (true, records.collect())
    }

    fn reverse(&self, name: &Name, kind: RecordType, address: IpAddr) -> (bool, Vec<Record>) {
        let host = self.hosts.iter().find(|(_, addresses)| addresses.contains(&address));
        let Some((host, _)) = host else { return (false, Vec::new()) };
        let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
        let data = RData::PTR(PTR(host.clone()));
        (true, wanted.then(|| Record::from_rdata(name.clone(), LIFE, data)).into_iter().collect())
    }

    fn soa(&self) -> RData {
        RData::SOA(SOA::new(self.apex.clone(), self.apex.clone(), 1, 300, 60, 3_600, NEGATIVE_LIFE))
    }

    /// Whether an address is of the network's prefixes: 100.64.0.0/10 and the /48 that this node is in.
    fn is_overlay(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let [first, second, ..] = address.octets();
                first == 100 && second & 0xC0 == 64
            }
            IpAddr::V6(address) => {
                self.own_v6.is_some_and(|own| own.segments()[..3] == address.segments()[..3])
            }
        }
    }
}

/// The whole address that a reverse name means.
fn overlay_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use proptest::prelude::*;
    use writ_schema::NodeId;
    use writ_schema::protocol::{NetmapNode, Reachable};

    use super::*;

    fn node(number: u8, name: &str) -> NetmapNode {
        let addresses = [format!("100.64.0.{number}"), format!("fd00:1:2::{number}")];
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        NetmapNode { node: NodeId::from_bytes([number; 16]), name: name.to_owned(), addresses }
    }

    fn zone() -> Zone {
        let reachable = [node(2, "staging-cluster"), node(3, "not a label")]
            .map(|node| Reachable { node, services: Vec::new() });
        let netmap = Netmap {
            hash: String::new(),
            node: node(1, "laptop"),
            network_name: "corp.example".to_owned(),
            reachable: reachable.into(),
        };
        Zone::of(&netmap).unwrap()
    }

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.metadata.id = 7;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = Message::from_vec(&zone().answer(&query.to_vec().unwrap()).unwrap()).unwrap();
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
        }
    }

    #[test]
    fn a_network_whose_name_is_no_dns_name_has_no_zone() {
        for name in ["", ".", "two words", "a..b"] {
            let netmap = Netmap {
                hash: String::new(),
                node: node(1, "laptop"),
                network_name: name.to_owned(),
                reachable: Vec::new(),
            };
            assert_eq!(Zone::of(&netmap), Err(NotAZone(name.to_owned())), "{name}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_survived_and_answers_are_not_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(answer) = zone().answer(&bytes) {
                prop_assert!(answer.len() <= MAX_MESSAGE_BYTES);
                prop_assert_eq!(zone().answer(&answer), None);
            }
        }
    }
}
