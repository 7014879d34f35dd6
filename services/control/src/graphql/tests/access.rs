//! Who could, who was allowed, who did; the past stays the past; and reading is recorded.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use writ_ledger::Bundle;
use writ_schema::event::{AcknowledgedAction, Role};
use writ_schema::seal::HeldKey;
use writ_schema::{Event, Record, Seq};

use super::stage::{DATABASE, LAPTOP, NOTHING, SET_POLICY, Stage, refused};
use crate::fixtures::{self, Endpoint};
use crate::views::{fingerprint, rebuild};

const WHO: &str = "query($name: String!, $port: Int, $asOf: AsOfInput, $knownBy: AsOfInput) {
    whoCouldReach(to: {name: $name}, protocol: \"tcp\", port: $port, asOf: $asOf, knownBy: $knownBy) {
        asOf { seq size checkpoint { size root } }
        node { node name }
        policy { version proposedBy record { seq kind } }
        couldReach { source { node owner { user } } ports rule ruleText record { seq kind } }
        authorized { authorization source { node { node } user } live record { seq kind } }
        talked { source { user } report { side bytesSent bytesReceived record { seq kind } } }
    }
}";

fn list<'a>(answer: &'a Value, field: &str) -> &'a Vec<Value> {
    answer["whoCouldReach"][field].as_array().unwrap()
}

fn size(stage: &Stage) -> u64 {
    stage.sequencer.log().size()
}

#[tokio::test]
async fn who_could_reach_keeps_three_levels_apart_and_the_past_stays_as_it_was() {
    let stage = Stage::new().await;
    let before = size(&stage) - 1;
    let authorization = stage.connect(100).await;
    let during = size(&stage) - 1;
    stage.close(101, LAPTOP, &authorization).await;
    stage.ask(SET_POLICY, json!({ "text": NOTHING })).await;

    let ask = |as_of: Value| stage.ask(WHO, json!({ "name": "node-2", "port": 5432, "asOf": as_of }));
    let at_first = ask(json!({ "record": before })).await;
    assert_eq!([1, 0, 0], ["couldReach", "authorized", "talked"].map(|level| list(&at_first, level).len()));
    let could = &list(&at_first, "couldReach")[0];
    let person = fixtures::user(1).to_string();
    assert_eq!((could["rule"].as_str(), could["ports"].as_str()), (Some("acls[0]"), Some("5432")));
    assert_eq!(could["source"]["owner"]["user"].as_str(), Some(person.as_str()));
    assert_eq!(could["record"]["kind"], "policy.activated");
    assert!(could["ruleText"].as_str().unwrap().contains("group:oncall"));

    let in_use = ask(json!({ "record": during })).await;
    assert_eq!([1, 1, 1], ["couldReach", "authorized", "talked"].map(|level| list(&in_use, level).len()));
    assert_eq!(list(&in_use, "authorized")[0]["source"]["user"].as_str(), Some(person.as_str()));
    assert_eq!(list(&in_use, "talked")[0]["report"]["bytesSent"], 1_234);
    assert_eq!(in_use["whoCouldReach"]["asOf"]["seq"], during);

    let known_then = json!({ "name": "node-2", "asOf": {"record": during}, "knownBy": {"record": during} });
    assert!(list(&stage.ask(WHO, known_then).await, "talked").is_empty(), "the report came later");
    let now = stage.ask(WHO, json!({ "name": "node-2" })).await;
    assert_eq!([0, 0, 0], ["couldReach", "authorized", "talked"].map(|level| list(&now, level).len()));
    assert_eq!(now["whoCouldReach"]["policy"]["version"], 2);
    let other_port =
        stage.ask(WHO, json!({ "name": "node-2", "port": 22, "asOf": {"record": before} })).await;
    assert!(list(&other_port, "couldReach").is_empty());
}

#[tokio::test]
async fn what_a_node_could_reach_is_the_same_seen_from_the_other_end() {
    let stage = Stage::new().await;
    let laptop = Endpoint::new(LAPTOP).id().to_string();
    let query =
        "query($node: ID!) { reach(from: {node: $node}) { couldReach { destination { name } ports rule } } }";
    let answer = stage.ask(query, json!({ "node": laptop })).await;
    let expected = json!([{ "destination": { "name": "node-2" }, "ports": "5432", "rule": "acls[0]" }]);
    assert_eq!(answer["reach"]["couldReach"], expected);
}

#[tokio::test]
async fn the_name_of_a_persons_machine_is_shown_to_those_who_run_the_network_only() {
    let stage = Stage::new().await;
    assert_eq!(names(&stage, Role::NetworkAdmin).await, [Some("node-1"), Some("node-2")].map(owned).into());
    assert_eq!(names(&stage, Role::Auditor).await, [None, Some("node-2")].map(owned).into());
    let by_name = stage.ask_as(Role::Auditor, WHO, json!({ "name": "node-1" })).await;
    refused(by_name, "NOT_FOUND", "no such node");
}

