//! `schema/evidence.schema.json` is that of the code. `WRIT_UPDATE=1 cargo test -p writ-ledger` writes it anew.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};

use super::Bundle;
use crate::tree::Hash;

impl JsonSchema for Hash {
    fn schema_name() -> Cow<'static, str> {
        "Hash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "contentEncoding": "base64", "minLength": 44, "maxLength": 44,
            "description": "32 bytes in standard base64 with padding.",
        })
    }
}

#[test]
fn the_published_schema_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/evidence.schema.json");
    let mut text = serde_json::to_string_pretty(&schema_for!(Bundle)).unwrap();
    text.push('\n');
    if std::env::var_os("WRIT_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == text,
        "schema/evidence.schema.json is stale: run `WRIT_UPDATE=1 cargo test -p writ-ledger`"
    );
}
