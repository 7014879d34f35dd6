//! The faces of one compiled policy say the same: for generated policies and networks, every pair, protocol
//! and port.

use proptest::prelude::*;
use std::sync::Arc;

use writ_policy::{
    Change, Compiled, Decision, Inventory, Owner, Policy, PortRange, Protocol, Reach, difference,
};
use writ_schema::NodeId;

use crate::network::{addresses, compile, machine, person, user};

const SELECTORS: [&str; 14] = [
    "*",
    "ada@example.com",
    "bob@example.com",
    "group:one",
    "group:both",
    "group:none",
    "tag:a",
    "tag:b",
    "autogroup:member",
    "autogroup:tagged",
    "four",
    "six",
    "100.64.0.0/30",
    "100.64.0.2-100.64.0.6",
];

const PEOPLE: [&str; 2] = ["ada@example.com", "bob@example.com"];

const PORTS: [&str; 6] = ["*", "80", "443", "79-81", "80,443,444", "1-65535"];
const PROTOCOLS: [&str; 5] = ["", "tcp", "udp", "sctp", "gre"];

#[derive(Debug, Clone)]
struct AnyRule {
    src: Vec<&'static str>,
    dst: Vec<(&'static str, &'static str)>,
    proto: &'static str,
    is_grant: bool,
    is_own: bool,
    asks: bool,
}

fn rules() -> impl Strategy<Value = Vec<AnyRule>> {
    let selector = || prop::sample::select(&SELECTORS[..]);
    let destination = (selector(), prop::sample::select(&PORTS[..]));
    let rule = (
        prop::collection::vec(selector(), 0..3),
        prop::collection::vec(destination, 0..3),
        prop::sample::select(&PROTOCOLS[..]),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    let rule = rule.prop_map(|(src, dst, proto, is_grant, is_own, asks)| AnyRule {
        src,
        dst,
        proto,
        is_grant,
        is_own,
        asks,
    });
    prop::collection::vec(rule, 0..5)
}

fn owners() -> impl Strategy<Value = Vec<Owner>> {
    let owner = prop_oneof![
        Just(Owner::User(user(1))),
        Just(Owner::User(user(2))),
        Just(Owner::User(user(9))),
        Just(Owner::Tags(vec!["tag:a".into()])),
        Just(Owner::Tags(vec!["tag:a".into(), "tag:b".into()])),
        Just(Owner::Tags(vec!["tag:c".into()])),
        Just(Owner::Tags(vec![])),
    ];
    prop::collection::vec(owner, 0..7)
}

fn text(rules: &[AnyRule]) -> String {
    let mut acls = Vec::new();
    let mut grants = Vec::new();
    for rule in rules {
        let AnyRule { src, dst, proto, is_grant, is_own, asks } = rule;
        let asked = if *asks { Some(["posture:linux"]) } else { None };
        let has_ports = *proto != "gre";
        let src: Vec<&str> = if *is_own { vec!["autogroup:member", "group:both"] } else { src.clone() };
        let dst = if *is_own { vec![("autogroup:self", "80"), ("tag:a", "443")] } else { dst.clone() };
        let ports = |ports: &str| if has_ports { ports.to_owned() } else { "*".to_owned() };
        if *is_grant {
            let ip = dst
                .iter()
                .map(|(_, p)| if proto.is_empty() { ports(p) } else { format!("{proto}:{}", ports(p)) });
            // A list in `ip` is one entry per range.
            let ip: Vec<String> =
                ip.filter(|entry| !entry.contains(',')).chain(["udp:7".to_owned()]).collect();
            let dst: Vec<&str> = dst.iter().map(|(name, _)| *name).collect();
            grants.push(serde_json::json!({"src": src, "dst": dst, "ip": ip, "srcPosture": asked}));
        } else {
            let dst: Vec<String> = dst.iter().map(|(name, p)| format!("{name}:{}", ports(p))).collect();
            acls.push(serde_json::json!({
                "action": "accept", "proto": proto, "src": src, "dst": dst, "srcPosture": asked,
            }));
        }
    }
    serde_json::json!({
        "groups": {
            "group:one": ["ada@example.com"],
            "group:both": ["bob@example.com", "ada@example.com"],
            "group:none": [],
        },
        "tagOwners": {"tag:a": [], "tag:b": ["tag:a"], "tag:c": []},
        "postures": {"posture:linux": ["node:os == 'linux'"]},
        "hosts": {"four": "100.64.0.4", "six": "fd7a:115c:a1e0::/125"},
        "acls": acls,
        "grants": grants,
    })
    .to_string()
}

fn network(owners: &[Owner]) -> Inventory {
    let nodes = (1u8..).zip(owners).map(|(number, owner)| {
        let mut node = machine(number, owner.clone());
        // Some nodes have one family only.
        match number {
            2 => node.addresses.truncate(1),
            3 => drop(node.addresses.remove(0)),
            _ => {}
        }
        node
    });
    Inventory {
        users: vec![person(1, "ada@example.com"), person(2, "bob@example.com")],
        nodes: nodes.collect(),
    }
}

const TRIED: [Protocol; 6] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Icmp,
    Protocol::Other(132),
    Protocol::Other(47),
    Protocol::Other(3),
];