fn owned(name: Option<&str>) -> Option<String> {
    name.map(str::to_owned)
}

async fn names(stage: &Stage, role: Role) -> std::collections::BTreeSet<Option<String>> {
    let answer = stage.ask_as(role, "{ nodes { nodes { name } } }", json!({})).await.unwrap();
    let nodes = answer["nodes"]["nodes"].as_array().unwrap().clone();
    nodes.iter().map(|node| owned(node["name"].as_str())).collect()
}

#[tokio::test]
async fn reading_history_is_recorded_before_it_is_answered_and_reading_the_present_is_not() {
    let stage = Stage::new().await;
    stage
        .ask(
            "{ users { nodes { user } } nodes { nodes { node } } policy { version } network { name } }",
            json!({}),
        )
        .await;
    assert_eq!(stage.count("audit.query_executed"), 0);
    let answer = stage
        .ask("{ records(newestFirst: true, first: 1) { nodes { kind actor json } } denials { nodes { count } } }", json!({}))
        .await;
    assert_eq!(stage.count("audit.query_executed"), 1, "one record for one query");
    let newest = &answer["records"]["nodes"][0];
    assert_eq!(newest["kind"], "audit.query_executed", "the answer holds the record of itself");
    let json: Value = serde_json::from_str(newest["json"].as_str().unwrap()).unwrap();
    assert_eq!(json["event"]["audit.query_executed"]["fields"], json!(["records", "denials"]));
    stage
        .ask("query($at: UInt!) { users(asOf: {record: $at}) { nodes { user } } }", json!({ "at": 3 }))
        .await;
    assert_eq!(stage.count("audit.query_executed"), 2, "the past is history, whatever is asked of it");
}

#[tokio::test]
async fn a_refused_query_leaves_no_record_of_an_answer() {
    let stage = Stage::empty().await;
    stage.ask_as(Role::Owner, "{ records(first: 1) { nodes { nonsense } } }", json!({})).await.unwrap_err();
    assert_eq!(stage.count("audit.query_executed"), 0);
}

#[tokio::test]
async fn persons_are_revealed_for_a_stated_purpose_and_on_record() {
    let stage = Stage::new().await;
    let reveal = "mutation($users: [ID!]!, $why: String!) {
        revealPersons(users: $users, purpose: $why) { persons { user login displayName nodes { name } } } }";
    let users = json!([fixtures::user(1).to_string()]);
    let vague = stage.ask_as(Role::Auditor, reveal, json!({ "users": users, "why": " ? " })).await;
    refused(vague, "BAD_INPUT", "purpose");
    let by_viewer = stage.ask_as(Role::Viewer, reveal, json!({ "users": users, "why": "curiosity" })).await;
    refused(by_viewer, "FORBIDDEN", "auditor");
    assert_eq!(stage.count("audit.deanonymise_executed"), 0);
    let asked = json!({ "users": users, "why": "incident 7: unusual access" });
    let answer = stage.ask_as(Role::Auditor, reveal, asked).await.unwrap();
    let person = &answer["revealPersons"]["persons"][0];
    assert_eq!(
        (&person["login"], &person["nodes"][0]["name"]),
        (&json!("person-1@example.com"), &json!("node-1"))
    );
    assert_eq!(stage.count("audit.deanonymise_executed"), 1);
}

#[tokio::test]
async fn a_withdrawal_is_measured_to_the_last_acknowledgement() {
    let stage = Stage::new().await;
    let authorization = stage.connect(100).await;
    let leaves =
        r#"mutation { userLeaves(who: {login: "PERSON-1@example.com"}) { records { seq kind cause } } }"#;
    let left = stage.ask_as(Role::Admin, leaves, json!({})).await.unwrap();
    let records = left["userLeaves"]["records"].as_array().unwrap().clone();
    let cause = records[0]["seq"].clone();
    let revoked = records.iter().find(|record| record["kind"] == "connection.revoked").unwrap();
    assert_eq!(revoked["cause"], cause);
    let revoked = Seq(revoked["seq"].as_u64().unwrap());
    let query = "{ withdrawals { nodes { cause { seq kind } revoked ends endsAcknowledged tookMilliseconds openUntil
        lastAcknowledgement { seq } revocations { sourceAcknowledgement { seq } destinationAcknowledgement { seq } } } } }";
    stage.acknowledge(110, DATABASE, &authorization, revoked, AcknowledgedAction::Withdrawn).await;
    let half = stage.ask(query, json!({})).await["withdrawals"]["nodes"][0].clone();
    assert_eq!(
        (&half["cause"]["seq"], &half["ends"], &half["endsAcknowledged"]),
        (&cause, &json!(2), &json!(1))
    );
    assert!(half["openUntil"].is_string(), "an end is missing, and until when is known");
    assert_eq!(half["revocations"][0]["sourceAcknowledgement"], Value::Null);
    stage.acknowledge(111, LAPTOP, &authorization, revoked, AcknowledgedAction::Withdrawn).await;
    let done = stage.ask(query, json!({})).await["withdrawals"]["nodes"][0].clone();
    assert_eq!((&done["endsAcknowledged"], &done["openUntil"]), (&json!(2), &Value::Null));
    assert!(done["tookMilliseconds"].is_u64());
}

