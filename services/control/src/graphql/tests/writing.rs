//! Mutations: durable, idempotent, refused in clear words, and never a name in the log in the clear.

use futures_util::StreamExt;
use jiff::SignedDuration;
use serde_json::{Value, json};
use writ_ledger::{Bundle, SigningKey};
use writ_schema::CommandId;
use writ_schema::event::Role;
use writ_schema::protocol::EnrolmentTicket;
use writ_schema::seal::Quarter;

use super::stage::{NOTHING, POLICY, SET_POLICY, Stage, admin, refused};
use crate::fixtures;
use crate::graphql::Caller;
use crate::views::{fingerprint, rebuild};

const CREATE_KEY: &str = "mutation($id: ID, $life: Int! = 600) {
    createEnrolmentKey(owner: {tags: [\"tag:db\"]}, expiresIn: $life, commandId: $id) {
        enrolmentKey ticket expiresAt done { repeated recordCount } } }";

#[tokio::test]
async fn a_repeated_command_gets_the_first_answer() {
    let stage = Stage::empty().await;
    let id = CommandId::from_bytes([5; 16]).to_string();
    let first = stage.ask(CREATE_KEY, json!({ "id": id })).await["createEnrolmentKey"].clone();
    let second = stage.ask(CREATE_KEY, json!({ "id": id })).await["createEnrolmentKey"].clone();
    assert_eq!((&first["ticket"], &first["expiresAt"]), (&second["ticket"], &second["expiresAt"]));
    assert_eq!((&first["done"]["repeated"], &second["done"]["repeated"]), (&json!(false), &json!(true)));
    assert_eq!(stage.count("enrol_key.created"), 1);
    let other = stage.ask_as(Role::Owner, CREATE_KEY, json!({ "id": id, "life": 700 })).await;
    refused(other, "CONFLICT", "another command had the id");
    let nonsense = stage.ask_as(Role::Owner, CREATE_KEY, json!({ "id": "cmd_short" })).await;
    refused(nonsense, "BAD_INPUT", "command");
}

#[tokio::test]
async fn a_ticket_names_the_network_and_its_secret_is_nowhere_else() {
    let stage = Stage::empty().await;
    let answer = stage.ask(CREATE_KEY, json!({})).await["createEnrolmentKey"].clone();
    let ticket = EnrolmentTicket::parse(answer["ticket"].as_str().unwrap()).unwrap();
    assert_eq!((ticket.server.as_str(), ticket.network), ("https://writ.example", fixtures::network()));
    let keys = stage
        .ask("{ enrolmentKeys { nodes { enrolmentKey usable uses maxUses owner { tags } } } }", json!({}))
        .await;
    let listed = json!([{ "enrolmentKey": answer["enrolmentKey"], "usable": true, "uses": 0, "maxUses": 1,
        "owner": { "tags": ["tag:db"] } }]);
    assert_eq!(keys["enrolmentKeys"]["nodes"], listed);
    assert!(!is_on_disk(&stage, &ticket.secret));
    let forever = stage.ask_as(Role::Owner, CREATE_KEY, json!({ "life": 999_999_999 })).await;
    refused(forever, "BAD_INPUT", "expiresIn");
}

fn is_on_disk(stage: &Stage, text: &str) -> bool {
    let files = |folder: &std::path::Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.collect::<Vec<_>>()
    };
    let mut folders = vec![stage.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in files(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes())
            {
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn a_policy_is_recorded_with_pseudonyms_and_read_back_with_logins_by_those_who_may() {
    let stage = Stage::new().await;
    let read =
        |role| stage.ask_as(role, "{ policy { version text effect { gained } record { kind } } }", json!({}));
    let by_owner = read(Role::Owner).await.unwrap();
    assert_eq!((&by_owner["policy"]["version"], &by_owner["policy"]["text"]), (&json!(1), &json!(POLICY)));
    let by_auditor = read(Role::Auditor).await.unwrap()["policy"]["text"].as_str().unwrap().to_owned();
    assert!(by_auditor.contains(fixtures::user(1).as_str()) && !by_auditor.contains("person-1@"));
    let log = std::fs::read_dir(stage.folder().join("log")).unwrap();
    assert!(log.count() > 0);
    let stranger = POLICY.replace("person-1", "stranger");
    let unknown = stage.ask_as(Role::Owner, SET_POLICY, json!({ "text": stranger })).await;
    refused(unknown, "BAD_INPUT", "stranger@example.com");
    let stale = stage.ask_as(Role::Owner, SET_POLICY, json!({ "text": NOTHING, "base": 7 })).await;
    refused(stale, "REJECTED", "changed meanwhile");
    let broken = stage.ask_as(Role::Owner, SET_POLICY, json!({ "text": "{ \"aclz\": [] }" })).await;
    assert!(broken.is_err_and(|(_, message)| message.contains("aclz")));
}

#[tokio::test]
async fn a_difference_is_shown_before_it_is_made_and_nothing_is_recorded() {
    let stage = Stage::new().await;
    let authorization = stage.connect(100).await.to_string();
    let records = stage.sequencer.log().size();
    let query = "query($text: String!) { policyDifference(text: $text) { base acceptable gainedCount lostCount
        lost { source { name } destination { name } protocol ports } connectionsCut { authorization } summary
        gainedByIdentityCount lostByIdentity { source { owner { user } } destination { owner { tags } } services pairs } } }";
    let answer = stage.ask(query, json!({ "text": NOTHING })).await["policyDifference"].clone();
    assert_eq!((&answer["gainedCount"], &answer["lostCount"]), (&json!(0), &json!(1)));
    assert_eq!(
        answer["lost"][0],
        json!({ "source": { "name": "node-1" }, "destination": { "name": "node-2" },
        "protocol": "tcp", "ports": "5432" })
    );
    assert_eq!(answer["gainedByIdentityCount"], json!(0));
    let alike = json!([{ "source": { "owner": { "user": fixtures::user(1) } }, "destination": { "owner": { "tags": ["tag:db"] } },
        "services": "tcp 5432", "pairs": 1 }]);
    assert_eq!(answer["lostByIdentity"], alike);
    assert_eq!(answer["connectionsCut"], json!([{ "authorization": authorization }]));
    assert_eq!(stage.sequencer.log().size(), records);
    let set = stage.ask(SET_POLICY, json!({ "text": NOTHING, "base": 1 })).await;
    let kinds: Vec<&Value> =
        set["setPolicy"]["records"].as_array().unwrap().iter().map(|r| &r["kind"]).collect();
    assert_eq!(kinds, ["policy.change_proposed", "policy.activated", "connection.revoked"]);
    stage.ask("mutation { undoPolicy { recordCount } }", json!({})).await;
    let versions = stage.ask("{ policyVersions { nodes { version restores } } }", json!({})).await;
    let expected = json!([{ "version": 3, "restores": 1 }, { "version": 2, "restores": null }, { "version": 1, "restores": null }]);
    assert_eq!(versions["policyVersions"]["nodes"], expected);
}

#[tokio::test]
async fn an_erased_person_is_gone_from_every_answer() {
    let stage = Stage::new().await;
    stage.connect(100).await;
    let user = fixtures::user(1).to_string();
    let early = stage
        .ask_as(
            Role::Admin,
            "mutation($u: ID!) { eraseUser(user: $u) { recordCount } }",
            json!({ "u": user }),
        )
        .await;
    refused(early, "REJECTED", "has not left");
    let mutation = "mutation($u: ID!) { userLeaves(who: {user: $u}) { recordCount } eraseUser(user: $u) { recordCount } }";
    stage.ask_as(Role::Admin, mutation, json!({ "u": user })).await.unwrap();
    let query = "query($u: ID!) { connections { nodes { source { user } } }
        users { nodes { user status erased { kind } } } nodes(owner: $u, withRemoved: true) { nodes { name removal } } }";
    let answer = stage.ask(query, json!({ "u": user })).await;
    assert_eq!(answer["connections"]["nodes"], json!([{ "source": null }]));
    assert_eq!(answer["nodes"]["nodes"], json!([{ "name": null, "removal": "OWNER_DISABLED" }]));
    let users = answer["users"]["nodes"].as_array().unwrap();
    let erased = users.iter().find(|row| row["user"] == user.as_str()).unwrap();
    assert_eq!((&erased["status"], &erased["erased"]["kind"]), (&json!("DISABLED"), &json!("key.shredded")));
}

