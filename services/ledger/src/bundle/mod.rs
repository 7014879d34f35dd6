//! Evidence bundles: records with everything that is needed to check them, in one JSON file.
//!
//! The format is open: `schema/evidence.md` describes it for whoever writes another verifier.

#[cfg(test)]
mod contract;
mod error;
mod multiproof;
mod source;

pub use error::{BuildError, BundleError};
pub use source::{BundleSource, PublishedLog};

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use self::multiproof::{collect, fold};
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::key::{SignError, Signer, VerifierKey};
use crate::note::Note;
use crate::rotation::LogKeys;
use crate::store::{ReadError, Reader, check_record};
use crate::tree::{Hash, leaf_hash};

/// The name of the format.
pub const FORMAT: &str = "writ-evidence/v1";

/// The largest bundle that is read.
pub const MAX_BUNDLE_BYTES: usize = 1024 * 1024 * 1024;

/// The most records in a bundle.
pub const MAX_ENTRIES: usize = 1_000_000;

/// Fewer records than this are not worth another thread.
const LEAST_PART: usize = 1000;

/// What a bundle is evidence of, as its maker states it.
#[derive(Debug, Clone)]
pub struct Statement {
    /// What it is about.
    pub subject: Value,
    /// The question that was asked.
    pub query: Value,
    /// The answer that was given.
    pub result: Value,
    /// When it was made.
    pub time: Value,
    /// The keys that open sealed fields of these records; [`Value::Null`] if none.
    pub keys: Value,
}

/// A bundle as it stands in its file. Nothing in it is to be believed before [`Bundle::verify`].
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    format: String,
    manifest: Manifest,
    vkey: String,
    checkpoint: String,
    entries: Vec<Entry>,
    hashes: Vec<Hash>,
    #[cfg_attr(test, schemars(with = "Value"))]
    keys: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
}

/// The bundle's statement and the digests of its parts.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[cfg_attr(test, schemars(with = "Value"))]
    subject: Box<RawValue>,
    #[cfg_attr(test, schemars(with = "Value"))]
    query: Box<RawValue>,
    #[cfg_attr(test, schemars(with = "Value"))]
    result: Box<RawValue>,
    #[cfg_attr(test, schemars(with = "Value"))]
    time: Box<RawValue>,
    digests: Digests,
}

/// One record.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its sequence number.
    pub index: u64,
    /// Its exact text.
    pub record: String,
    /// Its leaf hash, so that a changed record can be named.
    pub leaf: Hash,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    checkpoint: String,
    entries: String,
    hashes: String,
    keys: String,
    query: String,
    result: String,
    subject: String,
    time: String,
    vkey: String,
}

/// What a bundle that holds proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleReport {
    /// The checkpoint under which all records are proven.
    pub checkpoint: Checkpoint,
    /// How many records are proven.
    pub records: usize,
    /// Whether the log's key vouches for subject, query, result and time too.
    pub sealed: bool,
}

impl Bundle {
    /// Makes a bundle of these records, proven against the newest checkpoint.
    ///
    /// # Errors
    /// When a record is not in the log or cannot be read.
    pub fn build(reader: &Reader, indexes: &[u64], statement: &Statement) -> Result<Self, BuildError> {
        Self::build_under(reader, &reader.checkpoint(), indexes, statement)
    }

    /// Makes a bundle of these records, proven against this checkpoint of the log, such as one with cosignatures.
    ///
    /// # Errors
    /// When the checkpoint does not cover a record, or it cannot be read.
    pub fn build_under(
        source: &impl BundleSource,
        signed: &SignedCheckpoint,
        indexes: &[u64],
        statement: &Statement,
    ) -> Result<Self, BuildError> {
        let mut indexes = indexes.to_vec();
        indexes.sort_unstable();
        indexes.dedup();
        if indexes.len() > MAX_ENTRIES {
            return Err(BuildError::TooMany(indexes.len()));
        }
        let size = signed.checkpoint().size;
        if let Some(seq) = indexes.last().copied().filter(|last| *last >= size) {
            return Err(ReadError::NotThere { seq }.into());
        }
        let parts = in_parallel(&indexes, |part| entries(source, part));
        let parts: Vec<Vec<Entry>> = parts.into_iter().collect::<Result<_, _>>()?;
        let entries: Vec<Entry> = parts.into_iter().flatten().collect();
        let mut hashes = Vec::new();
        collect(source, 0, size, &indexes, &mut hashes)?;
        let keys = to_raw_value(&statement.keys)?;
        let (vkey, checkpoint) = (signed.key().to_string(), signed.text().to_owned());
        let manifest = Manifest {
            subject: to_raw_value(&statement.subject)?,
            query: to_raw_value(&statement.query)?,
            result: to_raw_value(&statement.result)?,
            time: to_raw_value(&statement.time)?,
            digests: Digests::empty(),
        };
        let format = FORMAT.to_owned();
        let mut bundle = Self { format, manifest, vkey, checkpoint, entries, hashes, keys, seal: None };
        bundle.manifest.digests = bundle.digests();
        Ok(bundle)
    }

