//! What somebody learns who reads the log without any keys: nothing by which records of one source hang together.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use serde_json::Value;
use writ_schema::AuthorizationId;
use writ_schema::event::{AcknowledgedAction, CloseReason};
use writ_schema::keys::Statement;

use super::*;

/// Connections of each source.
const CONNECTIONS: u8 = 8;

/// Users 1 and 2 with a node each, and node 3 which both may reach.
async fn people(handle: &SequencerHandle) {
    ok(handle, 1, fixtures::create_network()).await;
    for number in [1, 2] {
        ok(handle, 1 + number, fixtures::provision(number)).await;
    }
    let owners = [NodeOwner::User(user(1)), NodeOwner::User(user(2)), fixtures::tags(&["tag:web"])];
    for (node, owner) in (1..).zip(owners) {
        let key = fixtures::enrolment_key(node, owner, 1, fixtures::start());
        ok(handle, 10 + node, key).await;
        let node = u8::try_from(node).unwrap();
        handle.submit(join(node, 20 + u64::from(node), node.into())).await.unwrap();
        ok(handle, 30 + u64::from(node), Endpoint::new(node).start_session()).await;
    }
    let policy =
        r#"{"acls":[{"action":"accept","src":["*"],"dst":["tag:web:80"]}],"tagOwners":{"tag:web":[]}}"#;
    ok(handle, 40, fixtures::set_policy(40, policy, None)).await;
}

/// Submits what an agent wishes, as a session does.
async fn wish(
    handle: &SequencerHandle,
    node: u8,
    wish: &[&str],
    command: Command,
) -> Result<Outcome, SubmitError> {
    let id = handle.confidential_id(&Endpoint::new(node).id(), wish).unwrap();
    handle.submit(Submission { id, actor: writ_schema::Actor::Agent, command, trace: None }).await
}

/// A connection that is authorized, acknowledged by both ends, and closed. Gives its records.
async fn connect(handle: &SequencerHandle, source: u8, name: &str) -> BTreeSet<u64> {
    let node = Endpoint::new(source).id();
    let address = handle.state().node(&Endpoint::new(3).id()).unwrap().address_v4.into();
    let protocol = writ_schema::net::Protocol::Tcp;
    let request = Command::RequestConnection { node, address, exit: None, protocol, port: 80, renews: None };
    let made = wish(handle, source, &["connect", name], request).await.unwrap();
    let Event::ConnectionAuthorized(body) = &made.records[0].record.event else { panic!("{made:?}") };
    let (record, leaf) = (made.first, BASE64.encode(made.records[0].leaf.as_bytes()));
    let mut records = BTreeSet::from([record.0]);
    for end in [source, 3] {
        for command in
            [acknowledge(end, &body.authorization, record, &leaf), closed(end, &body.authorization)]
        {
            let word = [command.name(), body.authorization.as_str()];
            records.insert(wish(handle, end, &word, command).await.unwrap().first.0);
        }
    }
    records
}

fn acknowledge(end: u8, authorization: &AuthorizationId, record: Seq, leaf: &str) -> Command {
    let (endpoint, action) = (Endpoint::new(end), AcknowledgedAction::Established);
    let signature =
        endpoint.sign(&Statement::Acknowledgement { network: &fixtures::network(), leaf, action });
    let (node, authorization, leaf) = (endpoint.id(), authorization.clone(), leaf.to_owned());
    Command::Acknowledge { node, authorization, record, leaf, action, signature }
}

fn closed(end: u8, authorization: &AuthorizationId) -> Command {
    let (node, authorization) = (Endpoint::new(end).id(), authorization.clone());
    let (bytes_sent, bytes_received, path) = (1, 2, None);
    Command::ReportClosed { node, authorization, reason: CloseReason::Idle, bytes_sent, bytes_received, path }
}

fn values(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| values(item, found)),
        Value::Object(members) => members.values().for_each(|member| values(member, found)),
        scalar => {
            found.insert(scalar.to_string());
        }
    }
}

/// Every value of these records, with the names of the connections that have it.
fn by_value(handle: &SequencerHandle, connections: &[BTreeSet<u64>]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut found: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (connection, records) in connections.iter().enumerate() {
        for seq in records {
            let mut of_record = BTreeSet::new();
            values(&serde_json::from_slice(&handle.log().read(*seq).unwrap()).unwrap(), &mut of_record);
            of_record.into_iter().for_each(|value| {
                found.entry(value).or_default().insert(connection);
            });
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_hangs_the_connections_of_one_source_together() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    people(&handle).await;
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for number in 0..CONNECTIONS {
        deployment.pass(1);
        ones.push(connect(&handle, 1, &format!("one {number}")).await);
        others.push(connect(&handle, 2, &format!("other {number}")).await);
    }
    let (ones, others) = (by_value(&handle, &ones), by_value(&handle, &others));
    for (mine, theirs) in [(&ones, &others), (&others, &ones)] {
        assert!(mine.len() > 100);
        for (value, connections) in mine {
            let tells_apart = connections.len() > 1 && !theirs.contains_key(value);
            assert!(!tells_apart, "{value} stands in {} connections of one source only", connections.len());
        }
    }
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_does_not_show_its_source_to_somebody_who_tries_every_node() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    people(&handle).await;
    let records = connect(&handle, 1, "x").await;
    let authorized = *records.first().unwrap();
    let leaf = BASE64.encode(writ_ledger::leaf_hash(&handle.log().read(authorized).unwrap()).as_bytes());
    let signature = {
        let Command::Acknowledge { signature, .. } =
            acknowledge(1, &AuthorizationId::from_bytes([0; 16]), Seq(authorized), &leaf)
        else {
            panic!("not an acknowledgement")
        };
        signature.to_string()
    };
    let source = Endpoint::new(1).id();
    for seq in records {
        let text = String::from_utf8(handle.log().read(seq).unwrap()).unwrap();
        for shown in [source.as_str(), user(1).as_str(), &signature] {
            assert!(!text.contains(shown), "{shown} in {text}");
        }
    }
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_an_agents_wish_has_the_same_id_and_nobody_elses_has() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    people(&handle).await;
    let id = |node, wish: &[&str]| handle.confidential_id(&Endpoint::new(node).id(), wish).unwrap();
    assert_eq!(id(1, &["connect", "x"]), id(1, &["connect", "x"]));
    for other in [id(2, &["connect", "x"]), id(1, &["closed", "x"]), id(1, &["connect", "y"])] {
        assert_ne!(id(1, &["connect", "x"]), other);
    }
    guard.stop();
}
