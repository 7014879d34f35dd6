//! Sealed fields: personal data in records that never forget.
//!
//! A record holds only ciphertext of a sealed field. Its key is derived for this one record,
//!
//! ```text
//! record key = HKDF-SHA256(ikm = subject key, salt = record salt, info = "writ/seal/v1")
//! ```
//!
//! from the key of the field's *subject* (a person, a node, the network) and *retention*. Subject keys live in the
//! vault, outside the log. Whoever is entitled to one record gets the record key and learns nothing of any other
//! record; destroying the subject key makes all of a subject's fields unreadable while every proof still holds.
//!
//! Each field of a record is encrypted with ChaCha20-Poly1305 (RFC 8439) under the record key, the field's name and
//! position as nonce and associated data; a record key is used for no other record, so no nonce repeats.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use data_encoding::BASE64;
use hkdf::Hkdf;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{AdminId, NetworkId, NodeId, UserId};

/// Plaintexts are padded with spaces to a multiple of this, so that a length tells little of a name.
const PAD_BYTES: usize = 32;

/// Whom a sealed field is about, and so whose key it is under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A node that belongs to no person.
    Node(NodeId),
    /// A local administrator.
    Admin(AdminId),
    /// The network itself: texts that are confidential but about nobody in particular.
    Network(NetworkId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Node(id) => id.fmt(f),
            Self::Admin(id) => id.fmt(f),
            Self::Network(id) => id.fmt(f),
        }
    }
}

/// How long a sealed field may be read: until its subject is erased, or until its quarter lapses as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// As long as the subject exists: names, policy texts.
    Identity,
    /// Connection records of one calendar quarter (UTC), for example `2026q4`.
    Connections(Quarter),
}

/// A calendar quarter in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Quarter {
    year: i16,
    quarter: i8,
}

impl Quarter {
    /// The quarter that a moment falls into.
    pub fn of(time: jiff::Timestamp) -> Self {
        let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        Self { year: date.year(), quarter: (date.month() - 1) / 3 + 1 }
    }
}

impl fmt::Display for Quarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}q{}", self.year, self.quarter)
    }
}

impl From<Quarter> for String {
    fn from(quarter: Quarter) -> String {
        quarter.to_string()
    }
}

impl TryFrom<String> for Quarter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('q').and_then(|(year, quarter)| {
            Some(Self { year: year.parse().ok()?, quarter: quarter.parse().ok()? })
        });
        match parsed {
            Some(q) if (1..=4).contains(&q.quarter) && q.to_string() == text => Ok(q),
            _ => Err(format!("`{text}` is not a quarter such as 2026q4")),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Connections(quarter) => write!(f, "connections/{quarter}"),
        }
    }
}

/// Random bytes of one record that make its record keys its own.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Salt([u8; 16]);

impl Salt {
    /// Wraps 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> String {
        BASE64.encode(&salt.0)
    }
}

impl TryFrom<String> for Salt {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64.decode(text.as_bytes()).ok().and_then(|b| b.try_into().ok());
        bytes.map(Self).ok_or("a salt is base64 of 16 bytes")
    }
}

/// The vault's key of one subject and retention. Never leaves the control plane.
#[derive(Clone)]
pub struct SubjectKey(Zeroizing<[u8; 32]>);

impl SubjectKey {
    /// Wraps 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the vault's own storage.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of one record.
    pub fn record_key(&self, salt: &Salt) -> RecordKey {
        let mut key = Zeroizing::new([0; 32]);
        // 32 bytes are within HKDF's bound of 255 hashes, the only error there is.
        let expanded = Hkdf::<Sha256>::new(Some(&salt.0), &*self.0).expand(b"writ/seal/v1", &mut *key);
        debug_assert!(expanded.is_ok());
        RecordKey(key)
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey(secret)")
    }
}

/// The key of one subject's fields in one record: what an entitled reader is handed.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RecordKey(Zeroizing<[u8; 32]>);

impl RecordKey {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(secret)")
    }
}

impl From<RecordKey> for String {
    fn from(key: RecordKey) -> String {
        BASE64.encode(&*key.0)
    }
}

impl TryFrom<String> for RecordKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64.decode(text.as_bytes()).ok().and_then(|b| b.try_into().ok());
        bytes.map(|b| Self(Zeroizing::new(b))).ok_or("a record key is base64 of 32 bytes")
    }
}

