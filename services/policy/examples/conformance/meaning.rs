//! Packet filters by what they mean: two filters are equal if every packet fares the same, however they are
//! written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use writ_policy::{AddressSet, CapabilityRule, FilterRule, PortRange};

use super::capture::WireRule;

/// One grant: packets from `src` to `dst`, for a protocol and ports or for a capability.
#[derive(Debug, Clone)]
pub struct Grant {
    pub src: AddressSet,
    pub dst: AddressSet,
    pub what: What,
    pub ports: PortRange,
}

/// What is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Protocol(u8),
    /// A capability with one of its values.
    Capability(String, String),
}

/// A filter taken apart: of every piece of destinations and ports that no rule divides further, who gets
/// there.
pub type Meaning = BTreeMap<(What, IpAddr, u16), AddressSet>;

/// The protocols of a rule that names none.
const DEFAULTS: [u8; 4] = [6, 17, 1, 58];

pub fn of_engine(rules: &[FilterRule], capabilities: &[CapabilityRule]) -> Vec<Grant> {
    let mut grants = Vec::new();
    for rule in rules {
        for protocol in &rule.protocols {
            let what = What::Protocol(protocol.number());
            grants.extend(rule.ports.iter().map(|ports| Grant {
                src: rule.sources.clone(),
                dst: rule.destinations.clone(),
                what: what.clone(),
                ports: *ports,
            }));
        }
    }
    for rule in capabilities {
        grants.extend(values(Some(&rule.values)).into_iter().map(|value| Grant {
            src: rule.sources.clone(),
            dst: rule.destinations.clone(),
            what: What::Capability(rule.capability.clone(), value),
            ports: PortRange::ALL,
        }));
    }
    grants
}

pub fn of_capture(rules: &[WireRule]) -> Vec<Grant> {
    let mut grants = Vec::new();
    for rule in rules {
        let src = set(rule.src.iter().flatten());
        for dst in rule.dst_ports.iter().flatten() {
            for protocol in rule.protocols.as_deref().unwrap_or(&DEFAULTS) {
                grants.push(Grant {
                    src: src.clone(),
                    dst: set([&dst.ip]),
                    what: What::Protocol(*protocol),
                    ports: PortRange { first: dst.ports.first, last: dst.ports.last },
                });
            }
        }
        for grant in rule.cap_grant.iter().flatten() {
            for (name, given) in &grant.cap_map {
                grants.extend(values(given.as_ref()).into_iter().map(|value| Grant {
                    src: src.clone(),
                    dst: set(&grant.dsts),
                    what: What::Capability(name.clone(), value),
                    ports: PortRange::ALL,
                }));
            }
        }
    }
    grants
}

/// Takes both filters apart along the boundaries of either.
pub fn compare(left: &[Grant], right: &[Grant]) -> (Meaning, Meaning) {
    let both = || left.iter().chain(right);
    let mut starts: Vec<IpAddr> = Vec::new();
    for (first, last) in both().flat_map(|grant| grant.dst.ranges()) {
        starts.push(first);
        starts.extend(following(last));
    }
    starts.sort();
    starts.dedup();
    let mut ports: Vec<u16> = Vec::new();
    for grant in both() {
        ports.push(grant.ports.first);
        ports.extend(grant.ports.last.checked_add(1));
    }
    ports.sort_unstable();
    ports.dedup();
    (meaning(left, &starts, &ports), meaning(right, &starts, &ports))
}

fn meaning(grants: &[Grant], starts: &[IpAddr], ports: &[u16]) -> Meaning {
    let mut pieces = Meaning::new();
    for grant in grants.iter().filter(|grant| !grant.src.is_empty()) {
        for start in starts.iter().filter(|start| grant.dst.contains(**start)) {
            for port in ports.iter().filter(|port| grant.ports.contains(**port)) {
                let piece = pieces.entry((grant.what.clone(), *start, *port)).or_default();
                *piece = piece.union(&grant.src);
            }
        }
    }
    pieces
}

/// The values of a capability, each as text; one that only marks has the empty text.
fn values(given: Option<&Vec<serde_json::Value>>) -> Vec<String> {
    match given {
        Some(values) if !values.is_empty() => values.iter().map(ToString::to_string).collect(),
        _ => vec![String::new()],
    }
}

fn set<'t>(texts: impl IntoIterator<Item = &'t String>) -> AddressSet {
    texts.into_iter().fold(AddressSet::default(), |set, text| set.union(&range(text)))
}

fn range(text: &str) -> AddressSet {
    if text == "*" {
        return AddressSet::all();
    }
    if let Some((first, last)) = text.split_once('-')
        && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
    {
        return AddressSet::from_ranges([(first, last)]);
    }
    match (text.parse(), text.parse::<IpAddr>()) {
        (Ok(net), _) => AddressSet::from_prefixes([net]),
        (_, Ok(address)) => AddressSet::from_addresses([address]),
        _ => AddressSet::default(),
    }
}

fn following(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}
