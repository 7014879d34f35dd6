//! What is reached behind routers: the questions agree with the decision.

use std::net::IpAddr;

use proptest::prelude::*;
use writ_policy::{Compiled, Owner, PortRange, Protocol, difference};

use super::network::{DATABASE, DEV, ONCALL, STAGING, company, compile, node};

/// Staging leads to a private network and to the Internet, the database to a part of that network.
fn with_routes(text: &str) -> Compiled {
    let mut inventory = company();
    for node in &mut inventory.nodes {
        let routes: &[&str] = match &node.owner {
            Owner::Tags(tags) if tags[0] == "tag:staging" => {
                &["10.0.0.0/8", "10.7.0.0/16", "0.0.0.0/0", "::/0"]
            }
            Owner::Tags(_) => &["10.1.0.0/16", "fd00::/48"],
            Owner::User(_) => &[],
        };
        node.routes = routes.iter().map(|route| route.parse().expect("prefix")).collect();
    }
    compile(text, &inventory)
}

fn policy(acls: &str) -> String {
    format!(
        r#"{{"groups": {{"group:ops": ["oncall@example.com"]}},
            "tagOwners": {{"tag:staging": [], "tag:database": []}}, "acls": [{acls}]}}"#
    )
}

fn rule(src: &str, dst: &str) -> String {
    format!(r#"{{"action": "accept", "src": ["{src}"], "dst": ["{dst}"]}}"#)
}

/// As `router route ports rule` for TCP.
fn told(rows: &[writ_policy::ReachBehind]) -> Vec<String> {
    let tcp = |row: &writ_policy::ReachBehind| {
        let services = row.services.iter().filter(|service| service.protocol == Protocol::Tcp);
        let services: Vec<_> =
            services.map(|service| format!("{} {}", service.ports, service.rule)).collect();
        let router = if row.router == node(STAGING) { "staging" } else { "database" };
        format!("{router} {} {}", row.route, services.join(", "))
    };
    rows.iter().map(tcp).collect()
}

#[test]
fn reach_names_router_route_ports_and_rule() {
    let acls = [
        rule("group:ops", "10.1.2.0/24:443"),
        rule("*", "10.0.0.0/8:80"),
        rule("group:ops", "autogroup:internet:*"),
    ];
    let compiled = with_routes(&policy(&acls.join(",")));
    let mut rows = told(&compiled.reach_behind(&node(ONCALL)));
    rows.sort();
    assert_eq!(
        rows,
        [
            "database 10.1.0.0/16 80 acls[1]",
            "database 10.1.2.0/24 443 acls[0]",
            "staging 0.0.0.0/0 * acls[2]",
            "staging 10.0.0.0/8 80 acls[1]",
            "staging 10.1.2.0/24 443 acls[0]",
            "staging ::/0 * acls[2]",
        ]
    );
    assert_eq!(told(&compiled.reach_behind(&node(DEV))).len(), 2);
    let inbound = compiled.who_can_reach_behind(&node(DATABASE));
    assert!(inbound.iter().all(|row| row.router == node(DATABASE) && row.source != node(DATABASE)));
    assert_eq!(inbound.iter().filter(|row| row.source == node(ONCALL)).count(), 2);
    let pair = compiled.services_behind(&node(ONCALL), &node(DATABASE));
    assert_eq!(told(&pair), ["database 10.1.0.0/16 80 acls[1]", "database 10.1.2.0/24 443 acls[0]"]);
    assert!(
        compiled.reach_behind(&node(9)).is_empty() && compiled.who_can_reach_behind(&node(DEV)).is_empty()
    );
}

#[test]
fn a_difference_is_exact_behind_routers_too() {
    let change = |old: &str, new: &str| {
        let difference = difference(&with_routes(&policy(old)), &with_routes(&policy(new)));
        let tell = |changes: &[writ_policy::Change]| -> Vec<String> {
            let behind = changes.iter().filter(|it| it.protocol == Protocol::Tcp && it.dst == node(DATABASE));
            behind.map(|it| format!("{} {}", it.route.expect("behind it"), it.ports)).collect()
        };
        (tell(&difference.gained), tell(&difference.lost), difference.to_string())
    };
    let (wide, narrow) = (rule("group:ops", "10.1.0.0/16:80-90"), rule("group:ops", "10.1.0.0/17:85-443"));
    let (gained, lost, text) = change(&wide, &narrow);
    assert_eq!(gained, ["10.1.0.0/17 91-443"]);
    assert_eq!(lost, ["10.1.0.0/16 80-84", "10.1.128.0/17 85-90"]);
    assert!(text.contains("oncall@example.com -> tag:database: tcp+udp 91-443 for 10.1.0.0/17"), "{text}");
    assert_eq!(change(&wide, &wide), (vec![], vec![], change("", "").2));
    let moved = [rule("*", "tag:staging:1"), wide.clone()].join(",");
    let (gained, lost, _) = change(&wide, &moved);
    assert!(gained.is_empty() && lost.is_empty(), "another place in the file is no change");
    let out = rule("group:ops", "autogroup:internet:443");
    let difference = difference(&with_routes(&policy("")), &with_routes(&policy(&out)));
    let routes: Vec<_> =
        difference.gained.iter().filter_map(|it| it.route.map(|route| route.to_string())).collect();
    assert!(
        routes.iter().all(|route| route == "0.0.0.0/0" || route == "::/0") && !routes.is_empty(),
        "{routes:?}"
    );
}

fn acl() -> impl Strategy<Value = String> {
    let sources =
        prop::sample::select(vec!["*", "group:ops", "dev@example.com", "tag:database", "100.64.0.3"]);
    let places = prop::sample::select(vec![
        "*",
        "10.0.0.0/8",
        "10.1.2.0/24",
        "10.1.0.0-10.1.0.9",
        "autogroup:internet",
        "fd00::/64",
        "tag:staging",
        "8.8.8.0/24",
    ]);
    let ports = prop::sample::select(vec!["*", "80", "80-90,443"]);
    (sources, places, ports).prop_map(|(src, place, ports)| rule(src, &format!("{place}:{ports}")))
}

proptest! {
    #[test]
    fn whoever_is_said_to_reach_something_is_let_through_and_nobody_else(acls in prop::collection::vec(acl(), 0..5)) {
        let compiled = with_routes(&policy(&acls.join(",")));
        let rows = compiled.reach_behind(&node(ONCALL));
        let inbound: Vec<_> = [STAGING, DATABASE]
            .iter()
            .flat_map(|router| compiled.who_can_reach_behind(&node(*router)))
            .filter(|row| row.source == node(ONCALL))
            .collect();
        let sorted = |mut rows: Vec<writ_policy::ReachBehind>| {
            rows.sort_by_key(|row| (row.router.clone(), row.route));
            rows
        };
        prop_assert_eq!(sorted(inbound), sorted(rows.clone()));
        let addresses = ["10.1.2.3", "10.1.0.4", "10.1.0.12", "10.7.0.1", "1.1.1.1", "8.8.8.8", "fd00::1", "fd01::1", "2001:db8::1", "192.168.0.1"];
        for address in addresses {
            let address: IpAddr = address.parse().expect("address");
            for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 443), (Protocol::Tcp, 22)] {
                let mut decided = std::collections::BTreeSet::new();
                for exit in [None, Some(node(STAGING)), Some(node(DATABASE))] {
                    let ways = compiled.ways(&node(ONCALL), (address, exit.as_ref()), protocol, port);
                    decided.extend(ways.into_iter().map(|way| (way.router, exit.is_some())));
                }
                let covers = |ports: PortRange| ports.first <= port && port <= ports.last;
                let said: std::collections::BTreeSet<_> = rows
                    .iter()
                    .filter(|row| writ_schema::net::Prefix::of(row.route).leads_to(address))
                    .filter(|row| row.services.iter().any(|it| it.protocol == protocol && covers(it.ports)))
                    .map(|row| (row.router.clone(), row.route.prefix_len() == 0))
                    .collect();
                prop_assert_eq!(said, decided, "{} {} {}", address, protocol, port);
            }
        }
    }
}
