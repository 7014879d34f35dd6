//! Why a key is refused, or does not sign.

use std::path::PathBuf;

/// Why a key is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or has a space, a plus sign or a control character.
    #[error("the key name {0:?} must be non-empty, without spaces, control characters and '+'")]
    BadName(String),
    /// The text is not a key.
    #[error("not a key: {0}")]
    Malformed(&'static str),
    /// The key signs something else than is needed here.
    #[error("this is {}, but {} is needed here", purpose(*.found), purpose(*.expected))]
    OtherPurpose {
        /// Its signature type (C2SP signed-note).
        found: u8,
        /// The signature type that is needed.
        expected: u8,
    },
    /// The key has another name, so it is of another log.
    #[error("the key is of {found:?}, not of {expected:?}")]
    OtherName {
        /// Its name.
        found: String,
        /// The name that is needed.
        expected: String,
    },
    /// The key file can be read by others.
    #[error("the key file {path} has mode {mode:03o}: others could read it; run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file cannot be read or written.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a new key")]
    NoRandomness,
}

/// Why something could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The holder of the key could not be reached or refused.
    #[error("the signing key cannot be used: {0}")]
    Unavailable(String),
    /// The text cannot be a note.
    #[error("the text cannot be signed as a note")]
    Unsignable,
}

fn purpose(signature_type: u8) -> String {
    match signature_type {
        1 => "a log's key (type 1)".to_owned(),
        4 => "a cosigner's key (type 4)".to_owned(),
        other => format!("a key of the unsupported type {other}"),
    }
}