#[tokio::test]
async fn what_a_lapsed_quarter_recorded_is_proven_and_says_nothing_of_its_sources() {
    let stage = Stage::new().await;
    let authorization = stage.connect(100).await;
    let seq = stage.sequencer.log().size() - 1;
    let now = stage.sequencer.state().time();
    let quarter = json!({ "q": Quarter::of(now).to_string(), "seqs": [seq] });
    let bundle = "query($seqs: [UInt!]) { evidenceBundle(seqs: $seqs, withKeys: true) { text } }";
    let readable = || async {
        let answer = stage.ask(bundle, quarter.clone()).await;
        let bundle = Bundle::parse(answer["evidenceBundle"]["text"].as_str().unwrap().as_bytes()).unwrap();
        let key = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap().verifier_key();
        assert_eq!(bundle.verify(&key).expect("the proofs hold").records, 1);
        !matches!(bundle.keys(), "{}" | "null")
    };
    assert!(readable().await);
    let lapse = "mutation($q: String!) { lapseRetention(quarter: $q) { records { kind } } }";
    refused(stage.ask_as(Role::Owner, lapse, quarter.clone()).await, "REJECTED", "is not over");
    refused(stage.ask_as(Role::Owner, lapse, json!({ "q": "2026-4" })).await, "BAD_INPUT", "2026q4");
    refused(stage.ask_as(Role::Admin, lapse, quarter.clone()).await, "FORBIDDEN", "owner");
    stage.pass(SignedDuration::from_hours(24 * 100));
    let lapsed = stage.ask(lapse, quarter.clone()).await;
    assert_eq!(lapsed["lapseRetention"]["records"], json!([{ "kind": "retention.lapsed" }]));
    let query =
        "{ connections { nodes { authorization source { user } rule } } users { nodes { erased { seq } } } }";
    let answer = stage.ask(query, json!({})).await;
    let expected = json!([{ "authorization": authorization, "source": null, "rule": "acls[0]" }]);
    assert_eq!(answer["connections"]["nodes"], expected);
    assert!(answer["users"]["nodes"].as_array().unwrap().iter().all(|user| user["erased"].is_null()));
    assert!(!readable().await);
    refused(stage.ask_as(Role::Owner, lapse, quarter).await, "REJECTED", "lapsed before");
    stage.ask("{ records { nodes { seq } } }", json!({})).await;
    let anew = stage.folder().join("anew.db");
    rebuild(&anew, stage.source()).unwrap();
    let content = |path: &std::path::Path| fingerprint(&rusqlite::Connection::open(path).unwrap()).unwrap();
    assert_eq!(content(&stage.folder().join("views.db")), content(&anew));
}