/// One port of each piece that the boundaries of all ranges cut the ports into stands for the whole piece, so
/// trying these tries them all.
fn decisive_ports() -> Vec<u16> {
    let bounds = [7u16, 79, 80, 81, 443, 444, 1, 65535];
    let mut ports: Vec<u16> =
        bounds.iter().flat_map(|b| [b.saturating_sub(1), *b, b.saturating_add(1)]).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn pairs(inventory: &Inventory) -> Vec<(NodeId, NodeId)> {
    let ids: Vec<&NodeId> = inventory.nodes.iter().map(|node| &node.id).collect();
    let all = ids.iter().flat_map(|src| ids.iter().map(|dst| ((*src).clone(), (*dst).clone())));
    all.filter(|(src, dst)| src != dst).collect()
}

fn reach_admits(reach: &[Reach], node: &NodeId, protocol: Protocol, port: u16) -> Option<String> {
    let reach = reach.iter().find(|reach| reach.node == *node)?;
    let service = reach.services.iter().find(|s| s.protocol == protocol && s.ports.contains(port))?;
    Some(service.rule.to_string())
}

/// Whether a filter lets a connection in, and then whether only under conditions.
fn filter_admits(
    compiled: &Compiled,
    inventory: &Inventory,
    src: &NodeId,
    dst: &NodeId,
    service: (Protocol, u16),
) -> Option<Option<String>> {
    let own = |id: &NodeId| inventory.nodes.iter().find(|n| n.id == *id).expect("known").addresses.clone();
    let filter = compiled.filter(dst);
    let admitting = filter.iter().filter(|rule| {
        own(src).iter().any(|from| own(dst).iter().any(|to| rule.admits(*from, *to, service.0, service.1)))
    });
    // No conditions go before some.
    admitting.map(|rule| rule.conditions.as_ref().map(ToString::to_string)).min()
}

/// One pair, a service, and the conditions of the rule that allows it.
type Permission = (NodeId, NodeId, Protocol, u16, Option<String>);

/// Every permission, spelt out.
fn permissions(compiled: &Compiled, inventory: &Inventory) -> Vec<Permission> {
    let mut granted = Vec::new();
    for (src, dst) in pairs(inventory) {
        for protocol in TRIED {
            for port in decisive_ports() {
                if let Some((rule, _)) = compiled.permits(&src, &dst, protocol, port) {
                    let conditions = compiled.policy().conditions(rule).map(ToString::to_string);
                    granted.push((src.clone(), dst.clone(), protocol, port, conditions));
                }
            }
        }
    }
    granted
}

fn covers(changes: &[Change], (src, dst, protocol, port, conditions): &Permission) -> bool {
    changes.iter().any(|c| {
        c.src == *src
            && c.dst == *dst
            && c.protocol == *protocol
            && c.ports.contains(*port)
            && c.conditions == *conditions
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn decisions_agree_with_filters_and_peers(rules in rules(), owners in owners()) {
        let inventory = network(&owners);
        let compiled = compile(&text(&rules), &inventory);
        for (src, dst) in pairs(&inventory) {
            let peers = compiled.peers(&src);
            let inbound = compiled.who_can_reach(&dst);
            for protocol in TRIED {
                for port in decisive_ports() {
                    let decision = compiled.decide(&src, &dst, protocol, port);
                    let rule = match &decision {
                        Decision::Allowed { rule, ports } => {
                            prop_assert!(ports.contains(port) || *ports == PortRange::ALL);
                            Some(rule.to_string())
                        }
                        Decision::Denied { .. } => None,
                    };
                    let place = format!("{src} -> {dst} {protocol} {port}");
                    prop_assert_eq!(&reach_admits(&peers, &dst, protocol, port), &rule, "{}", place);
                    prop_assert_eq!(&reach_admits(&inbound, &src, protocol, port), &rule, "{}", place);
                    let admitted = filter_admits(&compiled, &inventory, &src, &dst, (protocol, port));
                    let conditions = match &decision {
                        Decision::Allowed { rule, .. } => {
                            Some(compiled.policy().conditions(*rule).map(ToString::to_string))
                        }
                        Decision::Denied { .. } => None,
                    };
                    prop_assert_eq!(&admitted, &conditions, "{}", place);
                    let explained = compiled.explain(&src, &dst, protocol, port);
                    prop_assert_eq!(&explained.decision, &decision);
                    prop_assert_eq!(explained.source_by.is_some(), rule.is_some(), "{}", place);
                }
            }
        }
    }

    #[test]
    fn a_difference_is_what_permissions_differ_by(old in rules(), new in rules(), owners in owners()) {
        let inventory = network(&owners);
        let (old, new) = (compile(&text(&old), &inventory), compile(&text(&new), &inventory));
        let change = difference(&old, &new);
        let (before, after) = (permissions(&old, &inventory), permissions(&new, &inventory));
        prop_assert_eq!(change.is_empty(), before == after);
        for (src, dst) in pairs(&inventory) {
            for protocol in TRIED {
                for port in decisive_ports() {
                    for conditions in [None, Some("the device meets posture:linux".to_owned())] {
                        let permission = (src.clone(), dst.clone(), protocol, port, conditions);
                        let (was, is) = (before.contains(&permission), after.contains(&permission));
                        prop_assert_eq!(covers(&change.gained, &permission), is && !was);
                        prop_assert_eq!(covers(&change.lost, &permission), was && !is);
                    }
                }
            }
        }
    }

    /// Nodes come, change hands, lose an address and go; what stands in the end is what compiling from
    /// nothing gives.
    #[test]
    fn changing_nodes_one_by_one_equals_compiling_from_nothing(
        rules in rules(),
        first in owners(),
        second in owners(),
    ) {
        let text = text(&rules);
        let (before, after) = (network(&first), network(&second));
        let mut changed = compile(&text, &before);
        let scratch = compile(&text, &after);
        let gone = before.nodes.iter().filter(|node| after.nodes.iter().all(|other| other.id != node.id));
        gone.for_each(|node| changed.remove_node(&node.id));
        for node in &after.nodes {
            // Asking in between must leave nothing behind.
            let _ = changed.filter(&node.id);
            changed.insert_node(node);
        }
        prop_assert!(difference(&changed, &scratch).is_empty());
        prop_assert_eq!(permissions(&changed, &after), permissions(&scratch, &after));
        for node in scratch.nodes() {
            prop_assert_eq!(changed.filter(node), scratch.filter(node));
            prop_assert_eq!(changed.peers(node), scratch.peers(node));
        }
    }

    /// A policy that changes its groups, or its rules, under the nodes that are there.
    #[test]
    fn changing_the_policy_equals_compiling_from_nothing(
        first in rules(),
        second in rules(),
        keeps_rules in any::<bool>(),
        owners in owners(),
        members in prop::collection::vec(prop::sample::subsequence(PEOPLE.to_vec(), 0..=2), 3),
    ) {
        let inventory = network(&owners);
        let text_of = |rules: &[AnyRule], members: &[Vec<&str>]| {
            let mut policy: serde_json::Value = serde_json::from_str(&text(rules)).expect("json");
            for (group, members) in ["group:one", "group:both", "group:none"].into_iter().zip(members) {
                policy["groups"][group] = members.clone().into();
            }
            policy.to_string()
        };
        let after = text_of(if keeps_rules { &first } else { &second }, &members);
        let mut changed = compile(&text(&first), &inventory);
        let scratch = compile(&after, &inventory);
        // Asking in between must leave nothing behind.
        scratch.nodes().for_each(|node| drop(changed.filter(node)));
        let policy = Policy::parse(&after).expect("readable");
        changed.change_policy(Arc::new(policy)).expect("known users");
        prop_assert!(difference(&changed, &scratch).is_empty());
        for node in scratch.nodes() {
            prop_assert_eq!(changed.filter(node), scratch.filter(node));
            prop_assert_eq!(changed.peers(node), scratch.peers(node));
            prop_assert_eq!(changed.who_can_reach(node), scratch.who_can_reach(node));
        }
    }

    /// A user who gives a node away changes what both of the user's nodes are to each other.
    #[test]
    fn a_difference_knows_of_nodes_that_changed_hands(rules in rules(), first in owners(), second in owners()) {
        let text = text(&rules);
        let (before, after) = (network(&first), network(&second));
        let (old, new) = (compile(&text, &before), compile(&text, &after));
        let all = if before.nodes.len() > after.nodes.len() { &before } else { &after };
        let (was, is) = (permissions(&old, all), permissions(&new, all));
        let change = difference(&old, &new);
        for permission in was.iter().chain(&is) {
            prop_assert_eq!(covers(&change.gained, permission), !was.contains(permission), "{:?}", permission);
            prop_assert_eq!(covers(&change.lost, permission), !is.contains(permission), "{:?}", permission);
        }
        prop_assert_eq!(change.is_empty(), was == is);
    }

    #[test]
    fn the_order_of_nodes_and_users_never_matters(rules in rules(), owners in owners()) {
        let inventory = network(&owners);
        let mut turned = inventory.clone();
        turned.nodes.reverse();
        turned.users.reverse();
        let text = text(&rules);
        let mut policy: serde_json::Value = serde_json::from_str(&text).expect("json");
        policy["groups"]["group:both"] = serde_json::json!(["ada@example.com", "bob@example.com"]);
        // The last of the names first.
        let groups: Vec<String> = policy["groups"].as_object().into_iter().flatten().rev()
            .map(|(name, members)| format!("{name:?}: {members}")).collect();
        let start = text.find("\"groups\":{").expect("groups");
        let end = start + text[start..].find('}').expect("their end");
        let turned_text = format!("{}\"groups\":{{{}{}", &text[..start], groups.join(","), &text[end..]);
        let (straight, turned) = (compile(&text, &inventory), compile(&turned_text, &turned));
        prop_assert!(difference(&straight, &turned).is_empty());
        for node in straight.nodes() {
            prop_assert_eq!(straight.filter(node), turned.filter(node));
            prop_assert_eq!(straight.peers(node), turned.peers(node));
        }
    }
}

#[test]
fn generated_networks_hold_the_addresses_that_selectors_name() {
    assert!(addresses(4).contains(&"100.64.0.4".parse().expect("address")));
}
