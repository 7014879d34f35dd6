//! What rules ask for besides who, where and on which ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use writ_policy::{
    Attribute, Circumstances, Compiled, Policy, Protocol, Refused, SignedIn, difference, replace_logins,
};

use crate::network::{DEV, STAGING, company, compile, node};

/// A policy that lets developers reach staging, with something before and after `"action"`.
fn policy(comment: &str, more: &str) -> String {
    format!(
        r#"{{
  "groups": {{"group:developers": ["dev@example.com"]}},
  "tagOwners": {{"tag:staging": [], "tag:database": []}},
  "postures": {{
    "posture:linux": ["node:os == 'linux'", "node:osVersion >= '6.1'"],
    "posture:managed": ["custom:tier IN ['prod', 'staging']", "custom:broken NOT SET"],
  }},
  "acls": [
    {{
      {comment}
      "action": "accept", "src": ["group:developers"], "dst": ["tag:staging:22"]{more}
    }},
  ],
}}"#
    )
}

fn known(now: &str) -> Circumstances {
    Circumstances { now: now.parse().expect("moment"), sign_in: None, attributes: BTreeMap::new() }
}

fn signed_in(now: &str, at: &str, mfa: bool) -> Circumstances {
    Circumstances { sign_in: Some(SignedIn { at: at.parse().expect("moment"), mfa }), ..known(now) }
}

fn device(attributes: &[(&str, Attribute)]) -> Circumstances {
    let attributes = attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    Circumstances { attributes, ..known("2026-03-14T10:00:00Z") }
}

/// The rule and until when, or what is not met in words.
fn decide(compiled: &Compiled, known: &Circumstances) -> Result<Option<Timestamp>, String> {
    match compiled.permits_now(&node(DEV), &node(STAGING), Protocol::Tcp, 22, known) {
        Ok(permit) => Ok(permit.until),
        Err(Refused::NoRule) => Err("no rule".to_owned()),
        Err(Refused::Unmet(refused)) => {
            let words =
                refused.iter().flat_map(|(rule, unmet)| unmet.iter().map(move |u| format!("{rule}: {u}")));
            Err(words.collect::<Vec<_>>().join("; "))
        }
    }
}