/// A record key with what it opens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HeldKey {
    /// Whose fields.
    pub subject: Subject,
    /// Of which retention.
    pub retention: Retention,
    /// The key.
    pub key: RecordKey,
}

/// Where record keys come from when a record is sealed or opened.
pub trait RecordKeys {
    /// The key of this subject's fields in the record with this salt; `None` if it was destroyed or is not held.
    fn record_key(&self, subject: &Subject, retention: &Retention, salt: &Salt) -> Option<RecordKey>;
}

impl RecordKeys for [HeldKey] {
    fn record_key(&self, subject: &Subject, retention: &Retention, _salt: &Salt) -> Option<RecordKey> {
        self.iter()
            .find(|held| held.subject == *subject && held.retention == *retention)
            .map(|held| held.key.clone())
    }
}

/// Personal data. In memory it may be open; in a record it is only ever closed: serializing an open field fails.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed<T> {
    subject: Subject,
    retention: Retention,
    content: Content<T>,
}

#[derive(Clone, PartialEq, Eq)]
enum Content<T> {
    Open(T),
    Closed(String),
}

/// Why a field could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key: destroyed, or not held by this reader.
    #[error("no key for {subject} ({retention})")]
    NoKey {
        /// Whose key is missing.
        subject: Subject,
        /// Of which retention.
        retention: Retention,
    },
    /// The ciphertext is not what was sealed under this key in this field of this record.
    #[error("the sealed field `{field}` was altered, or its key is of another record")]
    Altered {
        /// Name of the field.
        field: &'static str,
    },
    /// The value cannot be written as JSON.
    #[error("the field `{field}` cannot be written as JSON")]
    Encoding {
        /// Name of the field.
        field: &'static str,
    },
}

impl<T> Sealed<T> {
    /// An open field that will be sealed under the key of this subject and retention.
    pub fn new(subject: Subject, retention: Retention, value: T) -> Self {
        Self { subject, retention, content: Content::Open(value) }
    }

    /// The value, if the field is open.
    pub fn value(&self) -> Option<&T> {
        match &self.content {
            Content::Open(value) => Some(value),
            Content::Closed(_) => None,
        }
    }

    /// Whom the field is about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// How long it may be read.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }
}

impl<T: Serialize + DeserializeOwned> Sealed<T> {
    /// Closes an open field. A closed one stays as it is.
    pub fn close<K: RecordKeys + ?Sized>(
        &mut self,
        field: &'static str,
        salt: &Salt,
        keys: &K,
    ) -> Result<(), SealError> {
        let Content::Open(value) = &self.content else { return Ok(()) };
        let mut plain = Zeroizing::new(serde_json::to_vec(value).map_err(|_| SealError::Encoding { field })?);
        let padded = plain.len().next_multiple_of(PAD_BYTES);
        plain.resize(padded, b' ');
        let associated = self.associated(field);
        let payload = Payload { msg: &plain, aad: associated.as_bytes() };
        let cipher = self.key(salt, keys)?.cipher();
        let sealed = cipher.encrypt(&nonce(field), payload).map_err(|_| SealError::Encoding { field })?;
        self.content = Content::Closed(BASE64.encode(&sealed));
        Ok(())
    }

    /// Opens a closed field. An open one stays as it is.
    pub fn open<K: RecordKeys + ?Sized>(
        &mut self,
        field: &'static str,
        salt: &Salt,
        keys: &K,
    ) -> Result<(), SealError> {
        let Content::Closed(text) = &self.content else { return Ok(()) };
        let sealed = BASE64.decode(text.as_bytes()).map_err(|_| SealError::Altered { field })?;
        let associated = self.associated(field);
        let payload = Payload { msg: &sealed, aad: associated.as_bytes() };
        let cipher = self.key(salt, keys)?.cipher();
        let plain = cipher.decrypt(&nonce(field), payload).map_err(|_| SealError::Altered { field })?;
        let plain = Zeroizing::new(plain);
        self.content =
            Content::Open(serde_json::from_slice(&plain).map_err(|_| SealError::Altered { field })?);
        Ok(())
    }

    fn key<K: RecordKeys + ?Sized>(&self, salt: &Salt, keys: &K) -> Result<RecordKey, SealError> {
        keys.record_key(&self.subject, &self.retention, salt).ok_or_else(|| SealError::NoKey {
            subject: self.subject.clone(),
            retention: self.retention.clone(),
        })
    }

