//! What is refused, and in which words.

use std::sync::Arc;

use proptest::prelude::*;
use writ_policy::{Compiled, Policy, PolicyError, replace_logins};

use crate::network::company;

fn refusal(text: &str) -> PolicyError {
    match Policy::parse(text) {
        Err(error) => error,
        Ok(policy) => Compiled::new(Arc::new(policy), &company()).expect_err(text),
    }
}

/// A policy around one rule.
fn with_rule(rule: &str) -> String {
    format!(
        r#"{{"groups": {{"group:ops": ["dev@example.com"]}}, "tagOwners": {{"tag:web": []}}, "hosts": {{"db": "10.0.0.1"}}, "acls": [{rule}]}}"#
    )
}

fn with_dst(dst: &str) -> String {
    with_rule(&format!(r#"{{"action": "accept", "src": ["*"], "dst": ["{dst}"]}}"#))
}

#[test]
fn unknown_names_are_refused_with_place_and_nearest_known_name() {
    for (text, path, message, help) in [
        (with_dst("tag:wep:80"), "acls[0].dst[0]", "tag not found: \"tag:wep\"", "did you mean \"tag:web\"?"),
        (
            with_dst("group:obs:80"),
            "acls[0].dst[0]",
            "group not found: \"group:obs\"",
            "did you mean \"group:ops\"?",
        ),
        (with_dst("dbb:80"), "acls[0].dst[0]", "host not found: \"dbb\"", "did you mean \"db\"?"),
        (
            with_dst("deb@example.com:80"),
            "acls[0].dst[0]",
            "user not found: \"deb@example.com\"",
            "did you mean \"dev@example.com\"?",
        ),
        (
            with_dst("autogroup:members:80"),
            "acls[0].dst[0]",
            "\"autogroup:members\" is not supported",
            "did you mean \"autogroup:member\"?",
        ),
        (r#"{"acl": []}"#.into(), "acl", "the key \"acl\" is not known here", "did you mean \"acls\"?"),
        (
            with_rule(r#"{"action": "accept", "scr": ["*"], "dst": ["*:*"]}"#),
            "acls[0].scr",
            "\"scr\" is not known",
            "did you mean \"src\"?",
        ),
        (
            with_rule(r#"{"action": "deny", "src": ["*"], "dst": ["*:*"]}"#),
            "acls[0].action",
            "action=\"deny\" is not supported",
            "the only action is \"accept\"",
        ),
    ] {
        let error = refusal(&text);
        assert_eq!(error.path(), path, "{error}");
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.help(), Some(help), "{error}");
    }
}

#[test]
fn sections_that_are_not_enforced_are_refused_by_name() {
    for section in ["ssh", "autoApprovers", "nodeAttrs", "postures", "ipsets", "sshTests"] {
        let error = refusal(&format!("{{\"acls\": [],\n \"{section}\": {{}}}}"));
        assert!(error.message().contains(section) && error.message().contains("not supported"), "{error}");
        assert_eq!((error.line(), error.column()), (2, 2));
    }
    for (field, part) in [
        ("\"app\": {}", "\"app\" is not supported"),
        ("\"via\": []", "\"via\" is not supported"),
        ("\"srcPosture\": []", "\"srcPosture\" is not known here"),
    ] {
        let text = format!(r#"{{"grants": [{{"src": ["*"], "dst": ["*"], "ip": ["*"], {field}}}]}}"#);
        assert!(refusal(&text).message().contains(part), "{field}");
    }
}

#[test]
fn ports_and_protocols_are_refused_in_words() {
    for (dst, part) in [
        ("tag:web:ssh", "dst=\"tag:web:ssh\": port range \"ssh\": invalid first integer"),
        ("tag:web", "port range \"web\": invalid first integer"),
        ("tag:web:0", "first port must be >0"),
        ("tag:web:70000", "ports end at 65535"),
        ("tag:web:90-80", "first port must be <= last port"),
        ("tag:web:", "invalid first integer"),
        ("*", "no ports are given"),
        ("10.0.0.1/8:80", "did you mean 10.0.0.0/8"),
        ("[::ffff:10.0.0.1]:80", "write it as IPv4"),
        ("autogroup:danger-all:80", "cannot use autogroup:danger-all as a dst"),
    ] {
        let error = refusal(&with_dst(dst));
        assert!(error.message().contains(part), "{dst}: {error}");
    }
    for proto in ["TCP", "0", "256", "x"] {
        let rule = format!(r#"{{"action": "accept", "proto": "{proto}", "src": ["*"], "dst": ["*:*"]}}"#);
        assert!(refusal(&with_rule(&rule)).message().contains("is not a protocol"), "{proto}");
    }
    let ports_of_icmp = r#"{"action": "accept", "proto": "icmp", "src": ["*"], "dst": ["*:80"]}"#;
    assert!(refusal(&with_rule(ports_of_icmp)).message().contains("has no ports"));
}

#[test]
fn names_are_defined_properly() {
    for (text, part) in [
        (r#"{"groups": {"ops": []}}"#, "must start with 'group:'"),
        (r#"{"groups": {"group:": []}}"#, "must start with 'group:'"),
        (r#"{"groups": {"group:a": ["group:b"], "group:b": []}}"#, "group members cannot be recursive"),
        (r#"{"groups": {"group:a": ["ada"]}}"#, "\"ada\" is not a user"),
        (r#"{"groups": {"group:a": "ada@example.com"}}"#, "an array is expected here, not a string"),
        (r#"{"groups": {"group:a": [], "group:a": []}}"#, "a second time"),
        (r#"{"tagOwners": {"web": []}}"#, "must start with 'tag:'"),
        (r#"{"tagOwners": {"tag:1": []}}"#, "must start with a letter"),
        (r#"{"tagOwners": {"tag:a b": []}}"#, "letters, numbers, or dashes"),
        (r#"{"tagOwners": {"tag:a": ["tag:b"], "tag:b": ["tag:a"]}}"#, "in a circle"),
        (r#"{"tagOwners": {"tag:a": ["autogroup:admin"]}}"#, "\"autogroup:admin\" is not supported"),
        (r#"{"tagOwners": {"tag:a": ["10.0.0.1"]}}"#, "cannot own a tag"),
        (r#"{"hosts": {"a": "10.0.0.1/8"}}"#, "host bits"),
        (r#"{"hosts": {"10.0.0.1": "10.0.0.1"}}"#, "is no address"),
        (r#"{"hosts": {"a:b": "10.0.0.1"}}"#, "is no address"),
        (r#"{"hosts": {"a": 7}}"#, "a string is expected here, not a number"),
        (r#"{"grants": [{"src": ["*"], "dst": ["*"]}]}"#, "ip and app can not both be empty"),
        (
            r#"{"acls": [{"action": "accept", "src": ["autogroup:self"], "dst": ["*:*"]}]}"#,
            "not valid on the src side",
        ),
        (r#"{"acls": [{"action": "accept", "dst": ["*:*"]}]}"#, "\"src\" is missing"),
        (r#"{"acls": [], "tests": [{"src": "*", "accept": ["*:*"]}]}"#, "a single port"),
        (r#"{"acls": [], "tests": [{"src": "*"}]}"#, "\"accept\" or \"deny\""),
        ("[]", "an object is expected"),
    ] {
        let error = refusal(text);
        assert!(error.message().contains(part), "{text}: {error}");
    }
}

#[test]
fn bombs_are_refused_or_read_in_a_moment() {
    let start = std::time::Instant::now();
    let chain: Vec<String> =
        (0..20_000).map(|n| format!("\"tag:t{:05}\": [\"tag:t{:05}\"]", 20_000 - n, 19_999 - n)).collect();
    let chain = format!("{{\"tagOwners\": {{\"tag:t00000\": [], {}}}}}", chain.join(","));
    assert!(Policy::parse(&chain).is_ok());
    let circle = chain.replace("\"tag:t00000\": []", "\"tag:t00000\": [\"tag:t20000\"]");
    assert!(refusal(&circle).message().contains("in a circle"));
    let unknown: Vec<String> = (0..20_000).map(|n| format!("\"h{n}\": \"10.0.0.1\"")).collect();
    let unknown = format!(
        "{{\"hosts\": {{{}}}, \"acls\": [{{\"action\": \"accept\", \"src\": [\"h2000x\"], \"dst\": []}}]}}",
        unknown.join(",")
    );
    assert!(refusal(&unknown).message().contains("host not found"));
    assert!(refusal(&"{\"a\":".repeat(100_000)).message().contains("nested more than"));
    assert!(refusal(&" ".repeat(10 << 20)).message().contains("at most 1048576"));
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Policy::parse(&text);
        let _ = replace_logins(&text, &mut |_| None);
    }

    /// Damage close to the real thing gets further into the reader than noise does.
    #[test]
    fn no_damage_to_a_policy_makes_the_engine_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..4),
    ) {
        let mut text: Vec<char> = crate::network::COMPANY_POLICY.chars().collect();
        for (at, with) in cuts {
            let at = at.index(text.len());
            text[at] = with;
        }
        let text: String = text.into_iter().collect();
        if let Ok(policy) = Policy::parse(&text)
            && let Ok(compiled) = Compiled::new(Arc::new(policy), &company())
        {
            compiled.run_tests();
        }
    }
}