#[test]
fn a_rule_holds_between_its_moments_and_says_until_when() {
    let compiled =
        compile(&policy(r#"// writ: {"from": "2026-03-01", "until": "2026-03-31"}"#, ""), &company());
    let refused = |now: &str| decide(&compiled, &known(now)).expect_err(now);
    assert_eq!(refused("2026-02-28T23:59:59Z"), "acls[0]: it holds from 2026-03-01T00:00:00Z on");
    assert_eq!(refused("2026-04-01T00:00:00Z"), "acls[0]: it held until 2026-04-01T00:00:00Z");
    let end = "2026-04-01T00:00:00Z".parse().expect("moment");
    assert_eq!(decide(&compiled, &known("2026-03-01T00:00:00Z")), Ok(Some(end)));
    assert_eq!(decide(&compiled, &known("2026-03-31T23:59:59Z")), Ok(Some(end)), "the last day counts whole");
    assert!(compiled.permits(&node(DEV), &node(STAGING), Protocol::Tcp, 22).is_some(), "under conditions");
}

#[test]
fn a_rule_may_ask_for_a_fresh_sign_in_and_a_second_factor() {
    let compiled = compile(&policy(r#"/* writ: {"mfa": true, "maxSignInAge": "8h"} */"#, ""), &company());
    let at = "2026-03-14T02:00:01Z";
    let until = "2026-03-14T10:00:01Z".parse().expect("moment");
    assert_eq!(decide(&compiled, &signed_in("2026-03-14T10:00:00Z", at, true)), Ok(Some(until)));
    let refused = |known: &Circumstances| decide(&compiled, known).expect_err("refused");
    assert_eq!(
        refused(&known("2026-03-14T10:00:00Z")),
        "acls[0]: it asks for a sign-in no older than 8h0m0s, and the node is known by its enrolment key only; \
         acls[0]: it asks for a sign-in with a second factor"
    );
    assert!(refused(&signed_in("2026-03-14T10:00:01Z", at, true)).contains("the last one was at"));
    assert!(refused(&signed_in("2026-03-14T10:00:00Z", at, false)).ends_with("with a second factor"));
}

#[test]
fn a_device_has_to_meet_one_of_the_postures_named() {
    let text = |text: &str| Attribute::Text(text.to_owned());
    let more = r#", "srcPosture": ["posture:linux", "posture:managed"]"#;
    let compiled = compile(&policy("", more), &company());
    for meeting in [
        &[("node:os", text("linux")), ("node:osVersion", text("6.10"))][..],
        &[("custom:tier", text("prod"))],
    ] {
        assert_eq!(decide(&compiled, &device(meeting)), Ok(None), "{meeting:?}");
    }
    for (failing, why) in [
        (&[][..], "node:os == 'linux', and node:os is not known"),
        (&[("node:os", text("linux")), ("node:osVersion", text("6.0.9"))], "and it is '6.0.9'"),
        (&[("custom:tier", text("prod")), ("custom:broken", Attribute::Flag(false))], "node:os == 'linux'"),
    ] {
        let refused = decide(&compiled, &device(failing)).expect_err(why);
        assert!(refused.starts_with("acls[0]: it asks for posture:linux or posture:managed: "), "{refused}");
        assert!(refused.contains(why), "{refused}");
    }
    let default = policy("", "").replace("\"acls\"", "\"defaultSrcPosture\": [\"posture:linux\"], \"acls\"");
    assert!(decide(&compile(&default, &company()), &device(&[])).is_err(), "asked for of every rule");
}

#[test]
fn a_second_rule_without_conditions_allows_what_the_first_does_not() {
    let text = policy(r#"// writ: {"mfa": true}"#, "")
        .replace("  ],\n}", r#"{"action": "accept", "src": ["*"], "dst": ["*:22"]}]}"#);
    let compiled = compile(&text, &company());
    let permit =
        compiled.permits_now(&node(DEV), &node(STAGING), Protocol::Tcp, 22, &known("2026-03-14T10:00:00Z"));
    assert_eq!(permit.map(|permit| permit.rule.to_string()), Ok("acls[1]".to_owned()));
}

#[test]
fn a_change_of_conditions_is_a_change() {
    let plain = compile(&policy("", ""), &company());
    let asking = compile(&policy(r#"// writ: {"mfa": true, "owner": "group:developers"}"#, ""), &company());
    let noted = compile(&policy(r#"// writ: {"ticket": "OPS-7"}"#, ""), &company());
    let change = difference(&plain, &asking);
    assert!(!change.is_empty());
    let text = change.to_string();
    assert!(
        text.contains("+ dev@example.com -> tag:staging: tcp+udp 22 if signed in with a second factor"),
        "{text}"
    );
    assert!(text.contains("- dev@example.com -> tag:staging: tcp+udp 22; icmp"), "{text}");
    assert!(difference(&plain, &noted).is_empty(), "notes are for people");
    assert_ne!(plain.filter(&node(STAGING)), asking.filter(&node(STAGING)));
}

#[test]
fn an_explanation_says_what_is_asked_for_and_who_answers_for_the_rule() {
    let comment = r#"// writ: {"until": "2026-12-31", "owner": "group:developers", "purpose": "deploys", "ticket": "OPS-7"}"#;
    let compiled = compile(&policy(comment, ""), &company());
    let text = compiled.explain(&node(DEV), &node(STAGING), Protocol::Tcp, 22).to_string();
    for part in [
        "It asks for more: until 2027-01-01T00:00:00Z.",
        "Owner: group:developers.",
        "Purpose: deploys.",
        "Ticket: OPS-7.",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_policys_tests_say_what_the_device_is() {
    let with_test = |test: &str| {
        policy("", r#", "srcPosture": ["posture:linux"]"#)
            .replace("  ],\n}", &format!("  ],\n  \"tests\": [{test}],\n}}"))
    };
    let linux = r#"{"src": "dev@example.com", "srcPostureAttrs": {"node:os": "linux", "node:osVersion": "6.1"}, "accept": ["tag:staging:22"]}"#;
    let unknown = r#"{"src": "dev@example.com", "deny": ["tag:staging:22"]}"#;
    assert_eq!(compile(&with_test(linux), &company()).run_tests(), vec![]);
    assert_eq!(compile(&with_test(unknown), &company()).run_tests(), vec![]);
}

#[test]
fn conditions_that_are_not_written_right_are_refused_with_their_place() {
    for (comment, more, path, part) in [
        (r#"// writ: {"mfa": 1}"#, "", "acls[0].mfa", "true or false"),
        (r#"// writ: {"mfaa": true}"#, "", "acls[0].mfaa", "did you mean \"mfa\"?"),
        (r#"// writ: {"MFA": true}"#, "", "acls[0].MFA", "did you mean \"mfa\"?"),
        (r#"// writ: {"maxSignInAge": "8"}"#, "", "acls[0].maxSignInAge", "invalid duration"),
        (r#"// writ: {"maxSignInAge": "0s"}"#, "", "acls[0].maxSignInAge", "more than 0s"),
        (r#"// writ: {"until": "2026-13-01"}"#, "", "acls[0].until", "neither a moment nor a day"),
        (r#"// writ: {"until": "31.12.2026"}"#, "", "acls[0].until", "neither a moment nor a day"),
        (
            r#"// writ: {"from": "2026-02-02", "until": "2026-02-01"}"#,
            "",
            "acls[0].until",
            "end before it begins",
        ),
        (r#"// writ: {"owner": ""}"#, "", "acls[0].owner", "1 to 256 characters"),
        (r#"// writ: {} "#, r#" /* writ: {} */"#, "", "has such a comment already"),
        (
            "",
            r#", "srcPosture": ["posture:linus"]"#,
            "acls[0].srcPosture[0]",
            "did you mean \"posture:linux\"?",
        ),
    ] {
        let text = policy(comment, more);
        let error = match Policy::parse(&text) {
            Err(error) => error,
            Ok(_) => panic!("accepted: {text}"),
        };
        assert!(error.to_string().contains(part), "{error}");
        assert!(path.is_empty() || path.ends_with(error.path()), "{error}: {path}");
    }
    for (text, part) in [
        (
            r#"{ // writ: {"mfa": true}
          "acls": []}"#,
            "inside the braces of the rule",
        ),
        (r#"{"acls": [], "postures": {"posture:x": []}}"#, "it asserts nothing"),
        (r#"{"acls": [], "postures": {"x": ["node:os IS SET"]}}"#, "must start with 'posture:'"),
        (r#"{"acls": [], "postures": {"posture:x": ["os == 'x'"]}}"#, "it names no attribute"),
        (r#"{"acls": [], "postures": {"posture:x": ["node:os ~ 'x'"]}}"#, "it has no operator"),
        (r#"{"acls": [], "postures": {"posture:x": ["node:os == linux"]}}"#, "texts stand in quotes"),
    ] {
        let error = Policy::parse(text).map(|_| ()).expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn an_owner_named_by_login_goes_into_the_log_by_pseudonym() {
    let text = policy(r#"// writ: {"owner": "dev@example.com", "mfa": true}"#, "");
    let hidden =
        replace_logins(&text, &mut |_| Some("usr_aeaqcaibaeaqcaibaeaqcaibae".to_owned())).expect("known");
    assert!(!hidden.contains('@'), "{hidden}");
    assert!(
        hidden.contains(r#"// writ: {"owner": "usr_aeaqcaibaeaqcaibaeaqcaibae", "mfa": true}"#),
        "{hidden}"
    );
    let policy = Arc::new(Policy::parse(&hidden).expect("still readable"));
    assert!(Compiled::new(policy, &company()).is_ok());
}
