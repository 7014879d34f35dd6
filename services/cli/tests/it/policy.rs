use std::fs;

use super::writ;

const GOOD: &str = r#"{
	// Developers reach staging, nothing else.
	"groups": { "group:dev": ["ada@example.com"] },
	"tagOwners": { "tag:staging": ["group:dev"] },
	"acls": [{ "action": "accept", "src": ["group:dev"], "dst": ["tag:staging:443"] }],
	"tests": [{ "src": "ada@example.com", "accept": ["tag:staging:443"], "deny": ["tag:staging:22"] }],
}"#;

#[test]
fn a_good_policy_passes_with_its_tests() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.hujson");
    fs::write(&file, GOOD).unwrap();
    let ran = writ(folder.path(), ["policy", "check", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("1 rule, 1 test, 1 person named; every test holds"), "{}", ran.stdout);
}

#[test]
fn a_bad_policy_is_shown_where_and_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.hujson");
    fs::write(&file, GOOD.replace("\"src\": [\"group:dev\"]", "\"src\": [\"group:dve\"]")).unwrap();
    let name = file.to_str().unwrap();
    let ran = writ(folder.path(), ["policy", "check", name]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains(&format!("{name}:5:")) && ran.stdout.contains('^'), "{}", ran.stdout);
    assert!(ran.stdout.contains("did you mean \"group:dev\"?"), "{}", ran.stdout);
    let value = writ(folder.path(), ["--json", "policy", "check", name]).json();
    assert_eq!((&value["ok"], &value["errors"][0]["line"]), (&false.into(), &5.into()));
}

#[test]
fn a_test_that_does_not_hold_fails_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.hujson");
    fs::write(&file, GOOD.replace("tag:staging:22", "tag:staging:443")).unwrap();
    let ran = writ(folder.path(), ["policy", "check", file.to_str().unwrap(), "--json"]);
    assert_eq!((ran.code, &ran.json()["failedTests"][0]["rule"]), (1, &"acls[0]".into()), "{}", ran.stdout);
}

#[test]
fn an_edit_changes_one_thing_of_a_file_and_no_other_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.hujson");
    fs::write(&file, GOOD).unwrap();
    let name = file.to_str().unwrap();
    let edit = |arguments: &[&str]| {
        writ(folder.path(), ["policy", "edit", "--file", name].iter().chain(arguments).copied())
    };
    let ran = edit(&["add-user", "group:dev", "bob@example.com"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("+ \t\"groups\": { \"group:dev\": [\"ada@example.com\", \"bob@example.com\"] },"),
        "{}",
        ran.stdout
    );
    let joined = GOOD.replace("\"ada@example.com\"] }", "\"ada@example.com\", \"bob@example.com\"] }");
    assert_eq!(fs::read_to_string(&file).unwrap(), joined);
    assert_eq!(edit(&["remove-user", "group:dev", "bob@example.com"]).code, 0);
    assert_eq!(
        edit(&["add-rule", "--src", "group:dev", "--dst", "tag:staging:80", "--proto", "tcp"]).code,
        0
    );
    assert_eq!(writ(folder.path(), ["policy", "check", name]).code, 0);
    assert_eq!(edit(&["remove-rule", "acls[1]"]).code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), GOOD);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn an_edit_that_would_spoil_the_file_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.hujson");
    fs::write(&file, GOOD).unwrap();
    let name = file.to_str().unwrap();
    for (arguments, part) in [
        (&["add-user", "group:dve", "bob@example.com"][..], "did you mean \"group:dev\"?"),
        (&["add-user", "group:dev", "nobody"], "is not a user"),
        (&["remove-rule", "acls[0]"], "test failed:"),
        (
            &["add-rule", "--rule", "{\"src\": [\"group:dev\"], \"dst\": [\"nas\"], \"ip\": [\"80\"]}"],
            "host not found",
        ),
        (&["add-owner", "tag:staging", "group:dev"], "already"),
    ] {
        let ran = writ(folder.path(), ["policy", "edit", "--file", name].iter().chain(arguments).copied());
        assert_eq!(ran.code, 1, "{arguments:?} {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(part), "{arguments:?} {}", ran.stdout);
        assert_eq!(fs::read_to_string(&file).unwrap(), GOOD);
    }
}
