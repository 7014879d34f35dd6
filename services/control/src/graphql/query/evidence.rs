//! Evidence bundles: any answer, with the records it stands on and their proofs, in one file.

use std::collections::BTreeSet;

use async_graphql::parser::types::OperationType;
use async_graphql::{Context, InputObject, Object, Request, Result, Variables};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use writ_ledger::bundle::{Bundle, Statement};
use writ_ledger::store::Reader;
use writ_schema::event::Role;
use writ_schema::seal::Retention;
use writ_schema::{Record, Seq};

use super::log::RecordFilterInput;
use crate::cosigners::Cosigners;
use crate::graphql::caller::{Needs, caller};
use crate::graphql::error::{Code, bad_input, fail};
use crate::graphql::scalars::UInt;
use crate::graphql::scope::{AsOfInput, moment, query};
use crate::graphql::types::{AsOf, EvidenceBundle, read_text};
use crate::graphql::{Deps, Door, schema};
use crate::log_key::LogKeyChanges;
use crate::sequencer::SequencerHandle;
use crate::views::{Moment, Views, records};

/// Most records of one bundle.
const MAX_RECORDS: usize = 20_000;

/// Most positions that can be named one by one.
const MAX_NAMED: usize = 10_000;

/// Most filters of one selection.
const MAX_FILTERS: usize = 8;

/// Longest statement of what a bundle is about.
const MAX_SUBJECT_CHARS: usize = 500;

/// A query whose answer is to be evidence.
#[derive(InputObject)]
pub struct EvidenceQueryInput {
    /// The document, as it would be sent by itself. Every `record { seq kind }` that it asks for goes into the bundle.
    document: String,
    /// Its variables, a JSON object.
    variables: Option<String>,
}

/// Records chosen by what they are. If there are more than fit into one bundle, `lastSeq` of the answer is the `after`
/// of the next.
#[derive(InputObject)]
pub struct SelectionInput {
    /// Which records: those that any of these wants. 8 at most.
    filters: Vec<RecordFilterInput>,
    /// Of which moment.
    as_of: Option<AsOfInput>,
    /// Only those after this position.
    after: Option<UInt>,
    /// At most so many: 20,000 at most, and if left out.
    limit: Option<u32>,
}

/// Marks the request that a bundle runs, so that it runs no other.
struct Inside;

/// Evidence.
#[derive(Default)]
pub struct EvidenceQuery;

#[Object]
impl EvidenceQuery {
    /// A bundle of records with their proofs, sealed by the log's key, which `writ verify` checks offline: records by their positions, records by
    /// what they are, those of a query's answer together with question and answer, or all of these.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "500 + child_complexity")]
    async fn evidence_bundle(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "What the bundle is evidence of, in words.")] subject: Option<String>,
        #[graphql(desc = "At most 10,000 positions.")] seqs: Option<Vec<UInt>>,
        query: Option<EvidenceQueryInput>,
        selection: Option<SelectionInput>,
        #[graphql(
            default,
            desc = "Whether the keys go with it that show which node and pseudonym a connection came from. Never names."
        )]
        with_keys: bool,
    ) -> Result<EvidenceBundle> {
        let subject = subject.unwrap_or_default();
        if subject.chars().count() > MAX_SUBJECT_CHARS {
            return Err(bad_input(format!("`subject` may have {MAX_SUBJECT_CHARS} characters")));
        }
        let seqs = seqs.unwrap_or_default();
        if seqs.len() > MAX_NAMED {
            let message = format!("`seqs` may name {MAX_NAMED} records, not {}: use `selection`", seqs.len());
            return Err(fail(Code::TooLarge, message));
        }
        let mut positions: BTreeSet<u64> = seqs.into_iter().map(|seq| seq.0).collect();
        let (question, answer) = match query {
            Some(query) => run(context, query).await?,
            None => (Value::Null, Value::Null),
        };
        collect(&answer, &mut positions);
        let moment = moment(context, selection.as_ref().and_then(|selection| selection.as_of)).await?;
        // Whoever trusts a key that the log had before needs the records that changed it.
        let key_changes = key_changes(context)?;
        let (mut has_more, mut last_selected) = (false, None);
        if let Some(selection) = selection {
            let room = MAX_RECORDS.saturating_sub(positions.len().saturating_add(key_changes.len()));
            let (selected, more) = select(context, moment, selection, room).await?;
            (has_more, last_selected) = (more, selected.last().copied());
            positions.extend(selected);
        }
        if positions.is_empty() || positions.len() > MAX_RECORDS {
            let message = format!(
                "a bundle holds 1 to {MAX_RECORDS} records, not {}: name `seqs`, select fewer, or ask for \
                 `record {{ seq kind }}` in the query",
                positions.len()
            );
            return Err(fail(Code::BadInput, message));
        }
        let reader = context.data::<Reader>()?;
        if let Some(missing) = positions.iter().find(|seq| **seq >= reader.size()) {
            return Err(fail(Code::NotFound, format!("there is no record {missing} yet")));
        }
        positions.extend(key_changes);
        let indexes: Vec<u64> = positions.into_iter().collect();
        let keys = if with_keys { keys(context, &indexes)? } else { Value::Null };
        let statement = Statement {
            subject: json!({ "text": subject, "asOf": moment.size, "admin": caller(context)?.admin.to_string() }),
            query: question,
            result: answer,
            time: Value::String(moment.time.to_string()),
            keys,
        };
        let unavailable = |error: &dyn std::fmt::Display| fail(Code::Unavailable, error.to_string());
        // With cosignatures, if witnesses have seen as much: they say when it was there.
        let needed = indexes.last().map_or(0, |last| last.saturating_add(1));
        let checkpoint = context.data::<Cosigners>()?.covering_soon(needed).await;
        let bundle = Bundle::build_under(reader, &checkpoint, &indexes, &statement);
        let mut bundle = bundle.map_err(|error| unavailable(&error))?;
        context.data::<SequencerHandle>()?.seal(&mut bundle).map_err(|error| unavailable(&error))?;
        let text = bundle.to_json().map_err(|error| unavailable(&error))?;
        Ok(EvidenceBundle {
            as_of: AsOf::new(context, &moment)?,
            records: indexes.len().into(),
            // Records that were named besides may lie beyond the selection, which has to go on where it stopped.
            last_seq: last_selected.or(indexes.last().copied()).unwrap_or_default().into(),
            has_more,
            digest: HEXLOWER.encode(&Sha256::digest(text.as_bytes())),
            text,
        })
    }
}

