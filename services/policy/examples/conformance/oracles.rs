//! What is compared, one function for each kind of answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use writ_policy::{AddressSet, Compiled};

use crate::capture::Case;
use crate::harness::Count;
use crate::meaning::{self, Grant, Meaning};

/// Packet filters, capabilities among them.
pub fn filters(compiled: &Compiled, case: &Case, count: &mut Count) {
    for (name, expected) in &case.expect {
        let node = case.node_id(name);
        let actual = meaning::of_engine(&compiled.filter(&node), &compiled.capabilities(&node));
        let expected = meaning::of_capture(expected.packet_filter.as_deref().unwrap_or_default());
        let (left, right) = meaning::compare(&expected, &actual);
        let place = format!("{} {name}", case.id);
        if left == right {
            count.check(place, String::new(), String::new());
        } else {
            count.check(place, shown(&expected, &left, &right), shown(&actual, &right, &left));
        }
    }
}

/// The grants of one side, then the pieces that the other does not have.
fn shown(grants: &[Grant], own: &Meaning, other: &Meaning) -> String {
    let rules: BTreeSet<String> = grants
        .iter()
        .map(|g| {
            format!(
                "{:?} {} -> {}:{}",
                g.what,
                g.src,
                if g.dst == AddressSet::all() { "*".into() } else { g.dst.to_string() },
                g.ports
            )
        })
        .collect();
    let only = own.iter().filter(|(piece, sources)| other.get(piece) != Some(sources)).take(2);
    let only: Vec<String> =
        only.map(|((what, dst, port), src)| format!("{what:?} {src} -> {dst}:{port}")).collect();
    format!("{}; only here: {}", rules.into_iter().take(8).collect::<Vec<_>>().join(" | "), only.join(" | "))
}

/// Who is told of whom.
pub fn peers(compiled: &Compiled, case: &Case, count: &mut Count) {
    for (name, expected) in &case.expect {
        let told: BTreeSet<&str> = peer_views(case, expected.peers.as_deref()).into_keys().collect();
        let seen: BTreeSet<String> =
            compiled.visible(&case.node_id(name)).iter().map(|id| case.name_of(id).to_owned()).collect();
        let missing = |other: &str| !case.expect.contains_key(other);
        let expected: Vec<&str> = told.iter().copied().filter(|other| !missing(other)).collect();
        let actual: Vec<&str> = seen.iter().map(String::as_str).filter(|other| !missing(other)).collect();
        count.check(format!("{} {name}", case.id), expected.join(" "), actual.join(" "));
    }
}

/// The prefixes that a viewer may send to each peer that it is told of.
pub fn allowed(compiled: &Compiled, case: &Case, count: &mut Count) {
    for (viewer, expected) in &case.expect {
        for (peer, told) in peer_views(case, expected.peers.as_deref()) {
            let actual = compiled.allowed_prefixes(&case.node_id(viewer), &case.node_id(peer));
            count.check(format!("{} {viewer} -> {peer}", case.id), prefixes(told), prefixes(&actual));
        }
    }
}

/// The routes that a node carries.
pub fn primary_routes(compiled: &Compiled, case: &Case, count: &mut Count) {
    for (name, expected) in &case.expect {
        let actual = compiled.primary_routes(&case.node_id(name));
        let expected = expected.own.primary_routes.as_deref().unwrap_or_default();
        count.check(format!("{} {name}", case.id), prefixes(expected), prefixes(&actual));
    }
}

/// The application capabilities that each peer has at a node.
pub fn pair_capabilities(compiled: &Compiled, case: &Case, count: &mut Count) {
    type Held = BTreeMap<String, BTreeSet<String>>;
    for (name, expected) in &case.expect {
        let Some(told) = &expected.whois_cap_map else { continue };
        let Some(machine) = case.nodes.get(name) else { continue };
        let rules = compiled.capabilities(&case.node_id(name));
        let held = |peer: IpAddr| {
            let at = if peer.is_ipv4() { machine.ipv4 } else { machine.ipv6 };
            let mut held = Held::new();
            for rule in
                rules.iter().filter(|rule| rule.sources.contains(peer) && rule.destinations.contains(at))
            {
                let values = rule.values.iter().map(ToString::to_string);
                held.entry(rule.capability.clone()).or_default().extend(values);
            }
            held
        };
        for (peer, capabilities) in told {
            let told: Held = capabilities
                .iter()
                .map(|(name, values)| {
                    (name.clone(), values.iter().flatten().map(ToString::to_string).collect())
                })
                .collect();
            count.check(
                format!("{} {peer} at {name}", case.id),
                format!("{told:?}"),
                format!("{:?}", held(*peer)),
            );
        }
    }
}

/// The peers that a node was told of, by name, with the prefixes that it may send to them.
fn peer_views<'c>(
    case: &'c Case,
    peers: Option<&'c [crate::capture::Peer]>,
) -> BTreeMap<&'c str, &'c [IpNet]> {
    let mut views = BTreeMap::new();
    for peer in peers.unwrap_or_default() {
        let prefixes = peer.allowed_ips.as_deref().unwrap_or_default();
        if let Some(name) = prefixes.iter().find_map(|prefix| case.node_at(prefix.addr())) {
            views.insert(name.as_str(), prefixes);
        }
    }
    views
}

fn prefixes(prefixes: &[IpNet]) -> String {
    let sorted: BTreeSet<IpNet> = prefixes.iter().copied().collect();
    sorted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
