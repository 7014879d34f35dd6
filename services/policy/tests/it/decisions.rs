//! Decisions, their reasons, tests and differences, on a network that can be held in the head.

use writ_policy::{Decision, Inventory, InventoryNode, PortRange, Protocol, Verdict, difference};

use crate::network::{
    COMPANY_POLICY, DATABASE, DEV, DEV_PHONE, ONCALL, STAGING, addresses, company, compile, node, user,
};

fn rule(decision: &Decision) -> Option<(String, PortRange)> {
    match decision {
        Decision::Allowed { rule, ports } => Some((rule.to_string(), *ports)),
        Decision::Denied { .. } => None,
    }
}

#[test]
fn a_rule_grants_its_source_its_destination_its_protocol_and_its_ports_and_nothing_else() {
    let compiled = compile(COMPANY_POLICY, &company());
    let decide = |src, dst, protocol, port| rule(&compiled.decide(&node(src), &node(dst), protocol, port));
    let range = |first, last| PortRange { first, last };
    assert_eq!(decide(DEV, STAGING, Protocol::Tcp, 443), Some(("acls[0]".into(), range(443, 444))));
    assert_eq!(decide(DEV, STAGING, Protocol::Udp, 80), Some(("acls[0]".into(), range(80, 80))));
    assert_eq!(decide(DEV, STAGING, Protocol::Icmp, 0), Some(("acls[0]".into(), PortRange::ALL)));
    assert_eq!(decide(DEV, STAGING, Protocol::Other(47), 0), None, "only the usual protocols");
    assert_eq!(decide(DEV, STAGING, Protocol::Tcp, 81), None);
    assert_eq!(decide(STAGING, DEV, Protocol::Tcp, 443), None, "rules have a direction");
    assert_eq!(decide(DEV, DATABASE, Protocol::Tcp, 5432), None);
    assert_eq!(decide(ONCALL, DATABASE, Protocol::Tcp, 5432), Some(("acls[1]".into(), range(5432, 5432))));
    assert_eq!(decide(ONCALL, DATABASE, Protocol::Udp, 5432), None, "the rule is for tcp");
    assert_eq!(decide(ONCALL, STAGING, Protocol::Udp, 55), Some(("grants[0]".into(), range(53, 60))));
    assert_eq!(decide(ONCALL, STAGING, Protocol::Icmp, 0), Some(("grants[0]".into(), PortRange::ALL)));
    assert_eq!(decide(ONCALL, STAGING, Protocol::Tcp, 53), None);
}

#[test]
fn own_nodes_are_those_of_the_same_user() {
    let compiled = compile(COMPANY_POLICY, &company());
    let decide =
        |src, dst| rule(&compiled.decide(&node(src), &node(dst), Protocol::Tcp, 22)).map(|(rule, _)| rule);
    assert_eq!(decide(DEV, DEV_PHONE).as_deref(), Some("acls[2]"));
    assert_eq!(decide(DEV, ONCALL), None);
    assert_eq!(decide(DEV, STAGING), None);
}