    /// Has the log's key vouch for the manifest, so that subject, query and result cannot be exchanged.
    ///
    /// # Errors
    /// When the signer cannot sign.
    pub fn seal(&mut self, signer: &dyn Signer) -> Result<(), SignError> {
        let mut note = Note::new(self.seal_text()).map_err(|_| SignError::Unsignable)?;
        note.sign(signer)?;
        self.seal = Some(note.to_string());
        Ok(())
    }

    /// Reads a bundle's file. Checks its form only.
    ///
    /// # Errors
    /// When it is too large or not in the format.
    pub fn parse(file: &[u8]) -> Result<Self, BundleError> {
        if file.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge(file.len()));
        }
        let bundle: Self = serde_json::from_slice(file)?;
        if bundle.format != FORMAT {
            return Err(BundleError::OtherFormat(bundle.format));
        }
        if bundle.entries.len() > MAX_ENTRIES {
            return Err(BundleError::TooMany(bundle.entries.len()));
        }
        Ok(bundle)
    }

    /// The bundle's file.
    ///
    /// # Errors
    /// When it would be larger than any program reads.
    pub fn to_json(&self) -> Result<String, BuildError> {
        let text = serde_json::to_string_pretty(self)?;
        if text.len() > MAX_BUNDLE_BYTES { Err(BuildError::TooLarge(text.len())) } else { Ok(text) }
    }

    /// The records. Not to be believed before [`Bundle::verify`].
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The exact JSON text of the subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.manifest.subject.get()
    }

    /// The exact JSON text of the query.
    #[must_use]
    pub fn query(&self) -> &str {
        self.manifest.query.get()
    }

    /// The exact JSON text of the result.
    #[must_use]
    pub fn result(&self) -> &str {
        self.manifest.result.get()
    }

    /// The exact JSON text of the time.
    #[must_use]
    pub fn time(&self) -> &str {
        self.manifest.time.get()
    }

    /// The exact JSON text of the record keys.
    #[must_use]
    pub fn keys(&self) -> &str {
        self.keys.get()
    }

    /// The log key that the bundle names. Trust it only if you know it from elsewhere.
    #[must_use]
    pub fn vkey(&self) -> &str {
        &self.vkey
    }

    /// The checkpoint's signed note, with whatever cosignatures it had. Not to be believed before [`Bundle::verify`].
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// Checks everything, offline, against the log key that the caller trusts.
    ///
    /// # Errors
    /// When any part was altered; the error names it as closely as can be told.
    pub fn verify(&self, trusted: &VerifierKey) -> Result<BundleReport, BundleError> {
        self.verify_under(&LogKeys::of(trusted.clone()))
    }

    /// Like [`Bundle::verify`], of a log whose key was changed. The caller has followed the changes, which are records of the
    /// bundle: that they stand where they say is proven here.
    ///
    /// # Errors
    /// As for [`Bundle::verify`].
    pub fn verify_under(&self, keys: &LogKeys) -> Result<BundleReport, BundleError> {
        let other_key =
            || BundleError::OtherKey { found: self.vkey.clone(), trusted: keys.current().to_string() };
        let claimed: VerifierKey = self.vkey.parse().map_err(|_| other_key())?;
        if !keys.holds(&claimed) {
            return Err(other_key());
        }
        let signed = keys.open(&self.checkpoint)?;
        let checkpoint = signed.checkpoint().clone();
        self.check_entries(checkpoint.size)?;
        self.check_digests()?;
        let root = self.root(checkpoint.size)?;
        if root != checkpoint.root {
            return Err(BundleError::RootMismatch);
        }
        if let Some(seal) = &self.seal {
            let note: Note = seal.parse()?;
            note.verify(&[signed.key()])?;
            if note.text() != self.seal_text() {
                return Err(BundleError::SealMismatch);
            }
        }
        Ok(BundleReport { checkpoint, records: self.entries.len(), sealed: self.seal.is_some() })
    }

    fn check_entries(&self, size: u64) -> Result<(), BundleError> {
        let mut least = 0;
        for (position, Entry { index, .. }) in self.entries.iter().enumerate() {
            if *index < least || *index >= size {
                return Err(BundleError::Misplaced { position, index: *index });
            }
            least = index.saturating_add(1);
        }
        let is_altered = |Entry { record, leaf, .. }: &&Entry| {
            leaf_hash(record.as_bytes()) != *leaf || check_record(record.as_bytes()).is_err()
        };
        let first = in_parallel(&self.entries, |part| part.iter().find(is_altered).map(|entry| entry.index));
        match first.into_iter().flatten().next() {
            Some(index) => Err(BundleError::RecordAltered { index }),
            None => Ok(()),
        }
    }

    fn check_digests(&self) -> Result<(), BundleError> {
        let (stated, found) = (&self.manifest.digests, self.digests());
        for ((part, stated), (_, found)) in stated.named().into_iter().zip(found.named()) {
            if stated != found {
                return Err(BundleError::DigestMismatch { part });
            }
        }
        Ok(())
    }

    fn root(&self, size: u64) -> Result<Hash, BundleError> {
        let mut hashes = self.hashes.iter();
        let wrong_length = || BundleError::WrongLength { found: self.hashes.len() };
        let root = fold(0, size, &self.entries, &mut hashes).ok_or_else(wrong_length)?;
        if hashes.next().is_some() { Err(wrong_length()) } else { Ok(root) }
    }

    fn digests(&self) -> Digests {
        let mut entries = Sha256::new();
        for entry in &self.entries {
            entries.update(entry.index.to_be_bytes());
            entries.update(entry.leaf.0);
        }
        let mut hashes = Sha256::new();
        self.hashes.iter().for_each(|hash| hashes.update(hash.0));
        Digests {
            checkpoint: digest(self.checkpoint.as_bytes()),
            entries: HEXLOWER.encode(&entries.finalize()),
            hashes: HEXLOWER.encode(&hashes.finalize()),
            keys: digest(self.keys.get().as_bytes()),
            query: digest(self.manifest.query.get().as_bytes()),
            result: digest(self.manifest.result.get().as_bytes()),
            subject: digest(self.manifest.subject.get().as_bytes()),
            time: digest(self.manifest.time.get().as_bytes()),
            vkey: digest(self.vkey.as_bytes()),
        }
    }

    fn seal_text(&self) -> String {
        let parts = self.manifest.digests.named();
        let lines: String = parts.iter().map(|(part, digest)| format!("{part} {digest}\n")).collect();
        format!("{FORMAT}\n{}\n", digest(lines.as_bytes()))
    }
}

