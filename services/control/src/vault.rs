//! The vault: the keys of sealed fields, in a small store outside the log and outside its backups.
//!
//! A key is made when it is first needed and is durable before anything that is sealed under it is. Destroying a key
//! leaves a mark that it existed, so that it is never made again: what was sealed under it stays closed for ever.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, Mac};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::Sha256;
use writ_schema::seal::{RecordKey, RecordKeys, Retention, Salt, Subject, SubjectKey};
use zeroize::Zeroizing;

/// Most keys that are held in memory; beyond it they are read again.
const MAX_CACHED: usize = 100_000;

/// How long to wait for a lock on the file: only a copy for a backup takes one.
const BUSY_MILLIS: u32 = 5_000;

/// A retention that stands for all of a subject's.
const EVERY_RETENTION: &str = "";

const SCHEMA: &str = "
    PRAGMA secure_delete = ON;
    PRAGMA journal_mode = DELETE;
    PRAGMA synchronous = EXTRA;
    CREATE TABLE IF NOT EXISTS keys (
        subject TEXT NOT NULL,
        retention TEXT NOT NULL,
        key BLOB,
        PRIMARY KEY (subject, retention)
    ) WITHOUT ROWID;
";

/// The vault of one network.
pub struct Vault {
    inner: Mutex<Inner>,
}

struct Inner {
    store: Connection,
    /// What is known: a key, or that it was destroyed.
    known: HashMap<(Subject, Retention), Known>,
    /// Keys that were made and are not stored yet.
    unstored: Vec<(Subject, Retention)>,
}