    fn associated(&self, field: &str) -> String {
        format!("{field}\n{}\n{}", self.subject, self.retention)
    }
}

/// A record key encrypts each named field once, so the name alone makes the nonce unique under it.
fn nonce(field: &str) -> Nonce {
    let digest = Sha256::digest(field.as_bytes());
    *Nonce::from_slice(&digest[..12])
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({}, {})", self.subject, self.retention)
    }
}

/// How a sealed field stands in a record.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Sealed")]
struct Closed {
    /// Whose key it is under.
    subject: Subject,
    /// How long that key lives.
    retention: Retention,
    /// ChaCha20-Poly1305 ciphertext and tag, base64.
    r#box: String,
}

impl<T> Serialize for Sealed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            Content::Open(_) => {
                Err(serde::ser::Error::custom("an open personal field must never be written"))
            }
            Content::Closed(text) => {
                let (subject, retention) = (self.subject.clone(), self.retention.clone());
                Closed { subject, retention, r#box: text.clone() }.serialize(serializer)
            }
        }
    }
}

impl<'de, T> Deserialize<'de> for Sealed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Closed { subject, retention, r#box } = Closed::deserialize(deserializer)?;
        Ok(Self { subject, retention, content: Content::Closed(r#box) })
    }
}

impl<T> JsonSchema for Sealed<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sealed".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Closed::json_schema(generator)
    }
}

/// Something that is done to every sealed field of an event: closing, opening, collecting subjects.
pub trait SealVisitor {
    /// Called once for each field, with its name.
    fn visit<T: Serialize + DeserializeOwned>(&mut self, field: &'static str, sealed: &mut Sealed<T>);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SubjectKey {
        SubjectKey::from_bytes([5; 32])
    }

    fn keys(salt: &Salt) -> Vec<HeldKey> {
        vec![HeldKey { subject: subject(), retention: Retention::Identity, key: key().record_key(salt) }]
    }

    fn subject() -> Subject {
        Subject::User(UserId::from_bytes([1; 16]))
    }

    fn closed(salt: &Salt) -> Sealed<String> {
        let mut field = Sealed::new(subject(), Retention::Identity, "dana@example.com".to_owned());
        field.close("login", salt, keys(salt).as_slice()).unwrap();
        field
    }

    #[test]
    fn what_is_sealed_opens_with_the_records_key_only() {
        let (salt, other) = (Salt::from_bytes([1; 16]), Salt::from_bytes([2; 16]));
        let mut field = closed(&salt);
        assert_eq!(field.value(), None);
        assert_eq!(
            field.clone().open("login", &salt, keys(&other).as_slice()),
            Err(SealError::Altered { field: "login" })
        );
        assert_eq!(
            field.clone().open("name", &salt, keys(&salt).as_slice()),
            Err(SealError::Altered { field: "name" })
        );
        field.open("login", &salt, keys(&salt).as_slice()).unwrap();
        assert_eq!(field.value().map(String::as_str), Some("dana@example.com"));
    }

    #[test]
    fn without_a_key_a_field_stays_closed() {
        let salt = Salt::from_bytes([1; 16]);
        let verdict = closed(&salt).open("login", &salt, [].as_slice());
        assert_eq!(verdict, Err(SealError::NoKey { subject: subject(), retention: Retention::Identity }));
    }

    #[test]
    fn an_open_field_is_never_written_nor_printed() {
        let field = Sealed::new(subject(), Retention::Identity, "dana@example.com".to_owned());
        assert!(serde_json::to_string(&field).is_err());
        assert!(!format!("{field:?}").contains("dana"));
    }

    #[test]
    fn lengths_of_short_values_do_not_differ() {
        let salt = Salt::from_bytes([1; 16]);
        let mut short = Sealed::new(subject(), Retention::Identity, "a@b.c".to_owned());
        short.close("login", &salt, keys(&salt).as_slice()).unwrap();
        let length = |f: &Sealed<String>| serde_json::to_string(f).unwrap().len();
        assert_eq!(length(&short), length(&closed(&salt)));
    }

    #[test]
    fn quarters_are_those_of_the_calendar() {
        let quarter = Quarter::of("2026-11-23T08:00:00Z".parse().unwrap());
        assert_eq!(quarter.to_string(), "2026q4");
        assert_eq!(Quarter::try_from("2026q4".to_owned()), Ok(quarter));
        for bad in ["2026q5", "2026", "26q1", "2026q+1"] {
            assert!(Quarter::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
