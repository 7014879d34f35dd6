//! A command that is ready to be submitted.

use async_graphql::Result;
use writ_schema::{Actor, CommandId};

use super::error::{Code, fail};
use crate::core::{Command, Submission};

/// A command of this actor under a new id.
pub(super) fn submission(actor: Actor, command: Command) -> Result<Submission> {
    Ok(Submission { id: CommandId::from_bytes(random()?), actor, command, trace: trace() })
}

/// The trace that the request belongs to.
pub(super) fn trace() -> Option<String> {
    writ_telemetry::current_traceparent()
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| fail(Code::Unavailable, format!("the system gave no random bytes: {error}")))?;
    Ok(bytes)
}
