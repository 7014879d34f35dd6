//! What is compared, one function for each kind of answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use writ_policy::{AddressSet, Compiled, PortRange, Protocol, SshAction};

use super::capture::{Case, Peer};
use super::harness::{Count, SPREADING};
use super::meaning::{self, Grant, Meaning, What};

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

/// Single decisions between nodes, at every port where a captured filter changes its mind.
pub fn decisions(compiled: &Compiled, case: &Case, count: &mut Count) {
    for (name, expected) in &case.expect {
        let Some(target) = case.nodes.get(name) else { continue };
        let grants = meaning::of_capture(expected.packet_filter.as_deref().unwrap_or_default());
        let mut ports: BTreeSet<u16> = BTreeSet::from([1]);
        for grant in &grants {
            let PortRange { first, last } = grant.ports;
            ports.extend([first, first.saturating_sub(1), last, last.saturating_add(1)]);
        }
        for (source_name, source) in case.nodes.iter().filter(|(source, _)| *source != name) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for port in &ports {
                    let admits = |grant: &Grant, from: IpAddr, to: IpAddr| {
                        grant.what == What::Protocol(protocol.number())
                            && grant.ports.contains(*port)
                            && grant.src.contains(from)
                            && grant.dst.contains(to)
                    };
                    let expected = grants
                        .iter()
                        .any(|g| admits(g, source.ipv4, target.ipv4) || admits(g, source.ipv6, target.ipv6));
                    let (from, to) = (case.node_id(source_name), case.node_id(name));
                    let actual = compiled.permits(&from, &to, protocol, *port).is_some();
                    let place = || format!("{} {source_name} -> {name} {protocol} {port}", case.id);
                    count.check_fast(expected == actual, || {
                        (place(), expected.to_string(), actual.to_string())
                    });
                }
            }
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
        for (peer, view) in peer_views(case, expected.peers.as_deref()) {
            let told = view.allowed_ips.as_deref().unwrap_or_default();
            let actual = compiled.allowed_prefixes(&case.node_id(viewer), &case.node_id(peer));
            let too_many = told.iter().filter(|prefix| !actual.contains(prefix));
            let is_spreading = too_many.clone().next().is_some()
                && actual.iter().all(|prefix| told.contains(prefix))
                && too_many.into_iter().all(|prefix| case.is_unknown_to_router(peer, prefix));
            let cause = is_spreading.then_some(SPREADING);
            let place = format!("{} {viewer} -> {peer}", case.id);
            count.check_unless(cause, place, prefixes(told), prefixes(&actual));
        }
    }
}

/// What each peer is told to offer.
pub fn peer_capabilities(compiled: &Compiled, case: &Case, count: &mut Count) {
    for (viewer, expected) in &case.expect {
        for (peer, view) in peer_views(case, expected.peers.as_deref()) {
            let expected: BTreeSet<&String> = view.cap_map.iter().flatten().map(|(name, _)| name).collect();
            let actual = compiled.peer_attributes(&case.node_id(viewer), &case.node_id(peer));
            count.check(
                format!("{} {viewer} -> {peer}", case.id),
                format!("{expected:?}"),
                format!("{actual:?}"),
            );
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
        // Peers that are not named have none.
        let others = case.nodes.iter().filter(|(other, _)| *other != name);
        for peer in others.flat_map(|(_, other)| [other.ipv4, other.ipv6]) {
            let told: Held = told
                .get(&peer)
                .into_iter()
                .flatten()
                .map(|(name, values)| {
                    (name.clone(), values.iter().flatten().map(ToString::to_string).collect())
                })
                .collect();
            count.check(
                format!("{} {peer} at {name}", case.id),
                format!("{told:?}"),
                format!("{:?}", held(peer)),
            );
        }
    }
}

/// What nodes are told whatever the policy says: the state of the network and of its users.
const STATE: [&str; 15] = [
    "default-auto-update",
    "https://tailscale.com/cap/file-sharing",
    "https://tailscale.com/cap/is-admin",
    "https://tailscale.com/cap/is-owner",
    "https://tailscale.com/cap/ssh",
    "https://tailscale.com/cap/tailnet-lock",
    "https://tailscale.com/cap/warn-funnel-no-https",
    "native-ipv4",
    "probe-udp-lifetime",
    "service-host",
    "ssh-behavior-v1",
    "ssh-env-vars",
    "store-appc-routes",
    "tailnet-display-name",
    "tailnet.maxKeyDuration",
];

/// The attributes that the policy puts on nodes.
pub fn node_capabilities(compiled: &Compiled, case: &Case, count: &mut Count) {
    let ruled = |name: &&str| !STATE.contains(name);
    for (name, expected) in &case.expect {
        let told = expected.own.cap_map.iter().flatten().map(|(name, _)| name.as_str());
        let expected: BTreeSet<&str> = told.filter(ruled).collect();
        let attributes = compiled.attributes(&case.node_id(name));
        let actual: BTreeSet<&str> = attributes.iter().map(String::as_str).filter(ruled).collect();
        count.check(format!("{} {name}", case.id), format!("{expected:?}"), format!("{actual:?}"));
    }
}

/// Who may log in over SSH: for every address the rules that it meets, in order.
pub fn ssh_rules(compiled: &Compiled, case: &Case, count: &mut Count) {
    type Met = BTreeMap<IpAddr, Vec<String>>;
    let met = |rules: Vec<(BTreeSet<IpAddr>, String)>| {
        let mut met = Met::new();
        for (principals, rule) in rules {
            principals.into_iter().for_each(|address| met.entry(address).or_default().push(rule.clone()));
        }
        format!("{met:?}")
    };
    let is_told = case.expect.values().any(|expected| expected.ssh_rules.is_some());
    let has_section = case.policy_text().contains("\"ssh\"");
    if !is_told && !has_section {
        return;
    }
    for (name, expected) in &case.expect {
        let told = expected.ssh_rules.iter().flatten().map(|rule| {
            let principals = rule.principals.iter().map(|principal| principal.address).collect();
            let action = if rule.action.accept { "accept" } else { "check" };
            (principals, format!("{action} {:?} {:?}", rule.ssh_users, rule.accept_env))
        });
        let grants = compiled.ssh(&case.node_id(name)).into_iter().map(|grant| {
            let action = match grant.action {
                SshAction::Accept => "accept",
                SshAction::Check => "check",
            };
            let text = format!("{action} {:?} {:?}", grant.users, grant.accept_env);
            (grant.principals.into_iter().collect(), text)
        });
        count.check(format!("{} {name}", case.id), met(told.collect()), met(grants.collect()));
    }
}

/// The peers that a node was told of, by name.
fn peer_views<'c>(case: &'c Case, peers: Option<&'c [Peer]>) -> BTreeMap<&'c str, &'c Peer> {
    let mut views = BTreeMap::new();
    for peer in peers.unwrap_or_default() {
        let prefixes = peer.allowed_ips.as_deref().unwrap_or_default();
        if let Some(name) = prefixes.iter().find_map(|prefix| case.node_at(prefix.addr())) {
            views.insert(name.as_str(), peer);
        }
    }
    views
}

fn prefixes(prefixes: &[IpNet]) -> String {
    let sorted: BTreeSet<IpNet> = prefixes.iter().copied().collect();
    sorted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
