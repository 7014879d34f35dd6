//! What is refused, and in which words.

use std::sync::Arc;

use proptest::prelude::*;
use writ_policy::{Compiled, Policy, PolicyError, replace_logins};

use crate::network::company;

fn refusal(text: &str) -> PolicyError {
    match Policy::parse(text) {
        Err(error) => error,
        Ok(policy) => match Compiled::new(Arc::new(policy), &company()) {
            Err(error) => error,
            Ok(_) => panic!("accepted: {text}"),
        },
    }
}

/// The refusal of what only the engine understands.
fn full_refusal(text: &str) -> String {
    match Policy::parse_full(text) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted: {text}"),
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
    for section in ["ssh", "nodeAttrs", "derpMap", "ipsets", "sshTests"] {
        let error = refusal(&format!("{{\"acls\": [],\n \"{section}\": {{}}}}"));
        assert!(error.message().contains(section) && error.message().contains("not supported"), "{error}");
        assert_eq!((error.line(), error.column()), (2, 2));
    }
    for (field, part) in [
        ("\"app\": {}", "\"app\" is not supported"),
        ("\"srcPostur\": []", "\"srcPostur\" is not known here"),
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
    for proto in ["*", "0", "06", "256", "x"] {
        let rule = format!(r#"{{"action": "accept", "proto": "{proto}", "src": ["*"], "dst": ["*:*"]}}"#);
        assert!(
            refusal(&with_rule(&rule)).message().contains("not known; use protocol number 0-255"),
            "{proto}"
        );
    }
    let ports_of_icmp = r#"{"action": "accept", "proto": "icmp", "src": ["*"], "dst": ["*:80"]}"#;
    assert!(refusal(&with_rule(ports_of_icmp)).message().contains("has no ports"));
}

#[test]
fn refusals_have_the_words_that_tailscale_has() {
    let src = |src: &str| with_rule(&format!(r#"{{"action": "accept", "src": ["{src}"], "dst": ["*:*"]}}"#));
    assert!(refusal(&src("tag:x")).message().starts_with("src=tag not found: \"tag:x\""));
    let grant = |grant: &str| format!(r#"{{"tagOwners": {{"tag:web": []}}, "grants": [{{{grant}}}]}}"#);
    let ssh = |ssh: &str| format!(r#"{{"tagOwners": {{"tag:web": []}}, "acls": [], "ssh": [{{{ssh}}}]}}"#);
    let test = |test: &str| {
        format!(
            r#"{{"tagOwners": {{"tag:web": []}}, "hosts": {{"net": "10.0.0.0/8"}}, "acls": [], "sshTests": [{{{test}}}]}}"#
        )
    };
    for (text, words) in [
        (grant(r#""src": ["*"], "dst": ["*"], "ip": ["*"], "via": ["tag:x"]"#), "tag \"tag:x\" not found"),
        (grant(r#""src": ["*"], "dst": ["*"], "ip": ["*"], "via": ["web"]"#), "via can only be a tag"),
        (
            grant(r#""src": ["*"], "dst": ["autogroup:internet"], "app": {"a.b/c": []}"#),
            "cannot use app grants with autogroup:internet",
        ),
        (
            grant(r#""src": ["*"], "dst": ["*"], "ip": ["tcp:80:443"]"#),
            "expected only one colon in Internet protocol and port type",
        ),
        (grant(r#""src": ["*"], "dst": ["::/0"], "ip": ["*"]"#), "to allow all IP addresses"),
        (
            ssh(r#""action": "accept", "checkPeriod": "1h", "src": [], "dst": [], "users": ["root"]"#),
            "checkPeriod is only valid with action \"check\"",
        ),
        (
            ssh(r#""action": "check", "checkPeriod": "-1h", "src": [], "dst": [], "users": ["root"]"#),
            "must be a positive duration",
        ),
        (ssh(r#""action": "check", "src": [], "dst": [], "users": [" "]"#), "user \"\" is not valid"),
        (ssh(r#""action": "check", "src": [], "dst": []"#), "users must be specified"),
        (test(r#""src": " ", "dst": ["tag:web"], "accept": ["root"]"#), "must have a non-empty src"),
        (test(r#""src": "tag:web", "dst": [], "accept": ["root"]"#), "must have at least one dst"),
        (test(r#""src": "tag:web", "dst": ["tag:web"]"#), "test(s) failed"),
        (
            test(r#""src": "tag:web", "dst": ["tag:web:22"], "accept": ["root"]"#),
            "SSH tests dst contains unknown tag \"tag:web:22\"",
        ),
        (
            test(r#""src": "tag:web", "dst": ["10.0.0.0/8"], "accept": ["root"]"#),
            "SSH tests dst contains disallowed element \"10.0.0.0/8\"",
        ),
        (
            test(r#""src": "tag:web", "dst": ["net"], "accept": ["root"]"#),
            "SSH tests dst contains disallowed element \"net\"",
        ),
    ] {
        let error = full_refusal(&text);
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn files_of_other_tools_and_older_days_are_read() {
    let text = r##"{
      "Groups": {"group:ops": ["dev@example.com"]},
      "TagOwners": {"tag:web": []},
      "ACLs": [{"#ha-meta": {"name": "web"}, "Action": "accept", "Users": ["group:ops"], "Ports": ["tag:web:443"]}],
      "hosts": null,
      "Tests": [{"src": "dev@example.com", "Proto": "TCP", "Accept": ["tag:web:443"]}],
    }"##;
    let policy = Policy::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((policy.rule_count(), policy.test_count()), (1, 1));
    let compiled = Compiled::new(Arc::new(policy), &company()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(compiled.run_tests(), vec![]);
    for (text, part) in [
        (r#"{"acls": [], "ACLs": []}"#, "a second time"),
        (r#"{"acls": [{"action": "accept", "src": [], "Src": [], "dst": []}]}"#, "a second time"),
        (r#"{"acls": [{"action": "accept", "src": [], "users": [], "dst": []}]}"#, "the old name of \"src\""),
        (r#"{"acls": [{"action": "accept", "src": ["*"]}]}"#, "the rule grants nothing"),
    ] {
        assert!(refusal(text).message().contains(part), "{text}: {}", refusal(text));
    }
    assert!(
        Policy::parse_full(r#"{"acls": null}"#).is_ok_and(|policy| policy.allows_everything_by_silence()),
        "null says nothing"
    );
}

#[test]
fn a_test_tries_one_connection_to_one_host() {
    let with_test = |test: &str| {
        format!(
            r#"{{"tagOwners": {{"tag:web": []}}, "hosts": {{"net": "10.0.0.0/8"}}, "acls": [
              {{"action": "accept", "proto": "udp", "src": ["dev@example.com"], "dst": ["tag:web:53"]}}], "tests": [{test}]}}"#
        )
    };
    for (test, part) in [
        (r#"{"src": "tag:web", "accept": ["10.0.0.0/8:443"]}"#, "a single host"),
        (r#"{"src": "tag:web", "accept": ["10.0.0.1/32:443"]}"#, "a single host"),
        (r#"{"src": "tag:web", "accept": ["net:443"]}"#, "a single host"),
        (r#"{"src": "tag:web", "proto": "icmp", "accept": ["tag:web:1"]}"#, "tcp, udp or sctp"),
    ] {
        let error = refusal(&with_test(test));
        assert!(error.message().starts_with("test(s) failed") && error.message().contains(part), "{error}");
    }
    let failures = |test: &str| {
        let policy = Policy::parse(&with_test(test)).unwrap_or_else(|error| panic!("{error}"));
        let compiled = Compiled::new(Arc::new(policy), &company()).unwrap_or_else(|error| panic!("{error}"));
        compiled.run_tests().len()
    };
    assert_eq!(failures(r#"{"src": "dev@example.com", "accept": ["tag:web:53"]}"#), 0, "udp is tried too");
    assert_eq!(failures(r#"{"src": "dev@example.com", "proto": "tcp", "accept": ["tag:web:53"]}"#), 1);
    assert_eq!(failures(r#"{"src": "dev@example.com", "deny": ["tag:web:53"]}"#), 1);
    assert_eq!(failures(r#"{"src": "dev@example.com", "accept": ["tag:web:54"]}"#), 1);
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
