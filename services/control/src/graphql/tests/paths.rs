//! Ways over time and over several hops.

use serde_json::{Value, json};
use writ_schema::event::{NodeOwner, Role};

use super::stage::{DATABASE, LAPTOP, NOTHING, POLICY, SET_POLICY, Stage, refused};
use crate::fixtures;

const PATHS: &str =
    "query($from: EndInput!, $to: EndInput!, $since: Timestamp!, $until: Timestamp, $port: Int) {
    paths(from: $from, to: $to, since: $since, until: $until, protocol: \"tcp\", port: $port) {
        paths {
            source { node } destination { name } ports rule conditions policy since until
            opened { seq kind } closed { seq kind }
        }
        truncated
    }
}";

fn ways(answer: &Value) -> Vec<Value> {
    assert_eq!(answer["paths"]["truncated"], false);
    answer["paths"]["paths"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_rule_that_existed_for_a_moment_only_is_found() {
    let stage = Stage::new().await;
    let start = jiff::Timestamp::now();
    stage.ask(SET_POLICY, json!({ "text": NOTHING })).await;
    stage.ask(SET_POLICY, json!({ "text": POLICY })).await;
    stage.ask(SET_POLICY, json!({ "text": NOTHING })).await;
    let end = jiff::Timestamp::now();
    stage.ask(SET_POLICY, json!({ "text": POLICY })).await;
    let (user, tag) = (json!({ "user": fixtures::user(1) }), json!({ "tag": "tag:db" }));
    let ask = |since: &str, until: Value, port: u16| {
        let variables = json!({ "from": user, "to": tag, "since": since, "until": until, "port": port });
        stage.ask(PATHS, variables)
    };
    let found = ways(&ask(&start.to_string(), json!(end), 5432).await);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (&found[0]["opened"], found[0]["since"].as_str()),
        (&Value::Null, Some(start.to_string().as_str()))
    );
    assert_eq!(found[0]["closed"]["kind"], "policy.activated");
    let moment = &found[1];
    assert_eq!((moment["policy"].as_u64(), moment["rule"].as_str()), (Some(3), Some("acls[0]")));
    assert_eq!(
        (&moment["opened"]["kind"], &moment["closed"]["kind"]),
        (&json!("policy.activated"), &json!("policy.activated"))
    );
    assert!(moment["opened"]["seq"].as_u64() < moment["closed"]["seq"].as_u64());
    assert_eq!(moment["destination"]["name"], "node-2");
    let all = ways(&ask(&start.to_string(), Value::Null, 5432).await);
    assert_eq!((all.len(), &all[2]["until"]), (3, &Value::Null), "open at the end");
    assert!(ways(&ask(&start.to_string(), json!(end), 22).await).is_empty());
}

#[tokio::test]
async fn a_way_opens_and_closes_with_the_nodes_at_its_ends() {
    let stage = Stage::new().await;
    let start = "2000-01-01T00:00:00Z";
    let laptop = fixtures::Endpoint::new(LAPTOP).id();
    let removal = crate::core::Command::RemoveNode { node: laptop.clone() };
    stage.submit(90, removal).await;
    let variables =
        json!({ "from": { "node": laptop }, "to": { "tag": "tag:db" }, "since": start, "port": 5432 });
    let found = ways(&stage.ask(PATHS, variables).await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["opened"]["kind"], &found[0]["closed"]["kind"]),
        (&json!("policy.activated"), &json!("node.removed"))
    );
    assert_eq!(stage.count("audit.query_executed"), 1, "such a question is history");
}

#[tokio::test]
async fn a_blast_radius_follows_more_than_one_hop() {
    let stage = Stage::new().await;
    stage.join(7, NodeOwner::User(fixtures::user(2)), 60).await;
    let text = POLICY.replacen(
        "\"acls\"",
        &format!(
            "\"grants\": [{{\"src\": [\"tag:db\"], \"dst\": [\"{}\"], \"ip\": [\"tcp:22\"]}}], \"acls\"",
            fixtures::user(2)
        ),
        1,
    );
    stage.ask(SET_POLICY, json!({ "text": text })).await;
    let query = "query($node: ID!, $hops: Int!) { blastRadius(from: {node: $node}, hops: $hops) {
        reached { hop node { node } through { node } ports rule } truncated } }";
    let id = |number: u8| fixtures::Endpoint::new(number).id().to_string();
    let ask = |hops: u8| stage.ask(query, json!({ "node": id(LAPTOP), "hops": hops }));
    let near = ask(1).await;
    assert_eq!(near["blastRadius"]["reached"].as_array().map(Vec::len), Some(1));
    let far = ask(2).await;
    let second = &far["blastRadius"]["reached"][1];
    assert_eq!((second["hop"].as_u64(), second["rule"].as_str()), (Some(2), Some("grants[0]")));
    assert_eq!(
        (second["node"]["node"].as_str(), second["through"]["node"].as_str()),
        (Some(id(7).as_str()), Some(id(DATABASE).as_str()))
    );
    let variables = json!({ "node": id(LAPTOP), "hops": 9 });
    refused(stage.ask_as(Role::Auditor, query, variables).await, "BAD_INPUT", "from 1 to 4");
    let as_viewer = json!({ "node": id(LAPTOP), "hops": 2 });
    refused(stage.ask_as(Role::Viewer, query, as_viewer).await, "FORBIDDEN", "auditor");
}
