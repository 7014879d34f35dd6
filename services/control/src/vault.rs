//! The vault: the keys of sealed fields, in a small store outside the log and outside its backups.
//!
//! A key is made when it is first needed and is durable before anything that is sealed under it is. Records name it by
//! [references](KeyRef) to its random id, which the vault alone can read. Destroying a key destroys its id as well, so
//! that nothing tells any more whose the records were; it leaves a mark that there was a key, so that it is never made
//! again: what was sealed under it stays closed for ever.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, Mac};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::Sha256;
use writ_ledger::{Hash, Reader, leaf_hash};
use writ_schema::seal::{
    DestroyedKeys, HeldKey, IndexKey, KeyId, KeyRef, OpeningKey, OpeningKeys, Place, Retention, SealingKeys,
    Subject, SubjectKey,
};
use zeroize::Zeroizing;

/// Most keys that are held in memory; beyond it they are read again.
const MAX_CACHED: usize = 100_000;

/// How long to wait for a lock on the file: only a copy for a backup takes one.
const BUSY_MILLIS: u32 = 5_000;

/// A retention that stands for all of a subject's, and a subject that stands for all of a retention's: a row with it and
/// without a key is the mark that they were destroyed.
const EVERY: &str = "";

const SCHEMA: &str = "
    PRAGMA secure_delete = ON;
    PRAGMA journal_mode = DELETE;
    PRAGMA synchronous = EXTRA;
    CREATE TABLE IF NOT EXISTS keys (
        subject TEXT NOT NULL,
        retention TEXT NOT NULL,
        id BLOB UNIQUE,
        key BLOB,
        PRIMARY KEY (subject, retention)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS index_key (key BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS log (first_record BLOB NOT NULL);
";

/// The vault of one network.
pub struct Vault {
    index: IndexKey,
    inner: Mutex<Inner>,
}

struct Inner {
    store: Connection,
    /// What is known: a key, or that it was destroyed.
    known: HashMap<(Subject, Retention), Known>,
    /// Whose the known keys are.
    by_id: HashMap<KeyId, (Subject, Retention)>,
    /// Keys that were made and are not stored yet.
    unstored: Vec<(Subject, Retention)>,
}

#[derive(Clone)]
enum Known {
    Key(KeyId, SubjectKey),
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
    /// It was made for another log.
    #[error(
        "the vault belongs to another log, which begins with another record: put this log's own vault back from its backup; \
         nothing was changed"
    )]
    OtherLog,
    /// It is new, but the log is not.
    #[error(
        "the vault is empty, but the log holds sealed fields that only its keys open: put vault.db back from its own backup. If \
         there is none, they stay closed for ever; to go on without them, run `writd vault begin-anew`"
    )]
    Lost,
    /// It is to be begun anew, but holds something.
    #[error("the vault is not lost: it holds keys, or marks of destroyed ones; nothing was changed")]
    NotLost,
    /// What is stored is not a key.
    #[error("the vault holds something that is not a key for {0}; restore the vault from its own backup")]
    Damaged(String),
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
        let index = index_key(&store)?;
        let inner = Inner { store, known: HashMap::new(), by_id: HashMap::new(), unstored: Vec::new() };
        Ok(Self { index, inner: Mutex::new(inner) })
    }

    /// Holds the vault to the log that begins with this record, and binds one that is bound to none yet. `is_sealed` says
    /// whether the log has sealed fields, which a vault without keys cannot open.
    ///
    /// # Errors
    /// When it is another log's, or empty beside a log that needs its keys.
    pub(crate) fn bind(
        &self,
        first_record: &Hash,
        is_sealed: impl FnOnce() -> bool,
    ) -> Result<(), VaultError> {
        let inner = self.lock();
        let bound = inner.store.query_row("SELECT first_record FROM log", [], |row| row.get::<_, Vec<u8>>(0));
        match bound.optional()? {
            Some(bound) if bound == first_record.as_bytes() => Ok(()),
            Some(_) => Err(VaultError::OtherLog),
            None if inner.is_empty()? && is_sealed() => Err(VaultError::Lost),
            None => inner.bind(first_record),
        }
    }

    /// Binds an empty vault to a log whose own was lost: what was sealed so far stays closed.
    ///
    /// # Errors
    /// When it is bound already or holds keys.
    pub fn begin_anew(&self, log: &Reader) -> Result<(), VaultError> {
        let first = first_record(log).ok_or(VaultError::Damaged("a log without records".to_owned()))?;
        let inner = self.lock();
        let is_bound = inner.store.prepare("SELECT 1 FROM log")?.exists([])?;
        if is_bound || !inner.is_empty()? {
            return Err(VaultError::NotLost);
        }
        inner.bind(&first)
    }

    /// Makes sure that there is a key to seal with. A new one is durable only after [`store_new`](Self::store_new).
    pub(crate) fn prepare(&self, of: &(Subject, Retention)) -> Result<(), VaultError> {
        self.lock().prepared(of).map(|_| ())
    }

    /// Makes durable what was prepared. Nothing sealed under a new key may be stored before.
    pub(crate) fn store_new(&self) -> Result<(), VaultError> {
        self.lock().store_new()
    }

    /// A code over bytes, for one purpose, that only the holder of the subject's key can make or compare: a plain hash of a
    /// person's data could be found out by guessing.
    pub(crate) fn code(
        &self,
        of: &(Subject, Retention),
        purpose: &str,
        bytes: &[u8],
    ) -> Result<[u8; 32], VaultError> {
        let (_, key) = self.lock().prepared(of)?;
        // HMAC takes a key of any length, so this does not fail.
        let code = Hmac::<Sha256>::new_from_slice(key.as_bytes());
        let code = code.map_err(|_| VaultError::Damaged(of.0.to_string()))?;
        let code = code.chain_update(purpose).chain_update("\n").chain_update(bytes);
        Ok(code.finalize().into_bytes().into())
    }

    /// Destroys keys. Doing it again is no error.
    pub fn destroy(&self, keys: &DestroyedKeys) -> Result<(), VaultError> {
        self.lock().destroy(keys)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SealingKeys for Vault {
    fn sealing_key(&self, of: &(Subject, Retention), place: Place) -> Option<HeldKey> {
        match readable(self.lock().find(of))? {
            Known::Key(id, key) => {
                Some(HeldKey { key_ref: self.index.key_ref(id, place), key: key.field_key(place) })
            }
            // Something is still to be recorded of somebody who was erased: that it was, and nothing that could be read.
            Known::Destroyed => {
                let (key_ref, key) = readable(random().and_then(|key_ref| Ok(Some((key_ref, random()?)))))?;
                Some(HeldKey::to_forget(*key_ref, *key))
            }
        }
    }
}

impl OpeningKeys for Vault {
    fn opening_key(&self, key_ref: KeyRef, place: Place) -> Option<OpeningKey> {
        let id = self.index.key_id(key_ref, place);
        let mut inner = self.lock();
        let of = readable(inner.owner(id))?;
        match readable(inner.find(&of))? {
            Known::Key(_, key) => Some(OpeningKey { key: key.field_key(place), of: Some(of) }),
            Known::Destroyed => None,
        }
    }
}

/// Without its key a field stays closed: whoever cannot go on so, finds that out by the value that is not there.
fn readable<T>(found: Result<Option<T>, VaultError>) -> Option<T> {
    found.unwrap_or_else(|error| {
        tracing::error!(%error, "a key cannot be read from the vault");
        None
    })
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, VaultError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(VaultError::Entropy)?;
    Ok(bytes)
}

/// The key to what references mean, made when the vault is.
fn index_key(store: &Connection) -> Result<IndexKey, VaultError> {
    let fresh = random::<32>()?;
    store.execute(
        "INSERT INTO index_key (key) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM index_key)",
        [fresh.as_slice()],
    )?;
    let key = store.query_row("SELECT key FROM index_key", [], |row| secret(row, "key"))?;
    key.map(|key| IndexKey::from_bytes(*key))
        .ok_or_else(|| VaultError::Damaged("the index of keys".to_owned()))
}

/// Reads 32 secret bytes; `None` if they are not that.
fn secret(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Zeroizing<[u8; 32]>>> {
    let bytes = Zeroizing::new(row.get::<_, Vec<u8>>(column)?);
    Ok(<[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new))
}

/// The hash of a log's first record, which no other log has.
pub(crate) fn first_record(log: &Reader) -> Option<Hash> {
    log.read(0).ok().map(|bytes| leaf_hash(&bytes))
}

impl Inner {
    /// Whether there never was a key.
    fn is_empty(&self) -> Result<bool, VaultError> {
        Ok(!self.store.prepare("SELECT 1 FROM keys")?.exists([])?)
    }

    fn bind(&self, first_record: &Hash) -> Result<(), VaultError> {
        self.store.execute("INSERT INTO log (first_record) VALUES (?1)", [first_record.as_bytes()])?;
        Ok(())
    }

    fn find(&mut self, of: &(Subject, Retention)) -> Result<Option<Known>, VaultError> {
        if let Some(known) = self.known.get(of) {
            return Ok(Some(known.clone()));
        }
        let Some(known) = self.read(of)? else { return Ok(None) };
        self.remember(of, known.clone());
        Ok(Some(known))
    }

    fn read(&self, (subject, retention): &(Subject, Retention)) -> Result<Option<Known>, VaultError> {
        let mut query = self.store.prepare_cached(
            "SELECT id, key, key IS NULL AS destroyed FROM keys
             WHERE subject IN (?1, ?3) AND retention IN (?2, ?3) ORDER BY destroyed DESC LIMIT 1",
        )?;
        let bound = params![subject.to_string(), retention.to_string(), EVERY];
        let found = query.query_row(bound, |row| {
            if row.get("destroyed")? {
                return Ok(Some(Known::Destroyed));
            }
            let (id, key) = (row.get::<_, [u8; KeyRef::BYTES]>("id")?, secret(row, "key")?);
            Ok(key.map(|key| Known::Key(KeyId::from_bytes(id), SubjectKey::from_bytes(*key))))
        });
        let known = found.optional()?;
        known.map(|known| known.ok_or_else(|| VaultError::Damaged(subject.to_string()))).transpose()
    }

    /// Whose the key with this id is, if there is one.
    fn owner(&self, id: KeyId) -> Result<Option<(Subject, Retention)>, VaultError> {
        if let Some(of) = self.by_id.get(&id) {
            return Ok(Some(of.clone()));
        }
        let mut query = self.store.prepare_cached("SELECT subject, retention FROM keys WHERE id = ?1")?;
        let found: Option<(String, String)> =
            query.query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((subject, retention)) = found else { return Ok(None) };
        let of = subject.parse().and_then(|subject| Ok((subject, retention.parse()?)));
        of.map(Some).map_err(VaultError::Damaged)
    }

    /// The key, made if there is none.
    fn prepared(&mut self, of: &(Subject, Retention)) -> Result<(KeyId, SubjectKey), VaultError> {
        match self.find(of)? {
            Some(Known::Key(id, key)) => return Ok((id, key)),
            Some(Known::Destroyed) => {
                let (subject, retention) = of.clone();
                return Err(VaultError::Destroyed { subject, retention });
            }
            None => {}
        }
        let (id, key) = (self.unused_id()?, SubjectKey::from_bytes(*random::<32>()?));
        self.remember(of, Known::Key(id, key.clone()));
        self.unstored.push(of.clone());
        Ok((id, key))
    }

    fn unused_id(&self) -> Result<KeyId, VaultError> {
        loop {
            let id = KeyId::from_bytes(*random()?);
            if self.owner(id)?.is_none() {
                return Ok(id);
            }
        }
    }

    fn remember(&mut self, of: &(Subject, Retention), known: Known) {
        if self.known.len() >= MAX_CACHED {
            let unstored = std::mem::take(&mut self.unstored);
            self.known.retain(|of, _| unstored.contains(of));
            self.by_id.retain(|_, of| unstored.contains(of));
            self.unstored = unstored;
        }
        if let Known::Key(id, _) = &known {
            self.by_id.insert(*id, of.clone());
        }
        self.known.insert(of.clone(), known);
    }

    fn store_new(&mut self) -> Result<(), VaultError> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let transaction = self.store.transaction()?;
        for of in &self.unstored {
            let Some(Known::Key(id, key)) = self.known.get(of) else { continue };
            transaction.execute(
                "INSERT INTO keys (subject, retention, id, key) VALUES (?1, ?2, ?3, ?4)",
                params![of.0.to_string(), of.1.to_string(), id.as_bytes(), key.as_bytes()],
            )?;
        }
        transaction.commit()?;
        self.unstored.clear();
        Ok(())
    }

    fn destroy(&mut self, keys: &DestroyedKeys) -> Result<(), VaultError> {
        let (subject, retention) = match keys {
            DestroyedKeys::OfSubject(subject) => (subject.to_string(), EVERY.to_owned()),
            DestroyedKeys::OfRetention(retention) => (EVERY.to_owned(), retention.to_string()),
        };
        let bound = params![subject, retention];
        let mark = "SELECT 1 FROM keys WHERE subject = ?1 AND retention = ?2 AND key IS NULL";
        // The mark and the keys change together.
        if self.store.prepare_cached(mark)?.exists(bound)? {
            return Ok(());
        }
        let transaction = self.store.transaction()?;
        transaction.execute("DELETE FROM keys WHERE subject = ?1 OR retention = ?2", bound)?;
        transaction.execute("INSERT INTO keys (subject, retention) VALUES (?1, ?2)", bound)?;
        transaction.commit()?;
        self.unstored.retain(|of| !keys.contain(of));
        self.known.retain(|of, _| !keys.contain(of));
        self.by_id.retain(|_, of| !keys.contain(of));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_schema::UserId;
    use writ_schema::seal::{Quarter, Salt};

    const HERE: Place = Place { salt: Salt::from_bytes([7; Salt::BYTES]), field: "name" };

    fn of(number: u8, retention: Retention) -> (Subject, Retention) {
        (Subject::User(UserId::from_bytes([number; 16])), retention)
    }

    fn quarter() -> Retention {
        Retention::Connections(Quarter::of("2026-11-23T08:00:00Z".parse().unwrap()))
    }

    /// The key, and the reference that leads to it.
    fn sealing(vault: &Vault, of: &(Subject, Retention)) -> Option<(KeyRef, String)> {
        vault.sealing_key(of, HERE).map(|held| (held.key_ref, held.key.into()))
    }

    fn opening(vault: &Vault, key_ref: KeyRef) -> Option<((Subject, Retention), String)> {
        let OpeningKey { key, of } = vault.opening_key(key_ref, HERE)?;
        Some((of.unwrap(), key.into()))
    }

    #[test]
    fn a_key_survives_reopening_once_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        let vault = Vault::open(&path).unwrap();
        let (kept, lost) = (of(1, Retention::Identity), of(2, Retention::Identity));
        vault.prepare(&kept).unwrap();
        vault.store_new().unwrap();
        vault.prepare(&lost).unwrap();
        let (key_ref, key) = sealing(&vault, &kept).unwrap();
        let (lost_ref, _) = sealing(&vault, &lost).unwrap();
        drop(vault);
        let vault = Vault::open(&path).unwrap();
        assert_eq!(opening(&vault, key_ref), Some((kept.clone(), key.clone())));
        assert_eq!(sealing(&vault, &kept), Some((key_ref, key)));
        assert_eq!(opening(&vault, lost_ref), None);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_reference_means_nothing_to_another_vault_or_in_another_place() {
        let (ours, theirs) = (Vault::in_memory().unwrap(), Vault::in_memory().unwrap());
        for vault in [&ours, &theirs] {
            vault.prepare(&of(1, quarter())).unwrap();
        }
        let (key_ref, _) = sealing(&ours, &of(1, quarter())).unwrap();
        assert!(theirs.opening_key(key_ref, HERE).is_none());
        assert!(ours.opening_key(key_ref, Place { field: "login", ..HERE }).is_none());
    }

    #[test]
    fn a_destroyed_key_is_gone_from_the_file_and_never_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        let vault = Vault::open(&path).unwrap();
        let retentions = [Retention::Identity, quarter()];
        for retention in retentions.clone() {
            vault.prepare(&of(1, retention.clone())).unwrap();
            vault.prepare(&of(2, retention)).unwrap();
        }
        vault.store_new().unwrap();
        let refs = retentions.clone().map(|retention| sealing(&vault, &of(1, retention)).unwrap().0);
        let (id, key) = vault.lock().prepared(&of(1, Retention::Identity)).unwrap();
        let holds = |bytes: &[u8]| {
            let file = std::fs::read(&path).unwrap();
            file.windows(bytes.len()).any(|window| window == bytes)
        };
        assert!(holds(key.as_bytes()) && holds(id.as_bytes()));
        let (subject, _) = of(1, Retention::Identity);
        let keys = DestroyedKeys::OfSubject(subject);
        vault.destroy(&keys).unwrap();
        vault.destroy(&keys).unwrap();
        assert!(!holds(key.as_bytes()) && !holds(id.as_bytes()));
        assert!(refs.iter().all(|key_ref| opening(&vault, *key_ref).is_none()));
        drop(vault);
        let vault = Vault::open(&path).unwrap();
        for (retention, key_ref) in retentions.into_iter().zip(refs) {
            assert_eq!(opening(&vault, key_ref), None);
            // Something sealed for them now is lost at once.
            let (lost, _) = sealing(&vault, &of(1, retention.clone())).unwrap();
            assert_eq!(opening(&vault, lost), None);
            assert!(matches!(vault.prepare(&of(1, retention.clone())), Err(VaultError::Destroyed { .. })));
            assert!(sealing(&vault, &of(2, retention)).is_some());
        }
        // Not even under a retention that there was no key for when the subject was erased.
        let later = Retention::Connections(Quarter::of("2031-01-01T00:00:00Z".parse().unwrap()));
        assert!(matches!(vault.prepare(&of(1, later)), Err(VaultError::Destroyed { .. })));
    }

    #[test]
    fn a_retention_lapses_for_everybody_and_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        let vault = Vault::open(&path).unwrap();
        for number in [1, 2] {
            vault.prepare(&of(number, Retention::Identity)).unwrap();
            vault.prepare(&of(number, quarter())).unwrap();
        }
        vault.store_new().unwrap();
        let (key_ref, _) = sealing(&vault, &of(1, quarter())).unwrap();
        let (_, key) = vault.lock().prepared(&of(1, quarter())).unwrap();
        vault.destroy(&DestroyedKeys::OfRetention(quarter())).unwrap();
        vault.destroy(&DestroyedKeys::OfRetention(quarter())).unwrap();
        drop(vault);
        let file = std::fs::read(&path).unwrap();
        assert!(!file.windows(32).any(|window| window == key.as_bytes()));
        let vault = Vault::open(&path).unwrap();
        assert_eq!(opening(&vault, key_ref), None);
        for number in [1, 2, 3] {
            assert!(matches!(vault.prepare(&of(number, quarter())), Err(VaultError::Destroyed { .. })));
            vault.prepare(&of(number, Retention::Identity)).unwrap();
        }
    }

    #[test]
    fn codes_differ_by_subject_purpose_and_content() {
        let vault = Vault::in_memory().unwrap();
        let code = |number, purpose: &str, bytes: &[u8]| {
            vault.code(&of(number, Retention::Identity), purpose, bytes).unwrap()
        };
        assert_eq!(code(1, "p", b"a"), code(1, "p", b"a"));
        for other in [code(1, "p", b"b"), code(2, "p", b"a"), code(1, "q", b"a")] {
            assert_ne!(code(1, "p", b"a"), other);
        }
    }
}
