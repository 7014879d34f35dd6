//! Reading history is history: such a query is recorded before it is answered.

use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextParseQuery};
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{PathSegment, Positioned, Response, ServerError, ServerResult, Variables, async_trait};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::caller::Caller;
use super::error::of_submit;
use super::submission::submission;
use crate::core::Command;
use crate::sequencer::SequencerHandle;

/// Fields of the root that show history: whoever asks for one of them is recorded, and so is `asOf` on any field.
const HISTORY: &[&str] = &[
    "blastRadius",
    "connections",
    "denials",
    "evidenceBundle",
    "history",
    "paths",
    "reach",
    "record",
    "records",
    "sessions",
    "whoCouldReach",
    "withdrawals",
];

/// Most field names that are recorded.
const MAX_NAMES: usize = 32;

/// Records queries of history.
pub(super) struct Audit;

impl ExtensionFactory for Audit {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Recorder::default())
    }
}

/// One request. What it reads is known after parsing and recorded once, before it runs.
#[derive(Default)]
struct Recorder(Mutex<Option<Seen>>);

struct Seen {
    document: ExecutableDocument,
    digest: String,
}

#[async_trait::async_trait]
impl Extension for Recorder {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(ctx, query, variables).await?;
        let seen = Seen { document: document.clone(), digest: digest(query, variables) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(document)
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(seen) = seen
            && let Some(fields) = history_fields(&seen.document, operation_name)
            && let Err(error) = record(ctx, fields, seen.digest).await
        {
            return Response::from_errors(vec![error]);
        }
        next.run(ctx, operation_name).await
    }
}

async fn record(ctx: &ExtensionContext<'_>, fields: Vec<String>, digest: String) -> Result<(), ServerError> {
    let unrecorded = |error: async_graphql::Error| {
        let mut error = error.into_server_error(async_graphql::Pos::default());
        error.message = format!("the query was not run, because it could not be recorded: {}", error.message);
        error.path = Vec::<PathSegment>::new();
        error
    };
    let caller = ctx.data::<Caller>().map_err(unrecorded)?;
    let sequencer = ctx.data::<SequencerHandle>().map_err(unrecorded)?;
    let command = Command::RecordQuery { fields, digest };
    let submission = submission(caller.actor(), command).map_err(unrecorded)?;
    sequencer.submit(submission).await.map(drop).map_err(|error| unrecorded(of_submit(error)))
}

/// SHA-256 of the query as it was sent with its variables, hex.
fn digest(query: &str, variables: &Variables) -> String {
    let variables = serde_json::to_string(variables).unwrap_or_default();
    let hash = Sha256::new_with_prefix(query).chain_update([0]).chain_update(variables);
    HEXLOWER.encode(&hash.finalize())
}

/// The root fields of a query if it reads history; `None` if it does not.
fn history_fields(document: &ExecutableDocument, operation_name: Option<&str>) -> Option<Vec<String>> {
    let operation = operation(document, operation_name)?;
    // A subscription records itself when it begins; mutations are records anyway.
    if operation.ty != OperationType::Query {
        return None;
    }
    let mut fields = Vec::new();
    let mut reads_history = false;
    collect(document, &operation.selection_set, &mut fields, &mut reads_history, 0);
    reads_history.then_some(fields)
}

fn operation<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Option<&'a OperationDefinition> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), _) => Some(&operation.node),
        (DocumentOperations::Multiple(operations), Some(name)) => {
            operations.get(name).map(|operation| &operation.node)
        }
        (DocumentOperations::Multiple(operations), None) => {
            operations.values().next().map(|operation| &operation.node)
        }
    }
}

fn collect(
    document: &ExecutableDocument,
    set: &Positioned<SelectionSet>,
    fields: &mut Vec<String>,
    reads_history: &mut bool,
    depth: usize,
) {
    if depth > super::MAX_DEPTH {
        return;
    }
    for item in &set.node.items {
        match &item.node {
            Selection::Field(field) => {
                let name = field.node.name.node.as_str();
                *reads_history |= HISTORY.contains(&name) || field.node.get_argument("asOf").is_some();
                if fields.len() < MAX_NAMES && !fields.iter().any(|known| known == name) {
                    fields.push(name.to_owned());
                }
            }
            Selection::InlineFragment(fragment) => {
                collect(document, &fragment.node.selection_set, fields, reads_history, depth + 1);
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                    collect(document, &fragment.node.selection_set, fields, reads_history, depth + 1);
                }
            }
        }
    }
}
