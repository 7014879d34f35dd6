//! Asking one witness (C2SP tlog-witness, the client's side).

use std::time::Duration;

use reqwest::StatusCode;
use writ_ledger::store::{ReadError, Reader};
use writ_ledger::witness::{AddCheckpoint, RequestError};
use writ_ledger::{Note, NoteError, NoteSignature, SignedCheckpoint};

use crate::config::Witness;

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Requests for one checkpoint: the witness may have to say where it stands first.
const MAX_REQUESTS: u32 = 3;

/// The longest sentence of a witness that is repeated.
const MAX_SAID_CHARS: usize = 200;

/// A witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it answered {status}: {said}")]
    Refused { status: StatusCode, said: String },
    #[error(
        "it has cosigned this log up to size {theirs}, but the log has {ours}: the log was rolled back, or its key signs \
         elsewhere"
    )]
    Ahead { theirs: u64, ours: u64 },
    #[error(
        "it says that this log does not continue what it has cosigned: the log was forked, or its key signs elsewhere ({0})"
    )]
    Fork(String),
    #[error("it answered what is no cosignature of its own: {0}")]
    BadCosignature(String),
    #[error("it answered what the protocol does not have: {0}")]
    Protocol(&'static str),
    #[error("the proof for it cannot be read: {0}")]
    Log(#[from] ReadError),
    #[error("the checkpoint cannot be sent: {0}")]
    Request(#[from] RequestError),
}

impl Failure {
    /// Whether it says that this log is not what it was.
    pub(super) fn is_alarm(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::Fork(_))
    }
}

/// One witness, and how far it is taken to have followed the log.
#[derive(Debug)]
pub(super) struct Client {
    witness: Witness,
    http: reqwest::Client,
    size: u64,
}

impl Client {
    pub(super) fn new(witness: Witness, http: reqwest::Client) -> Self {
        Self { witness, http, size: 0 }
    }

    /// Asks for a cosignature, and checks it. The time that it states comes with it.
    pub(super) async fn cosign(
        &mut self,
        log: &Reader,
        signed: &SignedCheckpoint,
    ) -> Result<(NoteSignature, u64), Failure> {
        let ours = signed.checkpoint().size;
        for _ in 0..MAX_REQUESTS {
            if self.size > ours {
                return Err(Failure::Ahead { theirs: std::mem::take(&mut self.size), ours });
            }
            let proof = log.consistency(self.size, ours)?.hashes;
            let request = AddCheckpoint::new(self.size, proof, signed.text())?;
            let (status, text) = self.post(request.to_string()).await?;
            match status {
                StatusCode::OK => {
                    let cosignature = self.check(&text, signed)?;
                    self.size = ours;
                    return Ok(cosignature);
                }
                StatusCode::CONFLICT => {
                    let theirs = text.strip_suffix('\n').and_then(|size| size.parse().ok());
                    let theirs = theirs.ok_or(Failure::Protocol("a conflict without a size"))?;
                    if theirs == self.size {
                        return Err(Failure::Fork("a conflict at the size that was sent".to_owned()));
                    }
                    self.size = theirs;
                }
                StatusCode::UNPROCESSABLE_ENTITY => return Err(Failure::Fork(said(&text))),
                status => return Err(Failure::Refused { status, said: said(&text) }),
            }
        }
        Err(Failure::Protocol("another size each time"))
    }

    async fn post(&self, body: String) -> Result<(StatusCode, String), Failure> {
        let unreachable = |error: reqwest::Error| Failure::Unreachable(root_cause(&error));
        let request = self.http.post(format!("{}/add-checkpoint", self.witness.url)).timeout(REQUEST_LIMIT);
        let mut answer = request.body(body).send().await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(Failure::Protocol("an answer without end"));
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| Failure::Protocol("an answer that is not UTF-8"))?;
        Ok((answer.status(), text))
    }

    /// The witness's own line of the answer, which has to be right; others are not asked for.
    fn check(&self, lines: &str, signed: &SignedCheckpoint) -> Result<(NoteSignature, u64), Failure> {
        let bad = |error: NoteError| Failure::BadCosignature(error.to_string());
        let text = signed.checkpoint_text();
        let note: Note = format!("{text}\n{lines}").parse().map_err(bad)?;
        let key = &self.witness.key;
        let time = key.cosigned(&note).map_err(bad)?;
        let ours = |line: &&NoteSignature| line.name == key.name() && line.key_id == key.id();
        match (note.signatures().iter().rfind(ours), time) {
            (Some(line), Some(time)) => Ok((line.clone(), time)),
            _ => Err(Failure::BadCosignature(format!("there is none by {key}"))),
        }
    }
}

/// What a witness said, fit to be shown.
fn said(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID_CHARS).collect()
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