#[test]
fn nothing_is_granted_without_a_rule_or_to_strangers() {
    let denied = compile(r#"{"acls": []}"#, &company());
    let silent = compile("{}", &company());
    for (src, dst) in [(DEV, STAGING), (DEV, DEV_PHONE), (DEV, DEV), (DEV, 99), (99, DEV)] {
        let decision = denied.decide(&node(src), &node(dst), Protocol::Tcp, 80);
        assert_eq!(decision, Decision::Denied { nearest: vec![] }, "{src} {dst}");
        let known = src != dst && src != 99 && dst != 99;
        assert_eq!(silent.permits(&node(src), &node(dst), Protocol::Tcp, 80).is_some(), known, "{src} {dst}");
    }
    assert!(
        silent.policy().allows_everything_by_silence() && !denied.policy().allows_everything_by_silence()
    );
}

#[test]
fn a_user_may_be_named_by_pseudonym() {
    let text = format!(
        r#"{{"tagOwners": {{"tag:staging": []}}, "acls": [{{"action": "accept", "src": ["{}"], "dst": ["tag:staging:*"]}}]}}"#,
        user(1)
    );
    let mut inventory = company();
    inventory.users.iter_mut().for_each(|user| user.login = user.id.to_string());
    let compiled = compile(&text, &inventory);
    assert!(compiled.permits(&node(DEV), &node(STAGING), Protocol::Tcp, 1).is_some());
    assert!(compiled.permits(&node(ONCALL), &node(STAGING), Protocol::Tcp, 1).is_none());
}

#[test]
fn a_rule_by_address_says_nothing_of_the_other_family() {
    let text = r#"{"acls": [{"action": "accept", "src": ["100.64.0.1"], "dst": ["fd7a:115c:a1e0::4:80"]}]}"#;
    let bracketed = text.replace("fd7a:115c:a1e0::4:80", "[fd7a:115c:a1e0::4]:80");
    let compiled = compile(&bracketed, &company());
    assert!(compiled.permits(&node(DEV), &node(STAGING), Protocol::Tcp, 80).is_none());
    let explanation = compiled.explain(&node(DEV), &node(STAGING), Protocol::Tcp, 80).to_string();
    assert!(explanation.contains("different families"), "{explanation}");
    let both = bracketed.replace("100.64.0.1\"", "fd7a:115c:a1e0::1\"");
    assert!(compile(&both, &company()).permits(&node(DEV), &node(STAGING), Protocol::Tcp, 80).is_some());
}

#[test]
fn an_explanation_says_through_whom_or_what_is_missing() {
    let compiled = compile(COMPANY_POLICY, &company());
    let explain = |src, dst, port| compiled.explain(&node(src), &node(dst), Protocol::Tcp, port).to_string();
    let allowed = explain(ONCALL, DATABASE, 5432);
    assert!(
        allowed.contains("acls[1] allows it: the source by group:oncall with member oncall@example.com, the destination by host db (100.64.0.5), ports 5432."),
        "{allowed}"
    );
    let denied = explain(DEV, DATABASE, 5432);
    assert!(denied.contains("no rule allows it"), "{denied}");
    assert!(denied.contains("acls[1]: the source is not group:oncall"), "{denied}");
    let wrong_port = explain(DEV, STAGING, 22);
    let first = wrong_port.lines().nth(2).unwrap_or("");
    assert_eq!(first.trim(), "acls[0]: it is for port 80, 443-444 only".replace(", 443", " or 443"));
}

#[test]
fn the_policys_tests_hold_before_any_node_has_joined() {
    let full = company();
    let empty = Inventory { users: full.users.clone(), nodes: Vec::new() };
    assert_eq!(compile(COMPANY_POLICY, &empty).run_tests(), vec![]);
    assert_eq!(compile(COMPANY_POLICY, &full).run_tests(), vec![]);
}

#[test]
fn a_failing_test_is_named() {
    let text = COMPANY_POLICY
        .replace("\"accept\": [\"db:5432\"]", "\"accept\": [\"db:5433\"], \"deny\": [\"tag:staging:22\"]");
    let failures = compile(&text, &company()).run_tests();
    let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "tests[1]: group:oncall -> db:5433 should be accepted but is denied",
            "tests[1]: group:oncall -> tag:staging:22 should be denied but is accepted by grants[0]",
        ]
    );
    assert_eq!((failures[0].expected, failures[0].actual), (Verdict::Accepted, Verdict::Denied));
}

#[test]
fn a_test_of_nobody_fails() {
    let text = r#"{"groups": {"group:none": []}, "tagOwners": {"tag:a": []}, "acls": [], "tests": [{"src": "group:none", "deny": ["tag:a:1"]}]}"#;
    let failures = compile(text, &company()).run_tests();
    assert_eq!(failures.iter().map(|f| f.actual).collect::<Vec<_>>(), [Verdict::Nobody]);
}

