//! A witness of logs (C2SP tlog-witness): it cosigns a checkpoint only if it continues the newest one that it has cosigned,
//! and keeps it durably before anybody gets the cosignature. So it never vouches for two histories of one log.
//!
//! This is the protocol without its transport: bytes and time come in, an [`Answer`] goes out.

mod request;
mod state;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::key::{CosignerKey, CosigningKey, VerifierKey};
use crate::note::{Note, NoteSignature};
use crate::proof::ConsistencyProof;
use crate::tree::{Hash, empty_root};

pub use request::{AddCheckpoint, MAX_PROOF_HASHES, MAX_REQUEST_BYTES, RequestError};
pub use state::{FolderState, StateError, WitnessState};

/// The name under which a log is asked for: the SHA-256 of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId([u8; 32]);

impl LogId {
    /// The name of the log with this origin.
    #[must_use]
    pub fn of(origin: &str) -> Self {
        Self(Sha256::digest(origin).into())
    }

    /// Reads it as it stands in a path: 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Here is the cosignature: lines for the checkpoint's note.
    Cosigned(String),
    /// The request is malformed.
    BadRequest(String),
    /// The log's signature is missing or wrong.
    NotSigned(String),
    /// The log is not known here.
    UnknownLog(String),
    /// The proof does not begin where the witness stands, which is at this size.
    Conflict {
        /// Size of the newest checkpoint that was cosigned; 0 if none was.
        size: u64,
        /// Whether the request proves that the log has signed two histories.
        is_fork: bool,
    },
    /// The checkpoint is not proven to continue the newest one, although the log has signed both.
    Inconsistent {
        /// What is wrong.
        why: String,
        /// Whether the request proves that the log has signed two histories.
        is_fork: bool,
    },
    /// The witness cannot answer now.
    Unavailable(String),
}

impl Answer {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Cosigned(_) => 200,
            Self::BadRequest(_) => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent { .. } => 422,
            Self::Unavailable(_) => 503,
        }
    }

    /// The HTTP content type.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// The HTTP body.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(lines) => lines.clone(),
            Self::Conflict { size, .. } => format!("{size}\n"),
            Self::BadRequest(why)
            | Self::NotSigned(why)
            | Self::UnknownLog(why)
            | Self::Inconsistent { why, .. }
            | Self::Unavailable(why) => format!("{why}\n"),
        }
    }

    /// What the request is evidence of, if it is to be kept.
    #[must_use]
    pub fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Conflict { is_fork: true, .. } | Self::Inconsistent { is_fork: true, .. } => {
                Some(Evidence::Fork)
            }
            Self::Inconsistent { is_fork: false, .. } => Some(Evidence::Unproven),
            _ => None,
        }
    }
}

/// What a refused request is evidence of. The log has signed its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Of two histories: a checkpoint of the same size as the cosigned one, with another root.
    Fork,
    /// Perhaps of two histories: a checkpoint that was not proven to continue the cosigned one.
    Unproven,
}

/// The newest checkpoint of a log that was cosigned.
#[derive(Debug, Clone)]
struct Held {
    size: u64,
    root: Hash,
    unix_seconds: u64,
    /// The checkpoint with the signatures of log and witness.
    note: Note,
}

impl Held {
    /// The lines of this witness's cosignature.
    fn lines(&self, key: &CosignerKey) -> String {
        let ours = |by: &&NoteSignature| by.name == key.name() && by.key_id == key.id();
        self.note.signatures().iter().filter(ours).map(|line| format!("{line}\n")).collect()
    }
}

/// A log that is witnessed.
#[derive(Debug)]
struct Witnessed {
    origin: String,
    keys: Vec<VerifierKey>,
    /// Held while a request is checked and its checkpoint stored, so that no other comes between.
    newest: Mutex<Option<Held>>,
}

