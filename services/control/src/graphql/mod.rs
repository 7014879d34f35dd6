//! The GraphQL API: the one API for people and their tools.
//!
//! Every query takes `asOf` and its answer says on which records and checkpoint it stands; every row names its
//! records. Every field has a role. Reading history is recorded before it is answered, and so is an act that is denied.
//! Each request is bounded in size, tokens, depth, complexity and page length before anything runs.
//!
//! The transport puts a [`Caller`] into the data of each request (or of a WebSocket's session); nothing runs without one.

mod audit;
mod caller;
mod commands;
mod enums;
mod error;
mod limits;
mod lookup;
mod mutation;
mod paths;
mod query;
mod reach;
mod rule_text;
mod scalars;
mod scope;
mod submission;
mod subscription;
mod types;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use writ_ledger::store::Reader;

use crate::cosigners::Cosigners;
use crate::log_key::LogKeyChanges;
use crate::sequencer::SequencerHandle;
use crate::views::Views;

pub use caller::Caller;
pub use limits::{MAX_COMPLEXITY, MAX_DEPTH, MAX_DOCUMENT_BYTES};
pub use mutation::Mutation;
pub use query::Query;
pub use subscription::Subscription;

/// The executable schema.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// What the API stands on.
pub struct Deps {
    /// Where commands go and the present state is.
    pub sequencer: SequencerHandle,
    /// The log, for record bytes and proofs.
    pub log: Reader,
    /// Who cosigns the log.
    pub cosigners: Cosigners,
    /// The history.
    pub views: Views,
    /// The log's key.
    pub log_key: LogKeyChanges,
    /// What enrolment tickets say about this control plane.
    pub door: Door,
}

/// How a node finds and recognises this control plane.
#[derive(Debug, Clone)]
pub struct Door {
    /// Base URL.
    pub url: String,
    /// SHA-256 of the certificate's DER, base64url, where no public authority vouches for it.
    pub certificate_sha256: Option<String>,
}

/// The schema, ready to answer.
pub fn schema(deps: Deps) -> Schema {
    builder()
        .data(Arc::new(reach::Policies::default()))
        .data(commands::Prepared::default())
        .data(deps.sequencer)
        .data(deps.log)
        .data(deps.cosigners)
        .data(deps.log_key)
        .data(deps.views)
        .data(deps.door)
        .finish()
}

/// The schema in the schema definition language: what is published as `schema/graphql.graphql`.
pub fn sdl() -> String {
    let options =
        async_graphql::SDLExportOptions::new().sorted_fields().sorted_enum_items().sorted_arguments();
    builder().finish().sdl_with_options(options)
}

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation::default(), Subscription)
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
        .limit_directives(limits::MAX_DIRECTIVES)
        .extension(limits::Limits)
        .extension(audit::Audit)
}
