//! Too deep, too broad, too long, too much, not allowed: each is refused, and says why.

use async_graphql::Request;
use serde_json::json;
use writ_schema::event::Role;

use super::stage::{Stage, refused};
use crate::graphql::MAX_DOCUMENT_BYTES;

#[tokio::test]
async fn a_query_too_deep_is_refused() {
    let stage = Stage::empty().await;
    let nested =
        format!("{{ __schema {{ types {{ {} name {} }} }} }}", "ofType { ".repeat(12), "}".repeat(12));
    refused(stage.ask_as(Role::Owner, &nested, json!({})).await, "TOO_LARGE", "12 fields deep");
}

#[tokio::test]
async fn a_page_too_large_or_negative_is_refused() {
    let stage = Stage::empty().await;
    let asked = |first: i32| {
        stage.ask_as(
            Role::Owner,
            "query($n: Int) { users(first: $n) { nodes { user } } }",
            json!({ "n": first }),
        )
    };
    refused(asked(201).await, "TOO_LARGE", "at most 200");
    refused(asked(-1).await, "BAD_INPUT", "negative");
    assert!(asked(200).await.is_ok());
}

#[tokio::test]
async fn a_query_too_expensive_is_refused() {
    let stage = Stage::empty().await;
    let row = "{ nodes { record { seq time kind actor } revoked { seq time kind } source { user } acknowledgements { \
               record { seq time kind } carriedOut { seq time kind } } reports { record { seq time kind } } } }";
    let one = format!("connections(first: 200) {row}");
    let many = format!("{{ a: {one} b: {one} c: {one} d: {one} }}");
    refused(stage.ask_as(Role::Owner, &many, json!({})).await, "TOO_LARGE", "costs more than");
}

#[tokio::test]
async fn a_document_too_long_or_too_broad_is_refused() {
    let stage = Stage::empty().await;
    let long = format!("{{ now }} #{}", "x".repeat(MAX_DOCUMENT_BYTES));
    refused(stage.ask_as(Role::Owner, &long, json!({})).await, "TOO_LARGE", "pass long texts as variables");
    let aliases: String = (0..33).map(|number| format!("a{number}: now ")).collect();
    refused(
        stage.ask_as(Role::Owner, &format!("{{ {aliases} }}"), json!({})).await,
        "TOO_LARGE",
        "renames 33",
    );
    let broad = "now ".repeat(501);
    refused(stage.ask_as(Role::Owner, &format!("{{ {broad} }}"), json!({})).await, "TOO_LARGE", "501 fields");
}

#[tokio::test]
async fn a_few_fragments_that_stand_for_billions_of_fields_are_refused() {
    let stage = Stage::empty().await;
    let mut bomb = "{ ...f0 } ".to_owned();
    for number in 0..31 {
        let next = number + 1;
        bomb.push_str(&format!("fragment f{number} on Query {{ ...f{next} ...f{next} ...f{next} }} "));
    }
    bomb.push_str("fragment f31 on Query { now }");
    refused(stage.ask_as(Role::Owner, &bomb, json!({})).await, "TOO_LARGE", "stands for");
    let unused = bomb.replacen("{ ...f0 }", "{ now }", 1);
    refused(stage.ask_as(Role::Owner, &unused, json!({})).await, "TOO_LARGE", "stands for");
    let cycle = "{ ...a } fragment a on Query { ...b ...b } fragment b on Query { ...a ...a }";
    assert!(stage.ask_as(Role::Owner, cycle, json!({})).await.is_err());
    let bottomless = format!("{}now{}", "{ a ".repeat(3_000), "}".repeat(3_000));
    assert!(stage.ask_as(Role::Owner, &bottomless, json!({})).await.is_err());
}

#[tokio::test]
async fn nobody_is_answered_without_signing_in() {
    let stage = Stage::empty().await;
    for query in ["{ now }", "{ __schema { queryType { name } } }", "mutation { undoPolicy { recordCount } }"]
    {
        let response = stage.schema.execute(Request::new(query)).await;
        let code =
            response.errors[0].extensions.as_ref().and_then(|extensions| extensions.get("code")).cloned();
        assert_eq!(code, Some("UNAUTHENTICATED".into()), "{query}");
    }
}

#[tokio::test]
async fn what_a_role_does_not_allow_is_refused_and_recorded() {
    let stage = Stage::empty().await;
    let reading = "{ connections { nodes { authorization } } }";
    refused(stage.ask_as(Role::Viewer, reading, json!({})).await, "FORBIDDEN", "needs the role auditor");
    assert_eq!(stage.count("admin.act_denied"), 1);
    let past = "{ users(asOf: {record: 0}) { nodes { user } } }";
    refused(stage.ask_as(Role::Viewer, past, json!({})).await, "FORBIDDEN", "`asOf` needs");
    let writing = r#"mutation { createUser(login: "eve@example.com", displayName: "Eve") { user } }"#;
    refused(stage.ask_as(Role::NetworkAdmin, writing, json!({})).await, "FORBIDDEN", "needs the role admin");
    let granting = r#"mutation { createAdmin(name: "Eve", role: OWNER) { secret } }"#;
    refused(stage.ask_as(Role::Admin, granting, json!({})).await, "FORBIDDEN", "needs the role owner");
    assert_eq!((stage.count("user.provisioned"), stage.count("admin.act_denied")), (0, 4));
}