#[tokio::test]
async fn an_administrator_is_made_with_a_secret_that_is_shown_once() {
    let stage = Stage::empty().await;
    let create = r#"mutation { createAdmin(name: "Ada Auditor", role: AUDITOR) { admin secret } }"#;
    let made = stage.ask(create, json!({})).await["createAdmin"].clone();
    assert!(!is_on_disk(&stage, made["secret"].as_str().unwrap()));
    stage
        .ask("mutation($a: ID!) { revokeAdmin(admin: $a) { recordCount } }", json!({ "a": made["admin"] }))
        .await;
    let admins = stage.ask("{ admins { nodes { admin role revoked { kind } } } }", json!({})).await;
    let rows = admins["admins"]["nodes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["admin"] == made["admin"]).unwrap();
    assert_eq!((&row["role"], &row["revoked"]["kind"]), (&json!("AUDITOR"), &json!("admin.role_revoked")));
    let report = "mutation($d: String!) { recordReport(framework: \"nis2/2026.1\", bundleDigest: $d, asOfSize: 5) { records { kind } } }";
    let recorded = stage.ask_as(Role::Auditor, report, json!({ "d": "ab".repeat(32) })).await.unwrap();
    assert_eq!(recorded["recordReport"]["records"], json!([{ "kind": "report.generated" }]));
}

#[tokio::test]
async fn a_subscriber_sees_what_is_committed_and_the_subscription_is_recorded_once() {
    let stage = Stage::empty().await;
    let caller = Caller { admin: admin(Role::Auditor), role: Role::Auditor };
    let query = r#"subscription { records(kinds: ["user.provisioned"]) { seq kind } }"#;
    let mut live = stage.schema.execute_stream(async_graphql::Request::new(query).data(caller));
    let submit = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        stage.submit(200, fixtures::provision(7)).await;
        stage.submit(201, fixtures::provision(8)).await;
    };
    let (shown, ()) = tokio::join!(live.by_ref().take(2).collect::<Vec<_>>(), submit);
    for response in shown {
        assert_eq!(
            response.into_result().unwrap().data.into_json().unwrap()["records"]["kind"],
            "user.provisioned"
        );
    }
    assert_eq!(stage.count("audit.query_executed"), 1);
    let viewer = Caller { admin: admin(Role::Viewer), role: Role::Viewer };
    let mut denied = stage.schema.execute_stream(async_graphql::Request::new(query).data(viewer));
    assert!(denied.next().await.unwrap().errors[0].message.contains("needs the role auditor"));
}