#[tokio::test]
async fn a_record_proves_itself_and_a_bundle_proves_an_answer() {
    let stage = Stage::new().await;
    stage.connect(100).await;
    let proven = stage
        .ask("{ record(seq: 3) { seq json proof { leaf hashes checkpoint { size root } } } }", json!({}))
        .await;
    let record = &proven["record"];
    let leaf = writ_ledger::leaf_hash(record["json"].as_str().unwrap().as_bytes());
    let hashes = record["proof"]["hashes"].as_array().unwrap();
    let proof = writ_ledger::InclusionProof {
        index: 3,
        size: record["proof"]["checkpoint"]["size"].as_u64().unwrap(),
        hashes: hashes.iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect(),
    };
    let root = record["proof"]["checkpoint"]["root"].as_str().unwrap().parse().unwrap();
    proof.verify(&leaf, &root).expect("the proof holds");

    let bundle = "query($query: EvidenceQueryInput!) {
        evidenceBundle(subject: \"who could reach the database\", query: $query, withKeys: true) { records text digest } }";
    let variables = json!({ "name": "node-2" }).to_string();
    let answer = stage.ask(bundle, json!({ "query": { "document": WHO, "variables": variables } })).await;
    let text = answer["evidenceBundle"]["text"].as_str().unwrap();
    let bundle = Bundle::parse(text.as_bytes()).unwrap();
    let key = writ_ledger::SigningKey::from_seed("writ.example/log", [7; 32]).unwrap().verifier_key();
    let report = bundle.verify(&key).expect("the bundle holds");
    assert!(report.records >= 2, "the policy's activation and the authorization");
    assert!(report.sealed, "question, answer and time are vouched for");
    assert!(bundle.result().contains("acls[0]"));
    let keys: BTreeMap<String, Vec<HeldKey>> = serde_json::from_str(bundle.keys()).unwrap();
    let sources = bundle.entries().iter().filter_map(|entry| {
        let mut record = Record::decode(entry.record.as_bytes()).unwrap();
        record.open(keys.get(&entry.index.to_string())?.as_slice()).unwrap();
        match record.event {
            Event::ConnectionAuthorized(body) => body.source.value().map(|source| source.node.clone()),
            _ => None,
        }
    });
    assert_eq!(sources.collect::<Vec<_>>(), [Endpoint::new(LAPTOP).id()]);
    for (part, from, to) in
        [("result", "acls[0]", "acls[9]"), ("query", "node-2", "node-1"), ("subject", "who", "nobody")]
    {
        let mut forged: Value = serde_json::from_str(text).unwrap();
        let claim = forged["manifest"][part].to_string();
        assert!(claim.contains(from), "{part}: {claim}");
        forged["manifest"][part] = serde_json::from_str(&claim.replace(from, to)).unwrap();
        let forged = Bundle::parse(forged.to_string().as_bytes()).unwrap();
        let refusal = forged.verify(&key).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("{part} was altered")), "{refusal}");
    }
}