#[test]
fn a_difference_is_exact_and_grouped_for_people() {
    let old = compile(COMPANY_POLICY, &company());
    let text = COMPANY_POLICY
        .replace("tag:staging:80,443,444", "tag:staging:443-446")
        .replace("\"proto\": \"tcp\", ", "");
    let new = compile(&text, &company());
    let change = difference(&old, &new);
    let text = change.to_string();
    assert_eq!(
        text,
        "Gained:\n  + dev@example.com -> tag:staging: tcp+udp 445-446 (2 pairs of nodes)\n  + oncall@example.com -> tag:database: udp 5432; icmp\nLost:\n  - dev@example.com -> tag:staging: tcp+udp 80 (2 pairs of nodes)"
    );
    assert!(difference(&old, &old).is_empty());
}

#[test]
fn nodes_that_come_and_go_are_part_of_a_difference() {
    let full = company();
    let mut without = company();
    without.nodes.retain(|n: &InventoryNode| n.id != node(DEV));
    let (old, new) = (compile(COMPANY_POLICY, &full), compile(COMPANY_POLICY, &without));
    let change = difference(&old, &new);
    assert!(change.gained.is_empty());
    assert!(!change.lost.is_empty() && change.lost.iter().all(|c| c.src == node(DEV) || c.dst == node(DEV)));
    assert_eq!(difference(&new, &old).gained, change.lost);
}

#[test]
fn an_address_behind_a_router_is_reached_through_the_longest_prefix_granted() {
    let text = r#"{
      "groups": {"group:ops": ["oncall@example.com"]},
      "tagOwners": {"tag:staging": [], "tag:database": []},
      "acls": [{"action": "accept", "src": ["group:ops"], "dst": ["10.0.0.0/8:443"]}],
    }"#;
    let mut inventory = company();
    for node in &mut inventory.nodes {
        node.routes = match &node.owner {
            writ_policy::Owner::Tags(tags) if tags[0] == "tag:staging" => {
                vec!["10.0.0.0/8".parse().expect("prefix")]
            }
            writ_policy::Owner::Tags(_) => vec!["10.1.0.0/16".parse().expect("prefix")],
            writ_policy::Owner::User(_) => Vec::new(),
        };
    }
    let compiled = compile(text, &inventory);
    let way = |src, address: &str, port| {
        let address = address.parse().expect("address");
        compiled
            .ways(&node(src), (address, None), Protocol::Tcp, port)
            .into_iter()
            .next()
            .map(|way| (way.router, way.permit.rule.to_string()))
    };
    assert_eq!(way(ONCALL, "10.1.2.3", 443), Some((node(DATABASE), "acls[0]".into())));
    assert_eq!(way(ONCALL, "10.2.0.1", 443), Some((node(STAGING), "acls[0]".into())));
    assert_eq!(way(ONCALL, "10.2.0.1", 80), None);
    assert_eq!(way(DEV, "10.2.0.1", 443), None);
    assert_eq!(way(ONCALL, "11.0.0.1", 443), None, "nobody leads there");
    assert_eq!(way(ONCALL, "100.64.0.5", 443), None, "a node's own address is no route");
}

fn nothing_known() -> writ_policy::Circumstances {
    let (now, attributes) = (jiff::Timestamp::UNIX_EPOCH, std::collections::BTreeMap::new());
    writ_policy::Circumstances { now, sign_in: None, attributes }
}

/// The staging cluster is an exit node for IPv4, the database one for both families.
fn with_exits(text: &str) -> writ_policy::Compiled {
    let mut inventory = company();
    for node in &mut inventory.nodes {
        let routes: &[&str] = match &node.owner {
            writ_policy::Owner::Tags(tags) if tags[0] == "tag:staging" => &["0.0.0.0/0", "10.0.0.0/8"],
            writ_policy::Owner::Tags(_) => &["0.0.0.0/0", "::/0"],
            writ_policy::Owner::User(_) => &[],
        };
        node.routes = routes.iter().map(|route| route.parse().expect("prefix")).collect();
    }
    compile(text, &inventory)
}

