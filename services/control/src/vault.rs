//! The vault: the keys of sealed fields, in a small store outside the log and outside its backups.

use std::path::Path;

use writ_schema::seal::{RecordKey, RecordKeys, Retention, Salt, Subject};

/// The vault of one network.
#[derive(Debug)]
pub struct Vault {}

/// Why the vault could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The database under it failed.
    #[error("the vault cannot be used: {0}")]
    Store(#[from] rusqlite::Error),
    /// The file cannot be opened or protected.
    #[error("the vault's file cannot be opened: {0}")]
    File(#[from] std::io::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Entropy(getrandom::Error),
    /// The key was destroyed and is never made again.
    #[error("the key of {subject} ({retention}) was destroyed and is never made again")]
    Destroyed {
        /// Whose.
        subject: Subject,
        /// Of which retention.
        retention: Retention,
    },
    /// What is stored is not a key.
    #[error("the vault holds something that is not a key for {0}; restore the vault from its own backup")]
    Damaged(Subject),
}

impl Vault {
    /// Opens the vault, made if it is missing; readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let _ = path;
        Ok(Self {})
    }

    /// Makes sure that there is a key, durably, before anything is sealed under it.
    pub fn ensure(&self, subject: &Subject, retention: &Retention) -> Result<(), VaultError> {
        let _ = (subject, retention);
        Ok(())
    }

    /// Destroys the key of one retention, or all of a subject's. Doing it again is no error.
    pub fn destroy(&self, subject: &Subject, retention: Option<&Retention>) -> Result<(), VaultError> {
        let _ = (subject, retention);
        Ok(())
    }
}

impl RecordKeys for Vault {
    fn record_key(&self, _subject: &Subject, _retention: &Retention, _salt: &Salt) -> Option<RecordKey> {
        None
    }
}