/// Why a witness cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// What was stored cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is stored is not what this witness has cosigned.
    #[error(
        "the stored checkpoint of {origin} is not one that {key} has cosigned ({problem}): restore the newest state; if it is \
         lost, make a new witness with a new key, for this one might cosign a second history"
    )]
    NotOurs {
        /// The log.
        origin: String,
        /// This witness's key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// A witness.
#[derive(Debug)]
pub struct Witness<S> {
    key: CosigningKey,
    logs: BTreeMap<LogId, Witnessed>,
    state: S,
}

impl<S: WitnessState> Witness<S> {
    /// A witness of the logs that these keys sign for. Keys of the same name are of the same log: during a change of its key
    /// both are given. It begins where the stored state ends.
    ///
    /// # Errors
    /// When the state cannot be read, or is not this witness's.
    pub fn open(
        key: CosigningKey,
        keys: impl IntoIterator<Item = VerifierKey>,
        state: S,
    ) -> Result<Self, WitnessError> {
        let mut logs = BTreeMap::<LogId, Witnessed>::new();
        for log_key in keys {
            let (id, origin) = (LogId::of(log_key.name()), log_key.name().to_owned());
            if let Some(known) = logs.get_mut(&id) {
                known.keys.push(log_key);
                continue;
            }
            let newest = match state.newest(&id)? {
                Some(note) => Some(read_held(&key.cosigner_key(), &origin, &note)?),
                None => None,
            };
            logs.insert(id, Witnessed { origin, keys: vec![log_key], newest: Mutex::new(newest) });
        }
        Ok(Self { key, logs, state })
    }

    /// The witness's public key.
    #[must_use]
    pub fn key(&self) -> CosignerKey {
        self.key.cosigner_key()
    }

    /// The size of the newest cosigned checkpoint of each log, by origin; `None` if none was.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.logs.values().map(|log| {
            let newest = log.newest.lock().unwrap_or_else(PoisonError::into_inner);
            (log.origin.as_str(), newest.as_ref().map(|held| held.size))
        })
    }

    /// The newest checkpoint of a log that was cosigned, with the signatures of log and witness.
    #[must_use]
    pub fn newest(&self, log: &LogId) -> Option<String> {
        let newest = self.logs.get(log)?.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().map(|held| held.note.to_string())
    }

    /// Answers a request to cosign, at this time by the witness's clock.
    pub fn add_checkpoint(&self, body: &[u8], unix_seconds: u64) -> Answer {
        match AddCheckpoint::parse(body) {
            Ok(request) => self.decide(&request, unix_seconds).unwrap_or_else(|refusal| refusal),
            Err(error) => Answer::BadRequest(error.to_string()),
        }
    }

    /// The checks stand in the order of the specification.
    fn decide(&self, request: &AddCheckpoint, unix_seconds: u64) -> Result<Answer, Answer> {
        let AddCheckpoint { old_size, proof, note, checkpoint } = request;
        let id = LogId::of(&checkpoint.origin);
        let log = self.logs.get(&id).ok_or_else(|| {
            Answer::UnknownLog(format!("the log {:?} is not witnessed here", checkpoint.origin))
        })?;
        let keys: Vec<&VerifierKey> = log.keys.iter().collect();
        note.verify(&keys).map_err(|error| Answer::NotSigned(error.to_string()))?;
        if *old_size > checkpoint.size {
            let why = format!("the old size {old_size} is larger than the checkpoint's {}", checkpoint.size);
            return Err(Answer::BadRequest(why));
        }
        let mut newest = log.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let (size, root) = newest.as_ref().map_or((0, empty_root()), |held| (held.size, held.root));
        if *old_size != size {
            let is_fork = newest.is_some() && checkpoint.size == size && checkpoint.root != root;
            return Err(Answer::Conflict { size, is_fork });
        }
        check_continues(checkpoint, proof, size, &root)?;
        let last_time = newest.as_ref().map_or(1, |held| held.unix_seconds);
        if unix_seconds < last_time {
            let why = format!(
                "this witness's clock is {} s behind its last cosignature of this log",
                last_time - unix_seconds
            );
            return Err(Answer::Unavailable(why));
        }
        // Asked for the same again in the same second, there is nothing new to keep: a replay costs no write.
        let is_same = |held: &&Held| held.unix_seconds == unix_seconds && held.note.text() == note.text();
        if let Some(held) = newest.as_ref().filter(is_same) {
            return Ok(Answer::Cosigned(held.lines(&self.key())));
        }
        let held = self.cosign(log, note, checkpoint, unix_seconds);
        let stored = self.state.store(&id, &held.note.to_string());
        stored.map_err(|error| Answer::Unavailable(error.to_string()))?;
        let lines = held.lines(&self.key());
        *newest = Some(held);
        Ok(Answer::Cosigned(lines))
    }

    /// The checkpoint with the log's signatures and this witness's.
    fn cosign(&self, log: &Witnessed, note: &Note, checkpoint: &Checkpoint, unix_seconds: u64) -> Held {
        let mut cosigned = note.clone();
        cosigned.retain(|by| log.keys.iter().any(|key| key.name() == by.name && key.id() == by.key_id));
        cosigned.add(self.key.cosign(note, unix_seconds));
        Held { size: checkpoint.size, root: checkpoint.root, unix_seconds, note: cosigned }
    }
}

fn check_continues(checkpoint: &Checkpoint, proof: &[Hash], size: u64, root: &Hash) -> Result<(), Answer> {
    if checkpoint.size == 0 && checkpoint.root != empty_root() {
        let why = "a log without records has the root of the empty tree".to_owned();
        return Err(Answer::Inconsistent { why, is_fork: true });
    }
    let proof = ConsistencyProof { old_size: size, new_size: checkpoint.size, hashes: proof.to_vec() };
    proof.verify(root, &checkpoint.root).map_err(|error| Answer::Inconsistent {
        why: format!(
            "the checkpoint of size {} does not continue the one of size {size} that was cosigned: {error}",
            checkpoint.size
        ),
        is_fork: checkpoint.size == size && checkpoint.root != *root,
    })
}

/// Reads a stored checkpoint back, and makes sure that it is one that this witness has cosigned.
fn read_held(key: &CosignerKey, origin: &str, text: &str) -> Result<Held, WitnessError> {
    let not_ours =
        |problem: String| WitnessError::NotOurs { origin: origin.to_owned(), key: key.to_string(), problem };
    let note: Note = text.parse().map_err(|error: crate::NoteError| not_ours(error.to_string()))?;
    let time = key.cosigned(&note).map_err(|error| not_ours(error.to_string()))?;
    let unix_seconds = time.ok_or_else(|| not_ours("its cosignature is missing".to_owned()))?;
    let read = |error: CheckpointError| not_ours(error.to_string());
    let checkpoint = Checkpoint::parse(note.text()).map_err(read)?;
    if checkpoint.origin != origin {
        return Err(not_ours(format!("it is of {:?}", checkpoint.origin)));
    }
    Ok(Held { size: checkpoint.size, root: checkpoint.root, unix_seconds, note })
}

#[cfg(test)]
mod tests;
