//! Trust policies (C2SP tlog-policy): which logs and witnesses somebody trusts, and which of the witnesses must have
//! cosigned a checkpoint before it counts.

mod parse;

use std::fmt;
use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::key::{CosignerKey, VerifierKey};
use crate::note::{Note, NoteError};

pub use parse::{PolicyError, PolicyFileError};

/// The largest policy that is read, in bytes.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// A log that a policy trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedLog {
    /// Its key.
    pub key: VerifierKey,
    /// Where it is, if the policy says.
    pub url: Option<String>,
}

/// A witness that a policy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedWitness {
    /// What the policy calls it.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
    /// Where it takes checkpoints, if the policy says.
    pub url: Option<String>,
}

/// Who must have witnessed a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// This witness, by its position.
    Witness(usize),
    /// At least so many of these.
    AtLeast(usize, Vec<Rule>),
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    logs: Vec<TrustedLog>,
    witnesses: Vec<TrustedWitness>,
    /// `None` if no cosignature is needed.
    quorum: Option<Rule>,
}

/// One witness's cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// What the policy calls the witness.
    pub witness: String,
    /// When it cosigned, by its clock, in Unix seconds.
    pub unix_seconds: u64,
}

/// Who stands behind a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The witnesses of the policy that have cosigned it, in the policy's order.
    pub cosigned: Vec<Cosigned>,
    /// Those that have not, by name.
    pub absent: Vec<String>,
    /// The moment by which a quorum had cosigned, in Unix seconds; `None` where the policy needs no cosignature. All that the
    /// checkpoint covers was logged before it.
    pub witnessed_by: Option<u64>,
}

/// Why a checkpoint does not count under a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StandingError {
    /// It does not hold by itself.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// None of the policy's logs has its name.
    #[error("the policy does not trust a log {0:?}: give it a line `log <vkey>`")]
    UnknownLog(String),
    /// Too few witnesses have cosigned.
    #[error(
        "the checkpoint of size {size} lacks the quorum of witnesses that the policy demands: {} cosigned, {} did not",
        names(.cosigned), names(.absent)
    )]
    NoQuorum {
        /// The checkpoint's size.
        size: u64,
        /// Who cosigned.
        cosigned: Vec<String>,
        /// Who did not.
        absent: Vec<String>,
    },
}

impl TrustPolicy {
    /// Reads a policy's text.
    ///
    /// # Errors
    /// When it is not in the format; the error names the line.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        parse::parse(text)
    }

    /// Reads a policy's file.
    ///
    /// # Errors
    /// When it cannot be read, or is no policy.
    pub fn load(path: &Path) -> Result<Self, PolicyFileError> {
        parse::load(path)
    }

    /// The logs that it trusts; none if they are known from elsewhere.
    #[must_use]
    pub fn logs(&self) -> &[TrustedLog] {
        &self.logs
    }

    /// The witnesses that it knows.
    #[must_use]
    pub fn witnesses(&self) -> &[TrustedWitness] {
        &self.witnesses
    }

    /// Whether any cosignature is needed.
    #[must_use]
    pub fn demands_cosignatures(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether a checkpoint counts: signed by a log that the policy trusts, and cosigned by a quorum of its witnesses.
    ///
    /// # Errors
    /// When it does not, or a signature in the name of a known key is wrong.
    pub fn check(&self, note: &str) -> Result<Standing, StandingError> {
        let note: Note = note.parse().map_err(CheckpointError::Note)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let keys: Vec<_> =
            self.logs.iter().map(|log| &log.key).filter(|key| key.name() == checkpoint.origin).collect();
        if keys.is_empty() {
            return Err(StandingError::UnknownLog(checkpoint.origin));
        }
        note.verify(&keys).map_err(CheckpointError::Note)?;
        self.judge(&note, checkpoint)
    }

    /// Whether a quorum has cosigned a checkpoint whose log signature was checked elsewhere.
    ///
    /// # Errors
    /// When it has not, or a cosignature in the name of a known witness is wrong.
    pub fn check_cosignatures(&self, signed: &SignedCheckpoint) -> Result<Standing, StandingError> {
        let note: Note = signed.text().parse().map_err(CheckpointError::Note)?;
        self.judge(&note, signed.checkpoint().clone())
    }

    fn judge(&self, note: &Note, checkpoint: Checkpoint) -> Result<Standing, StandingError> {
        let times = self.times(note).map_err(CheckpointError::Note)?;
        let (mut cosigned, mut absent) = (Vec::new(), Vec::new());
        for (witness, time) in self.witnesses.iter().zip(&times) {
            match time {
                Some(unix_seconds) => {
                    cosigned.push(Cosigned { witness: witness.name.clone(), unix_seconds: *unix_seconds })
                }
                None => absent.push(witness.name.clone()),
            }
        }
        let Some(rule) = &self.quorum else {
            return Ok(Standing { checkpoint, cosigned, absent, witnessed_by: None });
        };
        let witnessed_by = rule.witnessed_by(&times);
        if witnessed_by.is_none() {
            let cosigned = cosigned.into_iter().map(|by| by.witness).collect();
            return Err(StandingError::NoQuorum { size: checkpoint.size, cosigned, absent });
        }
        Ok(Standing { checkpoint, cosigned, absent, witnessed_by })
    }

    fn times(&self, note: &Note) -> Result<Vec<Option<u64>>, NoteError> {
        self.witnesses.iter().map(|witness| witness.key.cosigned(note)).collect()
    }
}

impl Rule {
    /// The earliest moment at which the rule was satisfied, given when each witness cosigned; `None` if it is not.
    fn witnessed_by(&self, times: &[Option<u64>]) -> Option<u64> {
        match self {
            Self::Witness(at) => times.get(*at).copied().flatten(),
            Self::AtLeast(threshold, members) => {
                let mut moments: Vec<u64> =
                    members.iter().filter_map(|member| member.witnessed_by(times)).collect();
                moments.sort_unstable();
                moments.get(threshold.checked_sub(1)?).copied()
            }
        }
    }
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

impl fmt::Display for Cosigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at Unix time {}", self.witness, self.unix_seconds)
    }
}

#[cfg(test)]
mod tests;
