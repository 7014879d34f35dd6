//! Turning drafts into records: numbered, timed, sealed, encoded.

use std::sync::Arc;

use writ_ledger::leaf_hash;
use writ_schema::record::{CommandRef, MAX_RECORD_BYTES};
use writ_schema::seal::SealError;
use writ_schema::{Record, Seq};

use super::OpenRecord;
use crate::core::{Context, Draft};
use crate::vault::{Vault, VaultError};

/// Why drafts did not become records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealFailure {
    #[error("the event does not fit into a record")]
    TooLong,
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the event cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Makes the records of one decision, the first of them with this number.
pub(crate) fn seal(
    vault: &Vault,
    context: &Context,
    command: &CommandRef,
    first: u64,
    drafts: Vec<Draft>,
) -> Result<Vec<Arc<OpenRecord>>, SealFailure> {
    let numbered = drafts.into_iter().enumerate();
    numbered
        .map(|(position, draft)| {
            let record = Record {
                seq: at(first, position),
                time: context.now,
                actor: draft.actor,
                command: command.clone(),
                cause: draft.cause.map(|cause| at(first, cause)),
                salt: Some(context.salt(position)),
                event: draft.event,
            };
            close(vault, record).map(Arc::new)
        })
        .collect()
}

fn at(first: u64, position: usize) -> Seq {
    Seq(first.saturating_add(position as u64))
}

fn close(vault: &Vault, mut record: Record) -> Result<OpenRecord, SealFailure> {
    let keys = record.event.sealed_for();
    if keys.is_empty() {
        record.salt = None;
    }
    let mut is_erased = false;
    for of in &keys {
        match vault.prepare(of) {
            Err(VaultError::Destroyed { .. }) => is_erased = true,
            prepared => prepared?,
        }
    }
    let mut closed = record.clone();
    closed.close(vault)?;
    let bytes: Arc<str> = closed.encode()?.into();
    if is_erased {
        // What nobody can read again is not to be read now either: every fold sees the same.
        record = closed;
        record.open(vault)?;
    }
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(SealFailure::TooLong);
    }
    let leaf = leaf_hash(bytes.as_bytes());
    Ok(OpenRecord { record, bytes, leaf })
}