/// Every root field, as it is asked for, with the least role that is answered.
const ROOTS: &[(Role, &str)] = &[
    (Role::Viewer, "{ checkpoint { size } }"),
    (Role::Viewer, "{ consistency(oldSize: 1) { oldRoot } }"),
    (Role::Viewer, "{ me { role } }"),
    (Role::Viewer, "{ network { name } }"),
    (Role::Viewer, "{ nodes { nodes { node } } }"),
    (Role::Viewer, "{ now }"),
    (Role::Viewer, "{ witnesses { quorum } }"),
    (Role::Viewer, "{ policy { version } }"),
    (Role::Viewer, "{ policyVersions { nodes { version } } }"),
    (Role::Viewer, "{ users { nodes { user } } }"),
    (Role::Viewer, "{ views { lag } }"),
    (Role::Auditor, "{ admins { nodes { admin } } }"),
    (Role::Auditor, "{ blastRadius(from: {name: \"x\"}) { truncated } }"),
    (Role::Auditor, "{ connections { nodes { live } } }"),
    (Role::Auditor, "{ denials { nodes { count } } }"),
    (Role::Auditor, "{ enrolmentKeys { nodes { uses } } }"),
    (Role::Auditor, "{ evidenceBundle(seqs: [0]) { digest } }"),
    (Role::Auditor, "{ history { first } }"),
    (
        Role::Auditor,
        "{ paths(from: {tag: \"tag:x\"}, to: {tag: \"tag:x\"}, since: \"2026-01-01T00:00:00Z\") { truncated } }",
    ),
    (Role::Auditor, "{ reach(from: {name: \"x\"}) { truncated } }"),
    (Role::Auditor, "{ record(seq: 0) { kind } }"),
    (Role::Auditor, "{ records { nodes { kind } } }"),
    (Role::Auditor, "{ sessions { nodes { agent } } }"),
    (Role::Auditor, "{ whoCouldReach(to: {name: \"x\"}) { truncated } }"),
    (Role::Auditor, "{ withdrawals { nodes { revoked } } }"),
    (Role::NetworkAdmin, "{ policyDifference(text: \"{}\") { acceptable } }"),
    (
        Role::Auditor,
        "mutation { recordReport(framework: \"f\", bundleDigest: \"d\", asOfSize: 1) { command } }",
    ),
    (Role::Auditor, "mutation { revealPersons(users: [\"x\"], purpose: \"a test\") { done { command } } }"),
    (Role::NetworkAdmin, "mutation { approveRoutes(node: \"x\", routes: []) { command } }"),
    (Role::NetworkAdmin, "mutation { createEnrolmentKey(owner: {tags: [\"tag:x\"]}) { ticket } }"),
    (Role::NetworkAdmin, "mutation { removeNode(node: \"x\") { command } }"),
    (Role::NetworkAdmin, "mutation { revokeEnrolmentKey(enrolmentKey: \"x\") { command } }"),
    (Role::NetworkAdmin, "mutation { setPolicy(text: \"{}\") { command } }"),
    (Role::NetworkAdmin, "mutation { undoPolicy { command } }"),
    (Role::Admin, "mutation { createUser(login: \"x@example.com\", displayName: \"X\") { user } }"),
    (Role::Admin, "mutation { eraseUser(user: \"x\") { command } }"),
    (Role::Admin, "mutation { userLeaves(who: {user: \"x\"}) { command } }"),
    (Role::Owner, "mutation { createAdmin(name: \"x\", role: VIEWER) { secret } }"),
    (Role::Owner, "mutation { lapseRetention(quarter: \"x\") { command } }"),
    (Role::Owner, "mutation { revokeAdmin(admin: \"x\") { command } }"),
    (Role::Owner, "mutation { rotateLogKey(newKey: \"x\") { newKey } }"),
];

#[tokio::test]
async fn every_root_field_is_answered_to_its_role_and_to_none_below() {
    let stage = Stage::empty().await;
    let roles = [Role::Viewer, Role::Auditor, Role::NetworkAdmin, Role::Admin, Role::Owner];
    for (least, query) in ROOTS {
        for role in roles {
            let code = stage.ask_as(role, query, json!({})).await.err().map(|(code, _)| code);
            let is_denied = code.as_deref() == Some("FORBIDDEN");
            assert_eq!(is_denied, role > *least, "{query} as {role:?}: {code:?}");
        }
    }
}

#[tokio::test]
async fn no_root_field_is_missing_among_those_whose_role_is_tested() {
    let stage = Stage::empty().await;
    let query = "{ __schema { queryType { fields { name } } mutationType { fields { name } } } }";
    let schema = stage.ask(query, json!({})).await["__schema"].clone();
    for (root, is_mutation) in [("queryType", false), ("mutationType", true)] {
        for field in schema[root]["fields"].as_array().unwrap() {
            let name = field["name"].as_str().unwrap();
            let is_called = |query: &str| {
                let body = query.trim_start_matches("mutation").trim_start_matches([' ', '{']);
                query.starts_with("mutation") == is_mutation && body.split([' ', '(']).next() == Some(name)
            };
            assert!(ROOTS.iter().any(|(_, query)| is_called(query)), "{name} has no role in this test");
        }
    }
}
