//! The published schema is that of the code, and every root field has a role.

use std::path::Path;

use crate::graphql::sdl;

#[test]
fn the_published_schema_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/graphql.graphql");
    if std::env::var_os("WRIT_UPDATE").is_some() {
        std::fs::write(&path, sdl()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == sdl(),
        "schema/graphql.graphql is stale: run `WRIT_UPDATE=1 cargo test -p writ-control`"
    );
}
