//! Who is let in.

use jiff::SignedDuration;
use serde_json::Value;
use writ_schema::event::{Event, JoinRefusal, NodeOwner};

use crate::agent::Agent;
use crate::plane::Plane;

fn refusals(plane: &Plane, reason: JoinRefusal) -> usize {
    plane.count(|event| matches!(event, Event::NodeJoinRefused(body) if body.reason == reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_and_can_prove_it() {
    let plane = Plane::start().await;
    let secret = plane.tagged_key("tag:a", 1).await;
    let (_, response) = Agent::joined(&plane, &secret).await;
    assert_eq!(response.network_name, "corp");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_expired_or_unknown_key_is_a_recorded_refusal() {
    let plane = Plane::start().await;
    let used = plane.tagged_key("tag:a", 1).await;
    Agent::joined(&plane, &used).await;
    let owner = NodeOwner::Tags(vec!["tag:a".parse().unwrap()]);
    let expired = plane.enrolment_key(owner, 1, SignedDuration::from_millis(50)).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for (secret, word, reason) in [
        (used.as_str(), "used_key", JoinRefusal::UsedKey),
        (expired.as_str(), "expired_key", JoinRefusal::ExpiredKey),
        ("never-made", "unknown_key", JoinRefusal::UnknownKey),
    ] {
        let (status, body) = plane.post("/agent/v1/join", &Agent::new(&plane).join_request(secret)).await;
        assert_eq!((status.as_u16(), body["error"].as_str()), (403, Some(word)), "{body}");
        assert_eq!(refusals(&plane, reason), 1);
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_joins_for_a_single_use_key_one_wins() {
    let plane = Plane::start().await;
    let secret = plane.tagged_key("tag:a", 1).await;
    let bodies: Vec<Value> = (0..8).map(|_| Agent::new(&plane).join_request(&secret)).collect();
    let answers =
        futures_util::future::join_all(bodies.iter().map(|body| plane.post("/agent/v1/join", body))).await;
    let won = answers.iter().filter(|(status, _)| status.is_success()).count();
    assert_eq!(won, 1);
    assert!(answers.iter().all(|(status, body)| status.is_success() || body["error"] == "used_key"));
    assert_eq!(plane.count(|event| matches!(event, Event::NodeJoined(_))), 1);
    assert!(refusals(&plane, JoinRefusal::UsedKey) >= 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_public_key_is_of_no_use() {
    let plane = Plane::start().await;
    let secret = plane.tagged_key("tag:a", 5).await;
    let mut body = Agent::new(&plane).join_request(&secret);
    let other = Agent::new(&plane).join_request(&secret);
    body["identity_key"] = other["identity_key"].clone();
    let (status, answer) = plane.post("/agent/v1/join", &body).await;
    assert_eq!((status.as_u16(), answer["error"].as_str()), (403, Some("bad_proof")));
    assert_eq!(refusals(&plane, JoinRefusal::BadProof), 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_join_gets_the_first_answer() {
    let plane = Plane::start().await;
    let secret = plane.tagged_key("tag:a", 1).await;
    let body = Agent::new(&plane).join_request(&secret);
    let first = plane.post("/agent/v1/join", &body).await;
    let second = plane.post("/agent/v1/join", &body).await;
    assert_eq!((first.0.as_u16(), second.0.as_u16()), (200, 200));
    assert_eq!(first.1["join"]["seq"], second.1["join"]["seq"]);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_named_and_not_repeated() {
    let plane = Plane::start().await;
    let post = |body: String, kind: &'static str| {
        plane.http.post(plane.url("/agent/v1/join")).header("content-type", kind).body(body).send()
    };
    let too_long = format!("{{\"secret\":\"{}\"}}", "x".repeat(70_000));
    for (body, kind, status, word) in [
        (too_long, "application/json", 413, "too_large"),
        ("{\"secret\": hunter2}".to_owned(), "application/json", 400, "bad_json"),
        ("{\"command\": \"hunter2\"}".to_owned(), "application/json", 400, "bad_body"),
        ("x".to_owned(), "text/plain", 415, "unsupported_media_type"),
    ] {
        let answer = post(body, kind).await.unwrap();
        assert_eq!(answer.status(), status);
        let text = answer.text().await.unwrap();
        assert!(text.contains(word) && !text.contains("hunter2"), "{text}");
    }
    plane.stop().await;
}
