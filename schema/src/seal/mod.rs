//! Sealed fields: personal data in records that never forget.
//!
//! A record holds only ciphertext of a sealed field, under a key derived for this one field of this one record
//! ([`FieldKey`]) from the key of the field's *subject* (a person, a node, the network) and *retention*. Subject keys
//! live in the vault, outside the log. Whoever is entitled to a field gets its key and learns nothing of any other;
//! destroying the subject key makes all of a subject's fields unreadable while every proof still holds.
//!
//! A record names the key by a [`KeyRef`], which tells nobody but the vault whose it is: two records of one person have
//! nothing in common for whoever reads them without keys.
//!
//! The cipher is ChaCha20-Poly1305 (RFC 8439) with the reference as associated data. A field key encrypts once, so the
//! nonce is always zero. What is encrypted is the value as JSON, with spaces behind it up to a
//! [multiple](Sealable::PAD_BYTES), so that a length tells little.

mod keys;
mod subject;

use std::fmt;

use chacha20poly1305::Nonce;
use chacha20poly1305::aead::{Aead, Payload};
use data_encoding::BASE64;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

pub use keys::*;
pub use subject::*;

/// What can stand in a sealed field.
pub trait Sealable: Serialize + DeserializeOwned {
    /// The JSON is padded to a multiple of this many bytes. Ciphertext does not compress, so each of them is stored.
    const PAD_BYTES: usize;
}

/// Most names have fewer than 30 characters, and so all the same length.
impl Sealable for String {
    const PAD_BYTES: usize = 32;
}

/// Where the keys come from when a record is sealed.
pub trait SealingKeys {
    /// The key for a field at this place, and how the record is to name it; `None` if it was destroyed or never made.
    fn sealing_key(&self, of: &(Subject, Retention), place: Place) -> Option<HeldKey>;
}

/// Where the keys come from when a record is opened.
pub trait OpeningKeys {
    /// The key that is named so at this place; `None` if it was destroyed or is not held.
    fn opening_key(&self, key_ref: KeyRef, place: Place) -> Option<OpeningKey>;
}

/// A key that opens a field.
#[derive(Debug, Clone)]
pub struct OpeningKey {
    /// The key.
    pub key: FieldKey,
    /// Whose field it is, and how long it may be read, if that is known here: the vault knows.
    pub of: Option<(Subject, Retention)>,
}

impl OpeningKeys for [HeldKey] {
    fn opening_key(&self, key_ref: KeyRef, _place: Place) -> Option<OpeningKey> {
        let held = self.iter().find(|held| held.key_ref == key_ref)?;
        Some(OpeningKey { key: held.key.clone(), of: None })
    }
}

/// Personal data. In memory it may be open; in a record it is only ever closed: serializing an open field fails.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed<T>(Content<T>);

#[derive(Clone, PartialEq, Eq)]
enum Content<T> {
    Open { value: T, of: Option<(Subject, Retention)> },
    Closed(Closed),
}

/// Why a field could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key: destroyed, or not held by this reader.
    #[error("there is no key for the field `{field}`")]
    NoKey {
        /// Name of the field.
        field: &'static str,
    },
    /// The record has no salt to derive keys with.
    #[error("the record has the sealed field `{field}` and no salt")]
    NoSalt {
        /// Name of the field.
        field: &'static str,
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
        Self(Content::Open { value, of: Some((subject, retention)) })
    }

    /// The value, if the field is open.
    pub fn value(&self) -> Option<&T> {
        match &self.0 {
            Content::Open { value, .. } => Some(value),
            Content::Closed(_) => None,
        }
    }

    /// Whom an open field is about and how long it may be read, if that is known here. A closed field does not tell.
    pub fn of(&self) -> Option<&(Subject, Retention)> {
        match &self.0 {
            Content::Open { of, .. } => of.as_ref(),
            Content::Closed(_) => None,
        }
    }

    /// How a closed field names its key.
    pub fn key_ref(&self) -> Option<KeyRef> {
        match &self.0 {
            Content::Open { .. } => None,
            Content::Closed(closed) => Some(closed.key),
        }
    }
}

