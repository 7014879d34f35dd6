//! Changing one thing of a text, and nothing else.

use proptest::prelude::*;
use writ_policy::{Edit, NameList, Policy, RuleRef, Section, edit};

use crate::network::COMPANY_POLICY;

fn group(name: &str) -> NameList {
    NameList::Group(format!("group:{name}"))
}

fn add(list: NameList, name: &str) -> Edit {
    Edit::AddName { list, name: name.to_owned(), create: false }
}

fn remove(list: NameList, name: &str) -> Edit {
    Edit::RemoveName { list, name: name.to_owned() }
}

fn remove_rule(rule: &str) -> Edit {
    Edit::RemoveRule { rule: rule.parse().expect(rule) }
}

fn add_rule(section: Section, rule: &str) -> Edit {
    Edit::AddRule { section, rule: rule.to_owned() }
}

fn edited(text: &str, change: &Edit) -> String {
    edit(text, change).unwrap_or_else(|error| panic!("{error}"))
}

/// The lines of the new text that the old one has not, and the other way round.
fn changed<'a>(before: &'a str, after: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let without = |one: &'a str, other: &str| -> Vec<&'a str> {
        let others: Vec<&str> = other.lines().collect();
        one.lines().filter(|line| !others.contains(line)).map(str::trim).collect()
    };
    (without(after, before), without(before, after))
}

#[test]
fn one_edit_changes_one_line() {
    let rule = r#"{"action": "accept", "src": ["group:oncall"], "dst": ["tag:database:22"]}"#;
    for (change, gained, lost) in [
        (
            add(group("oncall"), "ada@example.com"),
            vec![r#""group:oncall": ["oncall@example.com", "ada@example.com"],"#],
            vec![r#""group:oncall": ["oncall@example.com"],"#],
        ),
        (
            remove(group("oncall"), "oncall@example.com"),
            vec![r#""group:oncall": [],"#],
            vec![r#""group:oncall": ["oncall@example.com"],"#],
        ),
        (
            Edit::AddName { list: group("new"), name: "ada@example.com".to_owned(), create: true },
            vec![r#""group:new": ["ada@example.com"],"#],
            vec![],
        ),
        (
            add(NameList::TagOwners("tag:database".to_owned()), "group:developers"),
            vec![
                r#""tagOwners": {"tag:staging": ["group:oncall"], "tag:database": ["group:oncall", "group:developers"]},"#,
            ],
            vec![r#""tagOwners": {"tag:staging": ["group:oncall"], "tag:database": ["group:oncall"]},"#],
        ),
        (
            Edit::SetHost { host: "db".to_owned(), address: "100.64.0.9".to_owned() },
            vec![r#""hosts": {"db": "100.64.0.9"},"#],
            vec![r#""hosts": {"db": "100.64.0.5"},"#],
        ),
        (
            Edit::SetHost { host: "net".to_owned(), address: "10.0.0.0/8".to_owned() },
            vec![r#""hosts": {"db": "100.64.0.5", "net": "10.0.0.0/8"},"#],
            vec![r#""hosts": {"db": "100.64.0.5"},"#],
        ),
        (
            Edit::RemoveHost { host: "db".to_owned() },
            vec![r#""hosts": {},"#],
            vec![r#""hosts": {"db": "100.64.0.5"},"#],
        ),
        (
            add_rule(Section::Acls, rule),
            vec![r#"{"action": "accept", "src": ["group:oncall"], "dst": ["tag:database:22"]},"#],
            vec![],
        ),
        (
            remove_rule("acls[1]"),
            vec![],
            vec![r#"{"action": "accept", "proto": "tcp", "src": ["group:oncall"], "dst": ["db:5432"]},"#],
        ),
    ] {
        let after = edited(COMPANY_POLICY, &change);
        assert_eq!(changed(COMPANY_POLICY, &after), (gained, lost), "{change:?}");
    }
}

#[test]
fn sections_that_are_not_there_are_made() {
    for (before, change, after) in [
        ("{}", add_rule(Section::Grants, "{} // x"), "{\"grants\": [{}]}"),
        (
            "{\n  \"acls\": [], // none\n}\n",
            Edit::AddName { list: group("ops"), name: "a@example.com".to_owned(), create: true },
            "{\n  \"acls\": [], // none\n  \"groups\": {\"group:ops\": [\"a@example.com\"]},\n}\n",
        ),
        (
            "{\"Hosts\": null, \"acls\": []}",
            Edit::SetHost { host: "db".to_owned(), address: "10.0.0.1".to_owned() },
            "{\"Hosts\": {\"db\": \"10.0.0.1\"}, \"acls\": []}",
        ),
    ] {
        assert_eq!(edited(before, &change), after);
    }
}

#[test]
fn edits_that_name_nothing_are_refused_with_the_place_and_the_nearest_name() {
    for (change, wanted) in [
        (
            add(group("oncal"), "a@example.com"),
            "line 3, column 3, groups: there is no \"group:oncal\" in \"groups\"; did you mean \"group:oncall\"?",
        ),
        (add(group("zebra"), "a@example.com"), "ask for it to be made"),
        (
            add(group("oncall"), "oncall@example.com"),
            "line 5, column 22, groups[\"group:oncall\"][0]: \"oncall@example.com\" stands in \"group:oncall\" already",
        ),
        (remove(group("oncall"), "oncal@example.com"), "did you mean \"oncall@example.com\"?"),
        (remove(NameList::TagOwners("tag:stagin".to_owned()), "x"), "did you mean \"tag:staging\"?"),
        (Edit::RemoveHost { host: "bd".to_owned() }, "did you mean \"db\"?"),
        (remove_rule("acls[3]"), "there is no acls[3]: acls has 3 rules"),
        (add_rule(Section::Acls, "[]"), "no object in braces"),
        (add_rule(Section::Acls, "{"), "the rule to be added: "),
    ] {
        let error = edit(COMPANY_POLICY, &change).expect_err("an edit of nothing").to_string();
        assert!(error.contains(wanted), "{change:?}: {error}");
    }
    for bad in ["acls", "acls[]", "acls[+1]", "rules[1]", "acls[1", "acls[99999999999999999999]"] {
        assert!(bad.parse::<RuleRef>().is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever joins a group and leaves it again leaves no trace, and in between nothing else of the policy is another.
    #[test]
    fn an_edit_and_its_opposite_leave_the_text_as_it_was(
        name in "[a-z]{1,8}@example\\.org",
        rule in prop::sample::select(vec!["acls", "grants"]),
    ) {
        let joined = edited(COMPANY_POLICY, &add(group("developers"), &name));
        prop_assert!(Policy::parse(&joined).is_ok());
        prop_assert_eq!(edited(&joined, &remove(group("developers"), &name)), COMPANY_POLICY);
        let (section, count) = if rule == "acls" { (Section::Acls, 3) } else { (Section::Grants, 1) };
        let text = match section {
            Section::Acls => r#"{"action": "accept", "src": ["*"], "dst": ["db:1"]}"#,
            Section::Grants => r#"{"src": ["*"], "dst": ["db"], "ip": ["1"]}"#,
        };
        let more = edited(COMPANY_POLICY, &add_rule(section, text));
        let read = Policy::parse(&more).map(|policy| policy.rule_count());
        prop_assert_eq!(read, Ok(5));
        prop_assert_eq!(edited(&more, &remove_rule(&format!("{rule}[{count}]"))), COMPANY_POLICY);
    }
}