impl Digests {
    fn empty() -> Self {
        let none = String::new;
        Self {
            checkpoint: none(),
            entries: none(),
            hashes: none(),
            keys: none(),
            query: none(),
            result: none(),
            subject: none(),
            time: none(),
            vkey: none(),
        }
    }

    /// The digests by name, sorted.
    fn named(&self) -> [(&'static str, &str); 9] {
        [
            ("checkpoint", &self.checkpoint),
            ("entries", &self.entries),
            ("hashes", &self.hashes),
            ("keys", &self.keys),
            ("query", &self.query),
            ("result", &self.result),
            ("subject", &self.subject),
            ("time", &self.time),
            ("vkey", &self.vkey),
        ]
    }
}

impl fmt::Display for BundleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint { origin, size, .. } = &self.checkpoint;
        write!(f, "{} records are in the log {origin}, under its checkpoint of size {size}; ", self.records)?;
        f.write_str(if self.sealed {
            "the log's key vouches for subject, query, result and time"
        } else {
            "subject, query, result and time are claims of whoever made the bundle"
        })
    }
}

fn entries(source: &impl BundleSource, indexes: &[u64]) -> Result<Vec<Entry>, BuildError> {
    let records = source.records(indexes)?;
    let entry = |(index, record): (&u64, Vec<u8>)| {
        let record = String::from_utf8(record).map_err(|_| BuildError::NotText(*index))?;
        Ok(Entry { index: *index, leaf: leaf_hash(record.as_bytes()), record })
    };
    indexes.iter().zip(records).map(entry).collect()
}

/// Does a work on parts of many things by all processors at once; the results are in the order of the parts.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = items.len().div_ceil(threads).max(LEAST_PART);
    if items.len() <= part {
        return vec![work(items)];
    }
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items.chunks(part).map(|part| scope.spawn(move || work(part))).collect();
        let join = |part: std::thread::ScopedJoinHandle<'_, R>| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        parts.into_iter().map(join).collect()
    })
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}
