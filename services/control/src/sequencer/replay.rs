//! Folding the log into a state.

use writ_ledger::{ReadError, Reader, leaf_hash};
use writ_schema::record::DecodeError;
use writ_schema::seal::{OpeningKeys, SealError};
use writ_schema::{Event, Record, Seq};

use super::OpenRecord;
use crate::core::{State, evolve};
use crate::vault::{Vault, VaultError, first_record};

/// Why a log cannot be folded into a state. Nothing is decided then.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A record is not one that this version can act on.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A record is of a later Writ than this one.
    #[error("{source}; it was written by Writ {program}, and this is Writ {}", env!("CARGO_PKG_VERSION"))]
    Later {
        /// Which record, and of what kind.
        source: DecodeError,
        /// The version that had opened the log last when the record was written.
        program: String,
    },
    /// A record stands in a place that is not its own.
    #[error("record {found} stands in the place of record {expected}: the log was put together wrongly")]
    OutOfPlace {
        /// The number that the place has.
        expected: u64,
        /// The number that the record has.
        found: Seq,
    },
    /// A sealed field does not open under the vault's key.
    #[error("record {seq}: {source}; the vault is not the one that belongs to this log")]
    Seal {
        /// Which record.
        seq: u64,
        /// What is wrong.
        source: SealError,
    },
    /// The vault is not the one of this log.
    #[error(transparent)]
    Vault(VaultError),
    /// An erasure cannot be carried out.
    #[error("an erasure that is in the log cannot be carried out: {0}")]
    Erase(#[from] VaultError),
}

/// Reads a record as it stands in the log, and opens it as far as keys exist.
pub fn open_record<K: OpeningKeys + ?Sized>(
    seq: u64,
    bytes: &[u8],
    keys: &K,
) -> Result<OpenRecord, ReplayError> {
    let record = read_record(seq, bytes, keys)?;
    let text = std::str::from_utf8(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok(OpenRecord { record, bytes: text.into(), leaf: leaf_hash(bytes) })
}

fn read_record<K: OpeningKeys + ?Sized>(seq: u64, bytes: &[u8], keys: &K) -> Result<Record, ReplayError> {
    let mut record = Record::decode(bytes)?;
    if record.seq != Seq(seq) {
        return Err(ReplayError::OutOfPlace { expected: seq, found: record.seq });
    }
    record.open(keys).map_err(|source| ReplayError::Seal { seq, source })?;
    Ok(record)
}

/// Holds a vault to a log: with another's, or with an empty one, everything would read as erased.
///
/// # Errors
/// When it is not the log's.
pub fn bind_vault(log: &Reader, vault: &Vault) -> Result<(), ReplayError> {
    let Some(first) = first_record(log) else { return Ok(()) };
    // A record has a salt if it has sealed fields. The first administrator's name is one, so the search is short.
    let is_sealed = |seq| {
        let record = log.read(seq).ok().and_then(|bytes| Record::decode(&bytes).ok());
        record.is_some_and(|record| record.salt.is_some())
    };
    vault.bind(&first, || (0..log.size()).any(is_sealed)).map_err(ReplayError::Vault)
}

/// Folds the whole log, which all processors read, hold to the signed root and open; then carries out the erasures in it that were
/// not finished before a stop.
pub(super) fn replay(log: &Reader, vault: &Vault) -> Result<State, ReplayError> {
    bind_vault(log, vault)?;
    let (mut state, mut shredded, mut program) = (State::default(), Vec::new(), None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |seq, bytes: &[u8]| read_record(seq, bytes, vault);
    log.replay(0..u64::MAX, threads, read, |record| {
        let record = record.map_err(|error| name_writer(error, program.as_ref()))?;
        if let Event::LogOpened(opened) = &record.event {
            program = Some(opened.program.clone());
        }
        evolve(&mut state, &record);
        shredded.extend(record.event.destroyed_keys());
        Ok::<(), ReplayError>(())
    })?;
    for keys in shredded {
        vault.destroy(&keys)?;
    }
    Ok(state)
}

/// Says which Writ is needed for a record that this one does not know, if the log says so.
fn name_writer(error: ReplayError, program: Option<&String>) -> ReplayError {
    match (error, program) {
        (ReplayError::Decode(source @ DecodeError::UnknownKind { .. }), Some(program)) => {
            ReplayError::Later { source, program: program.clone() }
        }
        (error, _) => error,
    }
}