#[test]
fn an_exit_node_leads_to_the_internet_for_whoever_chooses_it_and_to_nothing_private() {
    let text = r#"{
      "groups": {"group:ops": ["oncall@example.com"]},
      "tagOwners": {"tag:staging": [], "tag:database": []},
      "acls": [{"action": "accept", "src": ["group:ops"], "dst": ["autogroup:internet:443"]}],
    }"#;
    let compiled = with_exits(text);
    let way = |src, address: &str, exit, port| {
        let (address, exit) = (address.parse().expect("address"), Option::map(exit, node));
        let ways = compiled.ways(&node(src), (address, exit.as_ref()), Protocol::Tcp, port);
        let known = nothing_known();
        let now = compiled.ways_now(&node(src), (address, exit.as_ref()), Protocol::Tcp, port, &known);
        assert_eq!(now.unwrap_or_default(), ways, "one decision");
        ways.into_iter().next().map(|way| (way.router, way.prefix.to_string()))
    };
    let everywhere = |exit, all: &str| Some((node(exit), all.to_owned()));
    for address in ["1.1.1.1", "203.0.113.7", "223.1.2.3"] {
        assert_eq!(way(ONCALL, address, Some(STAGING), 443), everywhere(STAGING, "0.0.0.0/0"));
    }
    assert_eq!(way(ONCALL, "2001:db8::1", Some(DATABASE), 443), everywhere(DATABASE, "::/0"));
    assert_eq!(way(ONCALL, "2001:db8::1", Some(STAGING), 443), None, "it carries IPv4 only");
    assert_eq!(way(ONCALL, "1.1.1.1", None, 443), None, "none is chosen");
    assert_eq!(way(ONCALL, "1.1.1.1", Some(DEV), 443), None, "that is none");
    assert_eq!(way(ONCALL, "1.1.1.1", Some(STAGING), 80), None);
    assert_eq!(way(DEV, "1.1.1.1", Some(STAGING), 443), None);
    for address in
        ["10.1.2.3", "192.168.1.1", "100.64.9.9", "169.254.169.254", "224.0.0.1", "127.0.0.1", "fd00::1"]
    {
        assert_eq!(way(ONCALL, address, Some(DATABASE), 443), None, "{address}");
    }
    let exits = compiled.exits_for(&node(ONCALL));
    let families: Vec<_> = exits.iter().map(|(id, routes)| (id.clone(), routes.len())).collect();
    let mut expected = vec![(node(STAGING), 1), (node(DATABASE), 2)];
    expected.sort();
    assert_eq!(families, expected);
    assert!(compiled.exits_for(&node(DEV)).is_empty() && compiled.routes_for(&node(ONCALL)).is_empty());
    let explained = compiled.explain_address(
        &node(ONCALL),
        ("1.1.1.1".parse().unwrap(), Some(&node(STAGING))),
        Protocol::Tcp,
        443,
    );
    assert!(explained.to_string().contains("for 0.0.0.0/0"), "{explained}");
}

#[test]
fn who_may_reach_everything_reaches_by_an_exit_node_what_is_public_only() {
    let text = r#"{
      "tagOwners": {"tag:staging": [], "tag:database": []},
      "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    }"#;
    let compiled = with_exits(text);
    let known = nothing_known();
    let permits = |router, prefix: &str| {
        let (ends, prefix) = ((&node(ONCALL), &node(router)), prefix.parse().expect("prefix"));
        compiled.permits_prefix_now(ends, prefix, Protocol::Tcp, 443, &known).is_ok()
    };
    assert!(permits(STAGING, "0.0.0.0/0") && permits(STAGING, "10.0.0.0/8") && permits(DATABASE, "::/0"));
    assert!(!permits(STAGING, "::/0") && !permits(DATABASE, "10.0.0.0/8") && !permits(DATABASE, "fd00::/8"));
    assert_eq!(compiled.routes_for(&node(ONCALL)), ["10.0.0.0/8".parse().unwrap()]);
}