#[derive(Clone)]
enum Known {
    Key(SubjectKey),
    Destroyed,
}

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

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Opens the vault, made if it is missing; readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        drop(file);
        Self::with_store(Connection::open(path)?)
    }

    /// A vault that lives and dies with the process.
    pub fn in_memory() -> Result<Self, VaultError> {
        Self::with_store(Connection::open_in_memory()?)
    }

    fn with_store(store: Connection) -> Result<Self, VaultError> {
        store.busy_timeout(std::time::Duration::from_millis(u64::from(BUSY_MILLIS)))?;
        store.execute_batch(SCHEMA)?;
        let inner = Inner { store, known: HashMap::new(), unstored: Vec::new() };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Makes sure that there is a key to seal with. A new one is durable only after [`store_new`](Self::store_new).
    pub(crate) fn prepare(&self, subject: &Subject, retention: &Retention) -> Result<(), VaultError> {
        self.lock().prepared(subject, retention).map(|_| ())
    }

    /// Makes durable what was prepared. Nothing sealed under a new key may be stored before.
    pub(crate) fn store_new(&self) -> Result<(), VaultError> {
        self.lock().store_new()
    }

    /// A code over bytes that only the holder of the subject's key can make or compare: a plain hash of a person's
    /// data could be found out by guessing.
    pub(crate) fn code(
        &self,
        subject: &Subject,
        retention: &Retention,
        bytes: &[u8],
    ) -> Result<[u8; 32], VaultError> {
        let key = self.lock().prepared(subject, retention)?;
        // HMAC takes a key of any length, so this does not fail.
        let code = Hmac::<Sha256>::new_from_slice(key.as_bytes());
        let code = code.map_err(|_| VaultError::Damaged(subject.clone()))?;
        Ok(code.chain_update(b"writ/command/v1\n").chain_update(bytes).finalize().into_bytes().into())
    }

    /// Destroys the key of one retention, or all of a subject's. Doing it again is no error.
    pub fn destroy(&self, subject: &Subject, retention: Option<&Retention>) -> Result<(), VaultError> {
        self.lock().destroy(subject, retention)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordKeys for Vault {
    fn record_key(&self, subject: &Subject, retention: &Retention, salt: &Salt) -> Option<RecordKey> {
        match self.lock().find(subject, retention) {
            Ok(Some(Known::Key(key))) => Some(key.record_key(salt)),
            Ok(Some(Known::Destroyed) | None) => None,
            Err(error) => {
                tracing::error!(%error, "a key cannot be read from the vault");
                None
            }
        }
    }
}

impl Inner {
    fn find(&mut self, subject: &Subject, retention: &Retention) -> Result<Option<Known>, VaultError> {
        let of = (subject.clone(), retention.clone());
        if let Some(known) = self.known.get(&of) {
            return Ok(Some(known.clone()));
        }
        let Some(known) = self.read(subject, retention)? else { return Ok(None) };
        self.remember(of, known.clone());
        Ok(Some(known))
    }

    fn read(&self, subject: &Subject, retention: &Retention) -> Result<Option<Known>, VaultError> {
        let mut query = self.store.prepare_cached(
            "SELECT key FROM keys WHERE subject = ?1 AND retention IN (?2, ?3) ORDER BY retention LIMIT 1",
        )?;
        let (subject_text, retention_text) = (subject.to_string(), retention.to_string());
        let found: Option<Option<Vec<u8>>> = query
            .query_row(params![subject_text, EVERY_RETENTION, retention_text], |row| row.get(0))
            .optional()?;
        match found {
            None => Ok(None),
            Some(None) => Ok(Some(Known::Destroyed)),
            Some(Some(bytes)) => {
                let bytes = Zeroizing::new(bytes);
                let key = <[u8; 32]>::try_from(bytes.as_slice());
                let key = key.map_err(|_| VaultError::Damaged(subject.clone()))?;
                Ok(Some(Known::Key(SubjectKey::from_bytes(key))))
            }
        }
    }

    /// The key, made if there is none.
    fn prepared(&mut self, subject: &Subject, retention: &Retention) -> Result<SubjectKey, VaultError> {
        match self.find(subject, retention)? {
            Some(Known::Key(key)) => return Ok(key),
            Some(Known::Destroyed) => {
                return Err(VaultError::Destroyed { subject: subject.clone(), retention: retention.clone() });
            }
            None => {}
        }
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(VaultError::Entropy)?;
        let key = SubjectKey::from_bytes(*bytes);
        let of = (subject.clone(), retention.clone());
        self.remember(of.clone(), Known::Key(key.clone()));
        self.unstored.push(of);
        Ok(key)
    }

    fn remember(&mut self, of: (Subject, Retention), known: Known) {
        if self.known.len() >= MAX_CACHED {
            let unstored = std::mem::take(&mut self.unstored);
            self.known.retain(|of, _| unstored.contains(of));
            self.unstored = unstored;
        }
        self.known.insert(of, known);
    }

    fn store_new(&mut self) -> Result<(), VaultError> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let transaction = self.store.transaction()?;
        for of in &self.unstored {
            let Some(Known::Key(key)) = self.known.get(of) else { continue };
            transaction.execute(
                "INSERT INTO keys (subject, retention, key) VALUES (?1, ?2, ?3)",
                params![of.0.to_string(), of.1.to_string(), key.as_bytes().as_slice()],
            )?;
        }
        transaction.commit()?;
        self.unstored.clear();
        Ok(())
    }

    /// Whether the mark of a destruction is there already; marks and keys change together.
    fn is_done(&self, subject: &Subject, retention: &str) -> Result<bool, VaultError> {
        let mut query = self
            .store
            .prepare_cached("SELECT 1 FROM keys WHERE subject = ?1 AND retention = ?2 AND key IS NULL")?;
        Ok(query.exists(params![subject.to_string(), retention])?)
    }

    fn destroy(&mut self, subject: &Subject, retention: Option<&Retention>) -> Result<(), VaultError> {
        let text = retention.map_or(EVERY_RETENTION.to_owned(), ToString::to_string);
        if self.is_done(subject, &text)? {
            return Ok(());
        }
        let transaction = self.store.transaction()?;
        transaction.execute(
            "UPDATE keys SET key = NULL WHERE subject = ?1 AND (?2 = ?3 OR retention = ?2) AND key NOT NULL",
            params![subject.to_string(), text, EVERY_RETENTION],
        )?;
        transaction.execute(
            "INSERT OR IGNORE INTO keys (subject, retention, key) VALUES (?1, ?2, NULL)",
            params![subject.to_string(), text],
        )?;
        transaction.commit()?;
        let is_destroyed =
            |of: &(Subject, Retention)| of.0 == *subject && retention.is_none_or(|only| *only == of.1);
        self.unstored.retain(|of| !is_destroyed(of));
        self.known.retain(|of, _| !is_destroyed(of));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_schema::UserId;
    use writ_schema::seal::Quarter;

    const SALT: Salt = Salt::from_bytes([7; 16]);

    fn subject(number: u8) -> Subject {
        Subject::User(UserId::from_bytes([number; 16]))
    }

    fn quarter() -> Retention {
        Retention::Connections(Quarter::of("2026-11-23T08:00:00Z".parse().unwrap()))
    }

    fn key_text(vault: &Vault, subject: &Subject, retention: &Retention) -> Option<String> {
        vault.record_key(subject, retention, &SALT).map(String::from)
    }

    #[test]
    fn a_key_survives_reopening_once_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        let vault = Vault::open(&path).unwrap();
        vault.prepare(&subject(1), &Retention::Identity).unwrap();
        vault.store_new().unwrap();
        vault.prepare(&subject(2), &Retention::Identity).unwrap();
        let (stored, lost) = (key_text(&vault, &subject(1), &Retention::Identity), subject(2));
        assert!(stored.is_some());
        drop(vault);
        let vault = Vault::open(&path).unwrap();
        assert_eq!(key_text(&vault, &subject(1), &Retention::Identity), stored);
        assert_eq!(key_text(&vault, &lost, &Retention::Identity), None);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_destroyed_key_is_gone_from_the_file_and_never_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        let vault = Vault::open(&path).unwrap();
        for retention in [Retention::Identity, quarter()] {
            vault.prepare(&subject(1), &retention).unwrap();
            vault.prepare(&subject(2), &retention).unwrap();
        }
        vault.store_new().unwrap();
        let secret = *vault.lock().prepared(&subject(1), &Retention::Identity).unwrap().as_bytes();
        let holds = |bytes: &[u8]| bytes.windows(32).any(|window| window == secret);
        assert!(holds(&std::fs::read(&path).unwrap()));
        vault.destroy(&subject(1), None).unwrap();
        vault.destroy(&subject(1), None).unwrap();
        assert!(!holds(&std::fs::read(&path).unwrap()));
        drop(vault);
        let vault = Vault::open(&path).unwrap();
        for retention in [Retention::Identity, quarter()] {
            assert_eq!(key_text(&vault, &subject(1), &retention), None);
            assert!(matches!(vault.prepare(&subject(1), &retention), Err(VaultError::Destroyed { .. })));
            assert!(key_text(&vault, &subject(2), &retention).is_some());
        }
        // Not even under a retention that there was no key for when the subject was erased.
        let later = Retention::Connections(Quarter::of("2031-01-01T00:00:00Z".parse().unwrap()));
        assert!(matches!(vault.prepare(&subject(1), &later), Err(VaultError::Destroyed { .. })));
    }

    #[test]
    fn one_retention_can_lapse_alone() {
        let vault = Vault::in_memory().unwrap();
        for retention in [Retention::Identity, quarter()] {
            vault.prepare(&subject(1), &retention).unwrap();
        }
        vault.store_new().unwrap();
        vault.destroy(&subject(1), Some(&quarter())).unwrap();
        assert_eq!(key_text(&vault, &subject(1), &quarter()), None);
        assert!(key_text(&vault, &subject(1), &Retention::Identity).is_some());
    }

    #[test]
    fn codes_differ_by_subject_and_content() {
        let vault = Vault::in_memory().unwrap();
        let code = |number, bytes: &[u8]| vault.code(&subject(number), &Retention::Identity, bytes).unwrap();
        assert_eq!(code(1, b"a"), code(1, b"a"));
        assert_ne!(code(1, b"a"), code(1, b"b"));
        assert_ne!(code(1, b"a"), code(2, b"a"));
    }
}
