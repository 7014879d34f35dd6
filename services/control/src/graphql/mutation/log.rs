//! The log's key.

use async_graphql::{Context, Error, ID, Object, Result, SimpleObject};
use writ_ledger::VerifierKey;
use writ_schema::event::{Event, Role as SchemaRole};

use crate::graphql::caller::{Needs, caller};
use crate::graphql::commands::{Done, command_id, done};
use crate::graphql::error::{Code, bad_input, fail, of_submit};
use crate::log_key::LogKeyChanges;
use crate::sequencer::KeyChangeError;

/// The log's key was changed.
#[derive(SimpleObject)]
pub struct LogKeyChanged {
    /// Verifier key that signed until this record.
    pub old_key: String,
    /// Verifier key that signs from then on.
    pub new_key: String,
    /// What was recorded.
    pub done: Done,
}

/// The log.
#[derive(Default)]
pub struct LogMutation;

#[Object]
impl LogMutation {
    /// Changes the log's signing key, to the one that `writd log next-key` has prepared on the server, or else to a new one. Whoever
    /// trusts the old key follows by the record; witnesses have to know the new one.
    #[graphql(guard = "Needs(SchemaRole::Owner)")]
    async fn rotate_log_key(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The verifier key of the prepared one: it is changed to this key or not at all.")]
        new_key: Option<String>,
        command_id: Option<ID>,
    ) -> Result<LogKeyChanged> {
        let named = new_key.map(|key| key.parse::<VerifierKey>()).transpose();
        let named = named.map_err(|error| bad_input(format!("`newKey`: {error}")))?;
        let (id, actor) = (self::command_id(command_id)?, caller(context)?.actor());
        let keys = context.data::<LogKeyChanges>()?;
        let outcome = keys.change(named.as_ref(), id.clone(), actor).await.map_err(refusal)?;
        match outcome.records.first().map(|open| &open.record.event) {
            Some(Event::LogKeyRotated(rotated)) => Ok(LogKeyChanged {
                old_key: rotated.old_key.clone(),
                new_key: rotated.new_key.clone(),
                done: done(&id, &outcome),
            }),
            _ => Err(fail(Code::Conflict, format!("another command had the id {id}; choose a new one"))),
        }
    }
}

fn refusal(error: anyhow::Error) -> Error {
    match error.downcast::<KeyChangeError>() {
        Ok(KeyChangeError::Submit(error)) => of_submit(error),
        Ok(error) => fail(Code::Unavailable, error.to_string()),
        Err(error) => fail(Code::Unavailable, format!("{error:#}")),
    }
}