#[test]
fn tags_are_put_on_by_their_owners_and_the_owners_of_those() {
    let text = r#"{
      "groups": {"group:ops": ["oncall@example.com"]},
      "tagOwners": {"tag:own": ["tag:own"], "tag:top": ["group:ops"], "tag:low": ["tag:top"], "tag:any": ["autogroup:member"]},
      "acls": [],
    }"#;
    let compiled = compile(text, &company());
    let owned = |number| {
        ["tag:own", "tag:top", "tag:low", "tag:any", "tag:none"]
            .map(|tag| compiled.may_tag(&user(number), tag))
    };
    assert_eq!(owned(2), [false, true, true, true, false]);
    assert_eq!(owned(1), [false, false, false, true, false]);
    assert_eq!(owned(9), [false; 5], "a stranger owns nothing");
}

#[test]
fn routes_are_approved_for_those_whom_the_policy_names() {
    let text = r#"{
      "tagOwners": {"tag:staging": [], "tag:database": []},
      "acls": [],
      "autoApprovers": {
        "routes": {"10.0.0.0/8": ["tag:staging"], "0.0.0.0/0": ["tag:staging"], "fd00::/8": ["dev@example.com"]},
        "exitNode": ["tag:database"],
      },
    }"#;
    let policy = std::sync::Arc::new(writ_policy::Policy::parse_full(text).expect("readable"));
    let compiled = writ_policy::Compiled::new(policy, &company()).expect("known names");
    let approves =
        |number, route: &str| compiled.auto_approves(&node(number), &route.parse().expect("prefix"));
    assert!(
        approves(STAGING, "10.0.0.0/8") && approves(STAGING, "10.1.0.0/16") && approves(DEV, "fd00:1::/64")
    );
    assert!(approves(DATABASE, "0.0.0.0/0") && approves(DATABASE, "::/0"));
    assert!(!approves(STAGING, "0.0.0.0/0"), "an exit is approved as an exit only");
    assert!(
        !approves(STAGING, "192.168.0.0/16")
            && !approves(STAGING, "8.0.0.0/5")
            && !approves(DATABASE, "10.0.0.0/8")
    );
}

#[test]
fn reach_names_the_rule_both_ways() {
    let compiled = compile(COMPANY_POLICY, &company());
    let peers = compiled.peers(&node(DEV));
    let names: Vec<_> = peers.iter().map(|reach| reach.node.clone()).collect();
    let mut expected = vec![node(DEV_PHONE), node(STAGING)];
    expected.sort();
    assert_eq!(names, expected);
    let inbound = compiled.who_can_reach(&node(DATABASE));
    assert_eq!(inbound.len(), 1);
    assert_eq!(inbound[0].services.iter().map(|s| s.rule.to_string()).collect::<Vec<_>>(), ["acls[1]"]);
}

#[test]
fn a_filter_lets_in_the_named_sources_only() {
    let compiled = compile(COMPANY_POLICY, &company());
    let filter = compiled.filter(&node(DATABASE));
    assert_eq!(filter.len(), 1);
    assert_eq!(filter[0].sources.to_string(), "100.64.0.3, fd7a:115c:a1e0::3");
    assert_eq!(filter[0].destinations.to_string(), "100.64.0.5", "the rule names the IPv4 address only");
    let [v4, v6] = [addresses(ONCALL)[0], addresses(ONCALL)[1]];
    assert!(filter[0].admits(v4, addresses(DATABASE)[0], Protocol::Tcp, 5432));
    assert!(!filter[0].admits(v6, addresses(DATABASE)[0], Protocol::Tcp, 5432));
}
