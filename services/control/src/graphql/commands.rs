//! From mutations to commands: identifiers, secrets that are shown once, and answers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_graphql::{Context, ID, Result, SimpleObject};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use writ_schema::{CommandId, Record as LogRecord};
use zeroize::Zeroizing;

use super::caller::caller;
use super::error::of_submit;
use super::scalars::{UInt, read};
use super::submission::{random, trace};
use super::types::Record;
use crate::core::{Command, Submission};
use crate::sequencer::{Outcome, SequencerHandle, SubmitError};
use crate::views::records::{RecordRow, actor_text};

/// Most records of an outcome that an answer lists; `recordCount` tells of all.
const MAX_LISTED: usize = 200;

/// Secrets that are remembered so that a repeated command gets its first answer.
const MAX_PREPARED: usize = 256;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 24;

/// What a command brought about.
#[derive(SimpleObject)]
pub struct Done {
    /// The command's id: repeat it to get the same answer without doing anything twice.
    pub command: ID,
    /// Whether this is the answer to an earlier submission of the same command.
    pub repeated: bool,
    /// How many records resulted.
    pub record_count: UInt,
    /// The first of them, in order.
    pub records: Vec<Record>,
}

/// Submits a command of the caller and waits until it is durable.
pub(super) async fn submit(context: &Context<'_>, id: &CommandId, command: Command) -> Result<Done> {
    outcome(context, id, command).await.map(|outcome| done(id, &outcome)).map_err(of_submit)
}

/// The same with the sequencer's own answer.
pub(super) async fn outcome(
    context: &Context<'_>,
    id: &CommandId,
    command: Command,
) -> Result<Outcome, SubmitError> {
    let unavailable = |error: async_graphql::Error| SubmitError::Unavailable { why: error.message };
    let actor = caller(context).map_err(unavailable)?.actor();
    let sequencer = context.data::<SequencerHandle>().map_err(unavailable)?;
    sequencer.submit(Submission { id: id.clone(), actor, command, trace: trace() }).await
}

pub(super) fn done(id: &CommandId, outcome: &Outcome) -> Done {
    Done {
        command: id.to_string().into(),
        repeated: outcome.repeated,
        record_count: outcome.records.len().into(),
        records: outcome.records.iter().take(MAX_LISTED).map(|open| record(&open.record)).collect(),
    }
}

/// A record that was just committed, as answers show it.
pub(super) fn record(record: &LogRecord) -> Record {
    Record::new(RecordRow {
        seq: record.seq,
        time: record.time,
        kind: record.event.kind().to_owned(),
        actor: actor_text(&record.actor),
        cause: record.cause,
        command: record.command.id.to_string(),
    })
}

/// The id that the client chose for its command, or a new one.
pub(super) fn command_id(chosen: Option<ID>) -> Result<CommandId> {
    match chosen {
        Some(text) => read(&text),
        None => Ok(CommandId::from_bytes(random()?)),
    }
}

/// The identifier of what a command makes. It follows from the command's id, so that a repeated command makes the same.
pub(super) fn derived(purpose: &str, id: &CommandId) -> [u8; 16] {
    let digest = Sha256::new_with_prefix("writ/made-by-command/v1\n")
        .chain_update(purpose)
        .chain_update("\n")
        .chain_update(id.as_str())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

/// A secret with the moment it was made, so that a repeated command is the same command.
#[derive(Clone)]
pub(super) struct Made {
    /// The secret.
    pub(super) secret: Zeroizing<String>,
    /// When.
    pub(super) at: Timestamp,
}

/// Secrets made lately, by command: never written anywhere, and gone when the program ends.
#[derive(Default)]
pub(super) struct Prepared(Mutex<VecDeque<(CommandId, Made)>>);

impl Prepared {
    /// The secret of this command, if it was made lately.
    pub(super) fn known(&self, id: &CommandId) -> Option<Made> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == id).map(|(_, made)| made.clone())
    }

    /// The secret of this command: the same for a repeat.
    pub(super) fn secret(&self, id: &CommandId) -> Result<Made> {
        if let Some(made) = self.known(id) {
            return Ok(made);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = Zeroizing::new(random::<SECRET_BYTES>()?);
        let made = Made { secret: Zeroizing::new(BASE64URL_NOPAD.encode(&*bytes)), at: Timestamp::now() };
        if kept.len() >= MAX_PREPARED {
            kept.pop_front();
        }
        kept.push_back((id.clone(), made.clone()));
        Ok(made)
    }
}
