//! Ways over time and over several hops.

use serde_json::{Value, json};
use writ_schema::event::{NodeOwner, Role};
use writ_schema::net::Prefix;

use super::stage::{DATABASE, LAPTOP, NOTHING, POLICY, SET_POLICY, Stage, refused};
use crate::core::Command;
use crate::fixtures::{self, Endpoint};

const PATHS: &str =
    "query($from: EndInput!, $to: EndInput!, $since: Timestamp!, $until: Timestamp, $port: Int) {
    paths(from: $from, to: $to, since: $since, until: $until, protocol: \"tcp\", port: $port) {
        paths {
            source { node } destination { name } route ports rule conditions policy since until
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
    let laptop = Endpoint::new(LAPTOP).id();
    let removal = Command::RemoveNode { node: laptop.clone() };
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
    let id = |number: u8| Endpoint::new(number).id().to_string();
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

const BEHIND: &str = "query($name: String!, $asOf: AsOfInput) {
    whoCouldReach(to: {name: $name}, asOf: $asOf) { couldReach { ...way } }
    reach(from: {name: \"node-1\"}, asOf: $asOf) { couldReach { ...way } }
}
fragment way on Reach { destination { name } route protocol ports rule }";

#[tokio::test]
async fn what_lies_behind_a_node_is_answered_for_at_any_moment_and_over_time() {
    let stage = Stage::new().await;
    let (person, router) = (fixtures::user(1), Endpoint::new(DATABASE).id());
    let text = format!(
        r#"{{"tagOwners":{{"tag:db":[]}},"acls":[{{"action":"accept","proto":"tcp","src":["{person}"],"dst":["10.20.0.0/20:443"]}}]}}"#
    );
    let start = jiff::Timestamp::now();
    stage.ask(SET_POLICY, json!({ "text": text })).await;
    let routes = vec!["10.20.0.0/16".parse().unwrap()];
    let approve =
        |routes: &[Prefix]| Command::ApproveRoutes { node: router.clone(), routes: routes.to_vec() };
    let (node, offered) = (router.clone(), routes.clone());
    stage.submit(200, Command::AdvertiseRoutes { node, routes: offered }).await;
    let offered = stage.sequencer.log().size() - 1;
    stage.submit(201, approve(&routes)).await;
    let approved = stage.sequencer.log().size() - 1;
    stage.submit(202, approve(&[])).await;
    let now = stage.sequencer.log().size() - 1;
    for (record, count) in [(offered, 0), (approved, 1), (now, 0)] {
        let answer = stage.ask(BEHIND, json!({ "name": "node-2", "asOf": { "record": record } })).await;
        for field in ["whoCouldReach", "reach"] {
            let rows = answer[field]["couldReach"].as_array().unwrap();
            assert_eq!(rows.len(), count, "{field} at {record}: {rows:?}");
            let way = json!({
                "destination": { "name": "node-2" }, "route": "10.20.0.0/20", "protocol": "tcp", "ports": "443", "rule": "acls[0]",
            });
            assert!(rows.iter().all(|row| *row == way), "{rows:?}");
        }
    }
    let variables = json!({ "from": { "user": person }, "to": { "tag": "tag:db" }, "since": start });
    let behind = |way: &Value| way["route"] == "10.20.0.0/20";
    let found: Vec<_> = ways(&stage.ask(PATHS, variables).await).into_iter().filter(behind).collect();
    let [way] = &found[..] else { panic!("{found:?}") };
    let kinds = ["opened", "closed"].map(|end| way[end]["kind"].clone());
    assert_eq!(kinds, ["node.routes_approved", "node.routes_approved"]);
}

const DIFFERENCE: &str = "query($text: String!) {
    policyDifference(text: $text) { lostCount lost { destination { name } route ports } gainedByIdentity { services } }
}";

#[tokio::test]
async fn a_change_is_shown_for_what_lies_behind_nodes_too() {
    let stage = Stage::new().await;
    let (person, node) = (fixtures::user(1), Endpoint::new(DATABASE).id());
    let policy = |place: &str| {
        format!(
            r#"{{"tagOwners":{{"tag:db":[]}},"acls":[{{"action":"accept","proto":"tcp","src":["{person}"],"dst":["{place}:443"]}}],
                "autoApprovers":{{"routes":{{"10.20.0.0/16":["tag:db"]}}}}}}"#
        )
    };
    stage.ask(SET_POLICY, json!({ "text": policy("10.20.0.0/16") })).await;
    let routes = vec!["10.20.0.0/16".parse().unwrap()];
    stage.submit(200, Command::AdvertiseRoutes { node, routes }).await;
    let answer = stage.ask(DIFFERENCE, json!({ "text": policy("10.20.0.0/17") })).await;
    let lost = json!([{ "destination": { "name": "node-2" }, "route": "10.20.128.0/17", "ports": "443" }]);
    assert_eq!(answer["policyDifference"]["lost"], lost, "{answer}");
    assert_eq!(answer["policyDifference"]["gainedByIdentity"], json!([]));
}