impl<T: Sealable> Sealed<T> {
    /// Closes an open field. A closed one stays as it is.
    pub fn close<K: SealingKeys + ?Sized>(&mut self, place: Place, keys: &K) -> Result<(), SealError> {
        let field = place.field;
        let Content::Open { value, of } = &self.0 else { return Ok(()) };
        let held = of.as_ref().and_then(|of| keys.sealing_key(of, place));
        let HeldKey { key_ref, key } = held.ok_or(SealError::NoKey { field })?;
        let mut plain = Zeroizing::new(serde_json::to_vec(value).map_err(|_| SealError::Encoding { field })?);
        let padded = plain.len().next_multiple_of(T::PAD_BYTES);
        plain.resize(padded, b' ');
        let payload = Payload { msg: &plain, aad: key_ref.as_bytes() };
        let sealed = key.cipher().encrypt(&Nonce::default(), payload);
        let sealed = sealed.map_err(|_| SealError::Encoding { field })?;
        self.0 = Content::Closed(Closed { key: key_ref, r#box: BASE64.encode(&sealed) });
        Ok(())
    }

    /// Opens a closed field. An open one stays as it is.
    pub fn open<K: OpeningKeys + ?Sized>(&mut self, place: Place, keys: &K) -> Result<(), SealError> {
        let field = place.field;
        let Content::Closed(Closed { key: key_ref, r#box }) = &self.0 else { return Ok(()) };
        let OpeningKey { key, of } = keys.opening_key(*key_ref, place).ok_or(SealError::NoKey { field })?;
        let altered = || SealError::Altered { field };
        let sealed = BASE64.decode(r#box.as_bytes()).map_err(|_| altered())?;
        let payload = Payload { msg: &sealed, aad: key_ref.as_bytes() };
        let plain = key.cipher().decrypt(&Nonce::default(), payload).map_err(|_| altered())?;
        let value = serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_| altered())?;
        self.0 = Content::Open { value, of };
        Ok(())
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Content::Open { .. } => "Sealed(open)",
            Content::Closed(_) => "Sealed(closed)",
        })
    }
}

/// How a sealed field stands in a record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Sealed")]
struct Closed {
    /// Which key it is under. Only the vault can tell whose key that is.
    key: KeyRef,
    /// ChaCha20-Poly1305 ciphertext and tag, base64.
    r#box: String,
}

impl<T> Serialize for Sealed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Content::Open { .. } => {
                Err(serde::ser::Error::custom("an open personal field must never be written"))
            }
            Content::Closed(closed) => closed.serialize(serializer),
        }
    }
}

impl<'de, T> Deserialize<'de> for Sealed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Closed::deserialize(deserializer).map(|closed| Self(Content::Closed(closed)))
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
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserId;

    const HERE: Place = Place { salt: Salt::from_bytes([1; 12]), field: "login" };

    /// The key of everybody.
    struct OneKey(SubjectKey);

    impl SealingKeys for OneKey {
        fn sealing_key(&self, _: &(Subject, Retention), place: Place) -> Option<HeldKey> {
            Some(HeldKey { key_ref: KeyRef::from_bytes([3; 8]), key: self.0.field_key(place) })
        }
    }

    fn keys() -> OneKey {
        OneKey(SubjectKey::from_bytes([5; 32]))
    }

    fn held(place: Place) -> Vec<HeldKey> {
        keys().sealing_key(&of(), place).into_iter().collect()
    }

    fn of() -> (Subject, Retention) {
        (Subject::User(UserId::from_bytes([1; 16])), Retention::Identity)
    }

    fn open(value: &str) -> Sealed<String> {
        let (subject, retention) = of();
        Sealed::new(subject, retention, value.to_owned())
    }

    fn closed(value: &str) -> Sealed<String> {
        let mut field = open(value);
        field.close(HERE, &keys()).unwrap();
        field
    }

    #[test]
    fn what_is_sealed_opens_with_the_key_of_its_place_only() {
        let mut field = closed("dana@example.com");
        assert_eq!((field.value(), field.of()), (None, None));
        for other in [Place { salt: Salt::from_bytes([2; 12]), ..HERE }, Place { field: "name", ..HERE }] {
            let verdict = field.clone().open(HERE, held(other).as_slice());
            assert_eq!(verdict, Err(SealError::Altered { field: "login" }));
        }
        field.open(HERE, held(HERE).as_slice()).unwrap();
        assert_eq!(field.value().map(String::as_str), Some("dana@example.com"));
    }

    #[test]
    fn a_reference_cannot_be_exchanged() {
        let text = serde_json::to_string(&closed("dana@example.com")).unwrap();
        let other = KeyRef::from_bytes([4; 8]).to_string();
        let altered = text.replace(&KeyRef::from_bytes([3; 8]).to_string(), &other);
        assert_ne!(altered, text);
        let mut field: Sealed<String> = serde_json::from_str(&altered).unwrap();
        let keys = [HeldKey { key_ref: KeyRef::from_bytes([4; 8]), key: keys().0.field_key(HERE) }];
        assert_eq!(field.open(HERE, &keys[..]), Err(SealError::Altered { field: "login" }));
    }

    #[test]
    fn without_a_key_a_field_stays_closed() {
        let verdict = closed("dana@example.com").open(HERE, [].as_slice());
        assert_eq!(verdict, Err(SealError::NoKey { field: "login" }));
    }

    #[test]
    fn an_open_field_is_never_written_nor_printed() {
        let field = open("dana@example.com");
        assert!(serde_json::to_string(&field).is_err());
        assert!(!format!("{field:?}").contains("dana"));
    }

    #[test]
    fn lengths_of_short_values_do_not_differ() {
        let length = |value: &str| serde_json::to_string(&closed(value)).unwrap().len();
        assert_eq!(length("a@b.c"), length("dana@example.com"));
    }
}
