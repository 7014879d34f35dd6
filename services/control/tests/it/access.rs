//! Sign-in, and who may read what.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use writ_ledger::{Hash, SignedCheckpoint, leaf_hash};
use writ_schema::event::{Event, LoginFailure};

use crate::agent::Socket;
use crate::plane::Plane;

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_signs_in_and_asks() {
    let plane = Plane::start().await;
    let token = plane.login().await;
    let ask = |token: String| {
        let body = json!({ "query": "{ network { name } }" });
        plane.http.post(plane.url("/graphql")).bearer_auth(token).json(&body).send()
    };
    let answer = ask(token.clone()).await.unwrap().text().await.unwrap();
    assert!(answer.contains("corp"), "{answer}");
    assert_eq!(ask(format!("{token}x")).await.unwrap().status(), 401);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sign_ins_are_recorded_and_slowed_down() {
    let plane = Plane::start().await;
    let body = json!({ "admin": plane.made.admin, "secret": "guess" });
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(plane.post("/api/v1/login", &body).await.0.as_u16());
    }
    assert_eq!((statuses[0], statuses[11]), (401, 429));
    let failed = plane
        .count(|event| matches!(event, Event::LoginFailed(body) if body.reason == LoginFailure::WrongSecret));
    assert!(failed >= 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_administrators_token_ends_at_once() {
    let plane = Plane::start().await;
    let token = plane.login().await;
    let other = writ_schema::AdminId::from_bytes([9; 16]);
    let grant = writ_control::core::Command::GrantRole {
        admin: other,
        name: "second".to_owned(),
        role: writ_schema::event::Role::Owner,
        secret_hash: writ_schema::keys::SecretHash::of("another-secret"),
    };
    plane.submit(grant).await.unwrap();
    let admin = plane.made.admin.clone();
    plane.submit(writ_control::core::Command::RevokeRole { admin }).await.unwrap();
    let body = json!({ "query": "{ network { name } }" });
    let answer = plane.http.post(plane.url("/graphql")).bearer_auth(token).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_and_entries_give_the_signed_root() {
    let plane = Plane::start().await;
    let token = plane.login().await;
    let get = async |path: &str, token: &str| {
        plane.http.get(plane.url(path)).bearer_auth(token).send().await.unwrap()
    };
    let note = get("/log/checkpoint", "").await.text().await.unwrap();
    let key = plane.log_key();
    let checkpoint = SignedCheckpoint::verify(&note, &key, key.name()).unwrap();
    let entries = format!("/log/tile/entries/000.p/{}", checkpoint.size);
    assert_eq!(get(&entries, "nonsense").await.status(), 401);
    let bundle = get(&entries, &token).await.bytes().await.unwrap();
    let mut tree = writ_ledger::tree::MemoryTree::new();
    for record in writ_ledger::tile::decode_entries(&bundle).unwrap() {
        tree.push(leaf_hash(record));
    }
    assert_eq!((tree.size(), tree.root()), (checkpoint.size, checkpoint.root));
    let tile = get(&format!("/log/tile/0/000.p/{}", checkpoint.size), "").await.bytes().await.unwrap();
    let mut tree = writ_ledger::tree::MemoryTree::new();
    tile.chunks_exact(32).for_each(|hash| tree.push(Hash::from_slice(hash).unwrap()));
    assert_eq!(tree.root(), checkpoint.root);
    assert_eq!(get("/log/tile/0/001", "").await.status(), 404);
    assert_eq!(get("/log/tile/zero", "").await.status(), 404);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_served_as_tlog_tiles_says() {
    let plane = Plane::start().await;
    let token = plane.login().await;
    let get = async |path: String| plane.http.get(plane.url(&path)).bearer_auth(&token).send().await.unwrap();
    let header = |answer: &reqwest::Response, name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let mut published = Vec::new();
    for _ in 0..3 {
        let checkpoint = get("/log/checkpoint".to_owned()).await;
        assert_eq!(header(&checkpoint, "content-type"), "text/plain; charset=utf-8");
        assert_eq!(header(&checkpoint, "cache-control"), "no-store", "it is another one in a moment");
        let key = plane.log_key();
        let note = checkpoint.text().await.unwrap();
        published.push(SignedCheckpoint::verify(&note, &key, key.name()).unwrap().size);
        plane.user().await;
    }
    assert!(published.is_sorted_by(|a, b| a < b), "{published:?}");
    for size in &published {
        for (kind, caching) in
            [("0", "public, max-age=31536000, immutable"), ("entries", "private, no-store")]
        {
            let tile = get(format!("/log/tile/{kind}/000.p/{size}")).await;
            assert_eq!(tile.status(), 200, "every size that was published has its partial tile: {size}");
            assert_eq!(header(&tile, "content-type"), "application/octet-stream");
            assert_eq!(header(&tile, "cache-control"), caching);
        }
    }
    for nothing in [
        "0/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/001.p/1",
        "1/000.p/1",
        "entries/001.p/1",
        "64/000",
        "0/x000/000",
    ] {
        assert_eq!(get(format!("/log/tile/{nothing}")).await.status(), 404, "{nothing}");
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_body_and_safe_headers() {
    let plane = Plane::start().await;
    for (method, path, status) in [
        (reqwest::Method::GET, "/nowhere", 404),
        (reqwest::Method::DELETE, "/graphql", 405),
        (reqwest::Method::POST, "/graphql", 401),
        (reqwest::Method::GET, "/agent/v1/session", 401),
    ] {
        let answer = plane.http.request(method, plane.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert!(body["error"].is_string() && body["message"].is_string());
    }
    let page = plane.http.get(plane.url("/graphql")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(!page.contains("{{nonce}}") && !page.contains("https://") && page.contains("whoCouldReach"));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_served() {
    let plane = Plane::start().await;
    plane.login().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(plane.http.get(plane.url(path)).send().await.unwrap().status(), 200);
    }
    // Commits are counted by whoever follows them, a moment after they are answered.
    let mut text = String::new();
    for _ in 0..100 {
        text = plane.http.get(plane.url("/metrics")).send().await.unwrap().text().await.unwrap();
        if text.contains(r#"kind="login.succeeded""#) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for name in
        ["writ_append_seconds_bucket", "writ_log_records", "writ_relay_permits", "writ_http_requests_total"]
    {
        assert!(text.contains(name), "{name} is missing");
    }
    assert!(text.contains(r#"kind="login.succeeded""#));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_follows_the_log_and_must_sign_in() {
    let plane = Plane::start().await;
    let token = plane.login().await;
    let init = |authorization: String| json!({ "type": "connection_init", "payload": { "authorization": authorization } });
    let mut socket = subscriber(&plane).await;
    say(&mut socket, &init("Bearer nonsense".to_owned())).await;
    assert_eq!(hear(&mut socket).await, None);

    let mut socket = subscriber(&plane).await;
    say(&mut socket, &init(format!("Bearer {token}"))).await;
    assert_eq!(hear(&mut socket).await.unwrap()["type"], "connection_ack");
    let query = r#"subscription { records(kinds: ["user.provisioned"]) { kind seq } }"#;
    say(&mut socket, &json!({ "id": "1", "type": "subscribe", "payload": { "query": query } })).await;
    // The subscription is itself recorded before it begins.
    for _ in 0..100 {
        if plane.count(|event| matches!(event, Event::AuditQueryExecuted(_))) > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    plane.user().await;
    let next = hear(&mut socket).await.unwrap();
    assert_eq!(next["payload"]["data"]["records"]["kind"], "user.provisioned", "{next}");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorers_examples_and_its_introspection_are_allowed() {
    let plane = Plane::start().await;
    let token = plane.login().await;
    let examples: serde_json::Value =
        serde_json::from_str(include_str!("../../src/http/examples.json")).unwrap();
    let of_type = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
    let introspection = format!(
        "{{ __schema {{ types {{ name fields {{ name args {{ name type {{ {of_type} }} }} type {{ {of_type} }} }} \
         inputFields {{ name type {{ {of_type} }} }} enumValues {{ name }} }} }} }}"
    );
    let examples = examples.as_object().unwrap();
    let queries = examples.values().map(|example| example["query"].as_str().unwrap().to_owned());
    for query in queries.chain([introspection]).filter(|query| !query.starts_with("subscription")) {
        let body = json!({ "query": query, "variables": { "node": { "name": "nobody" } } });
        let answer =
            plane.http.post(plane.url("/graphql")).bearer_auth(&token).json(&body).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        let is_allowed =
            answer["errors"].is_null() || answer["errors"][0]["extensions"]["code"] == "NOT_FOUND";
        assert!(is_allowed, "{query}: {answer}");
    }
    plane.stop().await;
}

async fn subscriber(plane: &Plane) -> Socket {
    let mut request = plane.url("/graphql").replacen("http", "ws", 1).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

async fn say(socket: &mut Socket, message: &serde_json::Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// The next message, or nothing once the server has closed.
async fn hear(socket: &mut Socket) -> Option<serde_json::Value> {
    loop {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), socket.next()).await.unwrap()?;
        match next {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_restart_says_which_key_was_made_and_shows_its_secret_to_nobody() {
    let plane = Plane::start().await;
    let id = writ_schema::CommandId::from_bytes([5; 16]);
    let first = create_key(&plane, &id, 2).await;
    assert!(first["data"]["made"]["ticket"].is_string(), "{first}");
    let plane = plane.again().await;
    let again = create_key(&plane, &id, 2).await["data"]["made"].clone();
    let first = &first["data"]["made"];
    for part in ["enrolmentKey", "expiresAt"] {
        assert_eq!(again[part], first[part], "{part}");
    }
    assert_eq!((&again["ticket"], &again["done"]["repeated"]), (&serde_json::Value::Null, &json!(true)));
    assert_eq!(plane.count(|event| matches!(event, Event::EnrolKeyCreated(_))), 1);
    let other = create_key(&plane, &id, 3).await;
    assert_eq!(other["errors"][0]["extensions"]["code"], "CONFLICT", "{other}");
    plane.stop().await;
}

async fn create_key(plane: &Plane, id: &writ_schema::CommandId, uses: u32) -> serde_json::Value {
    let query = "mutation($id: ID, $uses: Int!) { made: createEnrolmentKey(owner: {tags: [\"tag:a\"]}, maxUses: $uses,
        commandId: $id) { enrolmentKey ticket expiresAt done { repeated } } }";
    let body = json!({ "query": query, "variables": { "id": id.to_string(), "uses": uses } });
    let token = plane.login().await;
    let asked = plane.http.post(plane.url("/graphql")).bearer_auth(token).json(&body).send();
    serde_json::from_str(&asked.await.unwrap().text().await.unwrap()).unwrap()
}
