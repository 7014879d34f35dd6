//! What a replicated store keeps: the entries of a topic.
//!
//! An entry is text that anybody can read. Its first line is a JSON object that says what it is; the records of a batch
//! follow, one a line:
//!
//! ```text
//! {"entry":"open","v":1,"log":"4fd0…","epoch":3,"writer":"9b1c…","name":"writ-2","origin":"writ.example/corp","size":812,"root":"…"}
//!
//! {"entry":"batch","v":1,"log":"4fd0…","epoch":3,"first":812,"previous_root":"…","count":2}
//! {"v":1,"seq":812,…}
//! {"v":1,"seq":813,…}
//! ```

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::check_record;
use super::{Batch, MAX_COMMIT_BYTES, MAX_COMMIT_RECORDS};
use crate::tree::Hash;

/// The version of the entries that this code writes and reads.
pub const ENTRY_VERSION: u32 = 1;

/// The most bytes of an entry's first line.
const MAX_HEAD_BYTES: usize = 4096;

/// The most bytes of an entry beside its records' own: the first line and the line breaks.
pub const MAX_ENTRY_OVERHEAD: usize = MAX_HEAD_BYTES + MAX_COMMIT_RECORDS;

/// The most bytes of an entry.
pub const MAX_ENTRY_BYTES: usize = MAX_COMMIT_BYTES + MAX_ENTRY_OVERHEAD;

/// The most bytes of a writer's name.
pub const MAX_NAME_BYTES: usize = 255;

/// Sixteen random bytes, written as 32 hexadecimal digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
                bytes.map(Self).ok_or("expected 32 lower-case hexadecimal digits")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id! {
    /// Which log it is: chosen when the log is made, so that a topic that was made anew is not taken for the old one.
    LogId
}
random_id! {
    /// Which writer it is: chosen each time that a process opens the log.
    WriterId
}

/// How often the writer has changed. A newer writer has a higher epoch; the first has 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A writer announces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which log.
    pub log: LogId,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Who.
    pub writer: WriterId,
    /// What an operator calls it: a host's name, say.
    pub name: String,
    /// The log's origin.
    pub origin: String,
    /// The log's size when this was written. For people: nothing hangs on it.
    pub size: u64,
    /// The root at that size. For people, too.
    pub root: Hash,
}

/// What a batch says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHead {
    /// Which log.
    pub log: LogId,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The sequence number of the first record.
    pub first: u64,
    /// The root of the tree before this batch.
    pub previous_root: Hash,
    /// How many records follow.
    pub count: usize,
}

/// An entry of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A writer announces itself.
    Open(Open),
    /// Records: each is one.
    Batch(BatchHead, Vec<&'a [u8]>),
}

/// Why bytes are no entry that this version can judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryProblem {
    /// Nothing that a writer of any version makes.
    Malformed,
    /// An entry of a version that this one does not know, of this log.
    Unknown(LogId, u32),
}

/// The part of the first line that holds for every version.
#[derive(Deserialize)]
struct AnyHead {
    v: u32,
    log: LogId,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
enum Head {
    Open(Versioned<Open>),
    Batch(Versioned<BatchHead>),
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

impl Open {
    /// The bytes of the entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_head(&Head::Open(Versioned { v: ENTRY_VERSION, body: self.clone() }))
    }
}

impl BatchHead {
    /// The bytes of the entry with these records.
    #[must_use]
    pub fn encode(&self, records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = encode_head(&Head::Batch(Versioned { v: ENTRY_VERSION, body: self.clone() }));
        bytes.reserve_exact(records.iter().map(|record| record.len() + 1).sum());
        for record in records {
            bytes.extend_from_slice(record);
            bytes.push(b'\n');
        }
        bytes
    }

    /// What a writer says of a batch.
    #[must_use]
    pub fn of(batch: &Batch<'_>, log: LogId, epoch: Epoch) -> Self {
        let Batch { first, previous_root, records } = *batch;
        Self { log, epoch, first, previous_root, count: records.len() }
    }
}

fn encode_head(head: &Head) -> Vec<u8> {
    // Text and numbers always have a JSON form; an empty line would be ignored by every reader.
    let mut bytes = serde_json::to_vec(head).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl<'a> Entry<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, EntryProblem> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryProblem::Malformed);
        }
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let head = lines.next().filter(|head| head.len() <= MAX_HEAD_BYTES).ok_or(EntryProblem::Malformed)?;
        let any: AnyHead = serde_json::from_slice(head).map_err(|_| EntryProblem::Malformed)?;
        if any.v != ENTRY_VERSION {
            return Err(EntryProblem::Unknown(any.log, any.v));
        }
        // Every line is ended.
        if lines.next_back() != Some(&[]) {
            return Err(EntryProblem::Malformed);
        }
        let records: Vec<&[u8]> = lines.collect();
        match serde_json::from_slice(head).map_err(|_| EntryProblem::Malformed)? {
            Head::Open(Versioned { body, .. })
                if records.is_empty()
                    && body.name.len() <= MAX_NAME_BYTES
                    && body.origin.len() <= MAX_NAME_BYTES =>
            {
                Ok(Self::Open(body))
            }
            Head::Batch(Versioned { body, .. })
                if (1..=MAX_COMMIT_RECORDS).contains(&records.len())
                    && records.len() == body.count
                    && records.iter().all(|record| check_record(record).is_ok()) =>
            {
                Ok(Self::Batch(body, records))
            }
            Head::Open(_) | Head::Batch(_) => Err(EntryProblem::Malformed),
        }
    }
}