/// The positions of the records that changed the log's key.
fn key_changes(context: &Context<'_>) -> Result<Vec<u64>> {
    let state = context.data::<SequencerHandle>()?.state();
    let changes = state.network().map(|network| network.log_keys.as_slice()).unwrap_or_default();
    Ok(changes.iter().map(|change| change.seq.0).collect())
}

/// Runs the query as its caller would, with the same limits, guards and records.
async fn run(context: &Context<'_>, query: EvidenceQueryInput) -> Result<(Value, Value)> {
    if context.data_opt::<Inside>().is_some() {
        return Err(bad_input("a bundle cannot be evidence of making a bundle"));
    }
    let is_query = async_graphql::parser::parse_query(&query.document)
        .map_err(bad_input)?
        .operations
        .iter()
        .all(|(_, operation)| operation.node.ty == OperationType::Query);
    if !is_query {
        return Err(bad_input("a bundle is evidence of a query, not of a mutation or subscription"));
    }
    let variables: Value = match &query.variables {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| bad_input(format!("`variables` is not a JSON object: {error}")))?,
        None => Value::Object(Map::new()),
    };
    let inner = schema(Deps {
        sequencer: context.data::<SequencerHandle>()?.clone(),
        log: context.data::<Reader>()?.clone(),
        cosigners: context.data::<Cosigners>()?.clone(),
        views: context.data::<Views>()?.clone(),
        log_key: context.data::<LogKeyChanges>()?.clone(),
        door: context.data::<Door>()?.clone(),
    });
    let request = Request::new(query.document.clone())
        .variables(Variables::from_json(variables.clone()))
        .data(caller(context)?.clone())
        .data(Inside);
    let response = Box::pin(inner.execute(request)).await;
    if let Some(error) = response.errors.into_iter().next() {
        return Err(async_graphql::Error {
            message: format!("the query inside was refused: {}", error.message),
            source: None,
            extensions: error.extensions,
        });
    }
    let answer = response.data.into_json().map_err(|error| fail(Code::Unavailable, error.to_string()))?;
    Ok((json!({ "document": query.document, "variables": variables }), answer))
}

/// The positions of the selected records, and whether there are more.
async fn select(
    context: &Context<'_>,
    moment: Moment,
    selection: SelectionInput,
    room: usize,
) -> Result<(Vec<u64>, bool)> {
    let limit = selection.limit.map_or(MAX_RECORDS, |limit| usize::try_from(limit).unwrap_or(MAX_RECORDS));
    if limit > MAX_RECORDS {
        return Err(fail(Code::TooLarge, format!("`limit` may be {MAX_RECORDS}, not {limit}")));
    }
    if !(1..=MAX_FILTERS).contains(&selection.filters.len()) {
        return Err(bad_input(format!(
            "`filters` may be 1 to {MAX_FILTERS}, not {}",
            selection.filters.len()
        )));
    }
    if room == 0 {
        let message = format!("the records named and those of the query fill the bundle of {MAX_RECORDS}");
        return Err(fail(Code::TooLarge, message));
    }
    let limit = limit.clamp(1, room);
    let filters = selection.filters.into_iter().map(RecordFilterInput::read).collect::<Result<Vec<_>>>()?;
    let after = selection.after.map(Into::into);
    let found = query(context, moment, move |lookup| {
        Ok(records::positions(lookup.connection, &lookup.moment, &filters, after, limit)?)
    });
    let page = found.await?;
    Ok((page.rows.into_iter().map(|seq| seq.0).collect(), page.has_next))
}

/// Every record that an answer names.
fn collect(answer: &Value, positions: &mut BTreeSet<u64>) {
    match answer {
        Value::Object(members) => {
            if let (Some(seq), true) =
                (members.get("seq").and_then(Value::as_u64), members.contains_key("kind"))
            {
                positions.insert(seq);
            }
            members.values().for_each(|member| collect(member, positions));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, positions)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The keys to the sources of connection records, pseudonyms which the answer shows anyway, and to agents' signatures.
fn keys(context: &Context<'_>, indexes: &[u64]) -> Result<Value> {
    let reader = context.data::<Reader>()?;
    let sequencer = context.data::<SequencerHandle>()?;
    let mut keys = Map::new();
    for index in indexes {
        let text = read_text(reader, Seq(*index))?;
        let record =
            Record::decode(text.as_bytes()).map_err(|error| fail(Code::Unavailable, error.to_string()))?;
        let held =
            record.held_keys(sequencer.vault(), |retention| matches!(retention, Retention::Connections(_)));
        if !held.is_empty() {
            keys.insert(index.to_string(), json!(held));
        }
    }
    Ok(Value::Object(keys))
}