#[tokio::test]
async fn a_bundle_of_a_selection_goes_on_where_it_stopped() {
    let stage = Stage::new().await;
    let query = "query($after: UInt) { evidenceBundle(selection: {filters: [{kinds: [\"user.provisioned\"]},
        {kinds: [\"node.joined\", \"user.provisioned\"]}], after: $after, limit: 3}) { records lastSeq hasMore } }";
    let first = stage.ask(query, json!({})).await["evidenceBundle"].clone();
    assert_eq!((&first["records"], &first["hasMore"]), (&json!(3), &json!(true)));
    let rest = stage.ask(query, json!({ "after": first["lastSeq"] })).await["evidenceBundle"].clone();
    assert_eq!((&rest["records"], &rest["hasMore"]), (&json!(1), &json!(false)));
    let beyond = query.replace("selection:", "seqs: [15], selection:");
    let with_another = stage.ask(&beyond, json!({})).await["evidenceBundle"].clone();
    assert_eq!((&with_another["records"], &with_another["lastSeq"]), (&json!(4), &first["lastSeq"]));
    let unfiltered = "{ evidenceBundle(selection: {filters: []}) { text } }";
    refused(stage.ask_as(Role::Owner, unfiltered, json!({})).await, "BAD_INPUT", "1 to 8");
    let nothing = stage.ask_as(Role::Owner, "{ evidenceBundle { text } }", json!({})).await;
    refused(nothing, "BAD_INPUT", "1 to 20000 records");
    let nested = json!({ "query": { "document": "{ evidenceBundle(seqs: [1]) { text } }" } });
    let nesting = "query($query: EvidenceQueryInput!) { evidenceBundle(seqs: [1], query: $query) { text } }";
    assert!(
        stage.ask_as(Role::Owner, nesting, nested).await.is_ok(),
        "a bundle of records inside is a query like others"
    );
    let mutation = json!({ "query": { "document": "mutation { undoPolicy { recordCount } }" } });
    refused(stage.ask_as(Role::Owner, nesting, mutation).await, "BAD_INPUT", "not of a mutation");
}

#[tokio::test]
async fn the_log_only_grows_and_that_is_proven() {
    let stage = Stage::new().await;
    let old = stage.ask("{ checkpoint { size root } }", json!({})).await["checkpoint"].clone();
    stage.connect(100).await;
    let query =
        "query($old: UInt!) { consistency(oldSize: $old) { oldRoot hashes checkpoint { size root } } }";
    let answer = stage.ask(query, json!({ "old": old["size"] })).await["consistency"].clone();
    assert_eq!(answer["oldRoot"], old["root"]);
    let proof = writ_ledger::ConsistencyProof {
        old_size: old["size"].as_u64().unwrap(),
        new_size: answer["checkpoint"]["size"].as_u64().unwrap(),
        hashes: answer["hashes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| h.as_str().unwrap().parse().unwrap())
            .collect(),
    };
    let root = |text: &Value| text.as_str().unwrap().parse().unwrap();
    proof.verify(&root(&old["root"]), &root(&answer["checkpoint"]["root"])).expect("it continues");
    let between = "{ consistency(oldSize: 3, newSize: 5) { oldRoot newRoot hashes newSize } }";
    let answer = stage.ask(between, json!({})).await["consistency"].clone();
    let hashes = answer["hashes"].as_array().unwrap().iter().map(root).collect();
    let proof = writ_ledger::ConsistencyProof { old_size: 3, new_size: 5, hashes };
    proof.verify(&root(&answer["oldRoot"]), &root(&answer["newRoot"])).expect("it continued");
    for (sizes, why) in [("oldSize: 5, newSize: 3", "more than"), ("oldSize: 3, newSize: 999", "not 999")] {
        let query = format!("{{ consistency({sizes}) {{ newRoot }} }}");
        refused(stage.ask_as(Role::Owner, &query, json!({})).await, "BAD_INPUT", why);
    }
}

#[tokio::test]
async fn pages_follow_one_another_without_gaps() {
    let stage = Stage::new().await;
    let as_of = size(&stage) - 1;
    let query = "query($after: String, $at: UInt!) { records(first: 7, after: $after, asOf: {record: $at}) {
        nodes { seq } pageInfo { hasNextPage endCursor } asOf { size } } }";
    let (mut after, mut seqs) = (Value::Null, Vec::new());
    loop {
        let page = stage.ask(query, json!({ "after": after, "at": as_of })).await["records"].clone();
        seqs.extend(page["nodes"].as_array().unwrap().iter().map(|row| row["seq"].as_u64().unwrap()));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == json!(false) {
            break;
        }
    }
    assert_eq!(seqs, (0..=as_of).collect::<Vec<_>>());
    refused(
        stage.ask_as(Role::Owner, "{ records(after: \"x\") { nodes { seq } } }", json!({})).await,
        "BAD_INPUT",
        "cursor",
    );
    let later = "{ records(asOf: {record: 999999}) { nodes { seq } } }";
    refused(stage.ask_as(Role::Owner, later, json!({})).await, "NOT_YET", "not there yet");
}

#[tokio::test]
async fn views_that_followed_a_living_log_are_those_that_are_rebuilt_from_it() {
    let stage = Stage::new().await;
    let authorization = stage.connect(100).await;
    stage.close(101, LAPTOP, &authorization).await;
    let user = fixtures::user(1).to_string();
    let gone =
        "mutation($u: ID!) { userLeaves(who: {user: $u}) { command } eraseUser(user: $u) { command } }";
    stage.ask(gone, json!({ "u": user })).await;
    stage.ask("{ records { nodes { seq } } }", json!({})).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let rebuilt = elsewhere.path().join("views.db");
    rebuild(&rebuilt, stage.source()).unwrap();
    let content = |path: &std::path::Path| fingerprint(&rusqlite::Connection::open(path).unwrap()).unwrap();
    assert_eq!(content(&stage.folder().join("views.db")), content(&rebuilt));
}
