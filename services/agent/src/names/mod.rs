//! Names of the network: what a resolver in the agent answers. Pure: a query and a zone in, an answer out.
//!
//! The zone `<network>` holds this node and those it may reach, by the netmap. It is authoritative for that zone and for the
//! reverse names of the overlay; anything else it refuses: a resolver that was asked by mistake must not tell others what it was
//! asked. (Whoever is asked instead of this host's own name servers asks those; that is the shell's.)

mod query;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use writ_schema::net::Prefix;
use writ_schema::protocol::Netmap;

pub use query::{MAX_DATAGRAM_BYTES, MAX_MESSAGE_BYTES, Query, Transport, Unanswerable};

use crate::trust::Membership;

/// How long an answer may be kept, seconds: what may be reached changes.
const LIFE: u32 = 30;
/// How long it may be kept that there is no such name.
const NEGATIVE_LIFE: u32 = 5;

/// The names of a network, as one node sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    apex: Name,
    /// The node's own addresses, whose neighbours the overlay's addresses are.
    own: (Ipv4Addr, Ipv6Addr),
    overlay: [Prefix; 2],
    /// Nothing before the first netmap: then nobody has a name, and to say so would be wrong.
    hosts: Option<Vec<(Name, Vec<IpAddr>)>>,
}

/// The network's name cannot be a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`, the name of the network, is no DNS name, so its nodes have no names")]
pub struct NotAZone(String);

impl Zone {
    /// The zone of a node that knows nobody's name yet.
    pub fn of(membership: &Membership) -> Result<Self, NotAZone> {
        let not_a_zone = || NotAZone(membership.network_name.clone());
        let mut apex = Name::from_ascii(&membership.network_name).map_err(|_| not_a_zone())?;
        apex.set_fqdn(true);
        if apex.is_root() {
            return Err(not_a_zone());
        }
        let own = (membership.address_v4, membership.address_v6);
        Ok(Self { apex, own, overlay: membership.overlay(), hosts: None })
    }

    /// The same zone with the names of a netmap. A node whose name is no DNS label has none in it.
    #[must_use]
    pub fn with(&self, netmap: &Netmap) -> Self {
        let nodes = netmap.reachable.iter().map(|reachable| &reachable.node).chain([&netmap.node]);
        let hosts = nodes.filter_map(|node| {
            let name = Name::from_ascii(&node.name).ok()?.append_domain(&self.apex).ok()?;
            Some((name, node.addresses.clone()))
        });
        Self { hosts: Some(hosts.collect()), ..self.clone() }
    }

    /// The domains that a host's resolver asks this one about, without their last dot: the network's own, and the reverse
    /// names of those parts of the overlay that have addresses in use (a /16 each; the /48).
    pub fn domains(&self) -> Vec<String> {
        let (own_v4, own_v6) = self.own;
        let named = self.hosts.iter().flatten().flat_map(|(_, addresses)| addresses);
        let used: BTreeSet<_> = named
            .filter(|address| self.is_overlay(**address))
            .filter_map(|address| match address {
                IpAddr::V4(address) => Some(address.octets()[1]),
                IpAddr::V6(_) => None,
            })
            .chain([own_v4.octets()[1]])
            .collect();
        let used = used.into_iter().map(|second| format!("{second}.{}.in-addr.arpa", own_v4.octets()[0]));
        let prefix = own_v6.octets().into_iter().take(6).rev();
        let prefix: Vec<_> = prefix.map(|byte| format!("{:x}.{:x}", byte & 15, byte >> 4)).collect();
        let mut apex = self.apex.clone();
        apex.set_fqdn(false);
        [apex.to_ascii()].into_iter().chain(used).chain([format!("{}.ip6.arpa", prefix.join("."))]).collect()
    }

    /// Whether a query is for this zone to answer: of the network, or of its addresses.
    pub fn is_asked(&self, query: &Query) -> bool {
        query.question().is_some_and(|asked| {
            self.apex.zone_of(asked.name())
                || overlay_address(asked.name()).is_some_and(|address| self.is_overlay(address))
        })
    }

    /// The answer to a query. What is not of the network is refused.
    pub fn answer(&self, query: &Query, transport: Transport) -> Vec<u8> {
        query.answer(transport, |answer| {
            let Some(asked) = query.question() else { return ResponseCode::FormErr };
            if asked.query_class() != DNSClass::IN {
                return ResponseCode::Refused;
            }
            self.look_up(asked.name(), asked.query_type(), answer)
        })
    }

    fn look_up(&self, name: &Name, kind: RecordType, answer: &mut Message) -> ResponseCode {
        let is_of_network = self.apex.zone_of(name);
        let address = overlay_address(name).filter(|address| self.is_overlay(*address));
        if !is_of_network && address.is_none() {
            return ResponseCode::Refused;
        }
        let Some(hosts) = &self.hosts else { return ResponseCode::ServFail };
        let (exists, records) = match address {
            Some(address) => reverse(hosts, name, kind, address),
            None => self.forward(hosts, name, kind),
        };
        answer.metadata.authoritative = true;
        if records.is_empty() {
            answer.add_authority(Record::from_rdata(self.apex.clone(), NEGATIVE_LIFE, self.soa()));
        }
        answer.add_answers(records);
        if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }
    }

    /// Whether there is the name, and its records of a kind.
    fn forward(&self, hosts: &[(Name, Vec<IpAddr>)], name: &Name, kind: RecordType) -> (bool, Vec<Record>) {
        if *name == self.apex {
            let wanted = matches!(kind, RecordType::SOA | RecordType::ANY);
            let soa = wanted.then(|| Record::from_rdata(self.apex.clone(), LIFE, self.soa()));
            return (true, soa.into_iter().collect());
        }
        let Some((_, addresses)) = hosts.iter().find(|(host, _)| host == name) else {
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

    fn soa(&self) -> RData {
        RData::SOA(SOA::new(self.apex.clone(), self.apex.clone(), 1, 300, 60, 3_600, NEGATIVE_LIFE))
    }

    fn is_overlay(&self, address: IpAddr) -> bool {
        self.overlay.iter().any(|prefix| prefix.contains(address))
    }
}

fn reverse(
    hosts: &[(Name, Vec<IpAddr>)],
    name: &Name,
    kind: RecordType,
    address: IpAddr,
) -> (bool, Vec<Record>) {
    let host = hosts.iter().find(|(_, addresses)| addresses.contains(&address));
    let Some((host, _)) = host else { return (false, Vec::new()) };
    let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
    let data = RData::PTR(PTR(host.clone()));
    (true, wanted.then(|| Record::from_rdata(name.clone(), LIFE, data)).into_iter().collect())
}

/// The whole address that a reverse name means.
fn overlay_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests;
