//! The published JSON Schemas are those of the code. `WRIT_UPDATE=1 cargo test -p writ-schema` writes them anew.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::path::Path;

use schemars::{JsonSchema, schema_for};
use writ_schema::protocol::{AgentFrame, ErrorBody, JoinRequest, JoinResponse, ServerFrame, SessionClaims};
use writ_schema::{Event, Record};

/// Everything that travels between an agent and the control plane.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "named for its schema only")]
struct Agent {
    join_request: JoinRequest,
    join_response: JoinResponse,
    error: ErrorBody,
    session_token_claims: SessionClaims,
    agent_frame: AgentFrame,
    server_frame: ServerFrame,
}

#[test]
fn published_record_schema_is_that_of_the_code() {
    check("record.schema.json", &schema_for!(Record));
}

#[test]
fn published_agent_schema_is_that_of_the_code() {
    check("agent.schema.json", &schema_for!(Agent));
}

#[test]
fn every_event_kind_is_published() {
    let text = serde_json::to_string(&schema_for!(Record)).unwrap();
    for (kind, _) in Event::CATALOGUE {
        assert!(text.contains(kind), "{kind} is missing from the schema");
    }
}

fn check(name: &str, schema: &schemars::Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut text = serde_json::to_string_pretty(schema).unwrap();
    text.push('\n');
    if std::env::var_os("WRIT_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "schema/{name} is stale: run `WRIT_UPDATE=1 cargo test -p writ-schema`");
}
