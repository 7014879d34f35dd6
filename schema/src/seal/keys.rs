//! The keys of sealed fields, and how a record names them.
//!
//! Every key of a record is derived for one [`Place`], a field of one record:
//!
//! ```text
//! field key     = HKDF-SHA256(ikm = subject key, salt = record salt, info = "writ/seal/v1\n" field name)
//! key reference = key id XOR HKDF-SHA256(ikm = index key, salt = record salt, info = "writ/key-ref/v1\n" field name)
//! ```
//!
//! The vault gives each subject key a random id and holds the index key, so that it alone can tell from a record which
//! subject key is meant. A pad is used once, since no two places are the same: to everybody else a reference is random
//! bytes, and no two references have anything to do with each other.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use data_encoding::BASE64;
use hkdf::Hkdf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A type that stands in records and messages as base64, and is read without a copy in between.
macro_rules! base64_text {
    ($name:ident, $len:literal, $error:literal) => {
        crate::text::as_text!($name);

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                crate::text::base64(text).map(Self::from_bytes).ok_or($error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// Random bytes of one record that make its keys its own.
///
/// 96 bits: among a billion records two have the same salt with a probability of less than 2⁻³⁶.
#[derive(Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Salt([u8; Salt::BYTES]);

impl Salt {
    /// Bytes of a salt.
    pub const BYTES: usize = 12;

    /// Wraps random bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

base64_text!(Salt, 12, "a salt is base64 of 12 bytes");

/// Where a sealed value stands: a field of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Salt of the record.
    pub salt: Salt,
    /// Name of the field.
    pub field: &'static str,
}

impl Place {
    /// Derives bytes that serve this place and purpose only.
    fn derive<const N: usize>(&self, secret: &[u8; 32], purpose: &str) -> Zeroizing<[u8; N]> {
        let mut derived = Zeroizing::new([0; N]);
        let info = [purpose.as_bytes(), b"\n", self.field.as_bytes()];
        // A key or less is within HKDF's bound of 255 hashes, the only error there is.
        let expanded =
            Hkdf::<Sha256>::new(Some(&self.salt.0), secret).expand_multi_info(&info, &mut *derived);
        debug_assert!(expanded.is_ok());
        derived
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

    /// The key of one field of one record.
    pub fn field_key(&self, place: Place) -> FieldKey {
        FieldKey(place.derive(&self.0, "writ/seal/v1"))
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey(secret)")
    }
}

/// The vault's name for a subject key: random, and never in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KeyRef::BYTES]);

impl KeyId {
    /// Wraps random bytes.
    pub const fn from_bytes(bytes: [u8; KeyRef::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the vault's own storage.
    pub const fn as_bytes(&self) -> &[u8; KeyRef::BYTES] {
        &self.0
    }
}

/// The vault's key to what key references mean. Never leaves the control plane.
#[derive(Clone)]
pub struct IndexKey(Zeroizing<[u8; 32]>);

impl IndexKey {
    /// Wraps 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// How a place names the subject key with this id.
    pub fn key_ref(&self, id: KeyId, place: Place) -> KeyRef {
        KeyRef(self.pad(id.0, place))
    }

    /// Which subject key a place names.
    pub fn key_id(&self, key: KeyRef, place: Place) -> KeyId {
        KeyId(self.pad(key.0, place))
    }

    fn pad(&self, mut bytes: [u8; KeyRef::BYTES], place: Place) -> [u8; KeyRef::BYTES] {
        let pad = place.derive::<{ KeyRef::BYTES }>(&self.0, "writ/key-ref/v1");
        bytes.iter_mut().zip(pad.iter()).for_each(|(byte, pad)| *byte ^= pad);
        bytes
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(secret)")
    }
}

/// How a record names the key of a sealed field: base64 of 8 bytes that mean something to the vault alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct KeyRef([u8; KeyRef::BYTES]);

impl KeyRef {
    /// Bytes of a reference. 64 bits, because every sealed field has one: a vault gives them out at random and looks that
    /// none is given twice.
    pub const BYTES: usize = 8;

    /// Wraps bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, which are the associated data of the field's encryption.
    pub(super) const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

base64_text!(KeyRef, 8, "a key reference is base64 of 8 bytes");

/// The key of one field of one record: what an entitled reader is handed.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct FieldKey(Zeroizing<[u8; 32]>);

impl FieldKey {
    fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

// Never shown, so it has no text of its own outside of a message.
impl TryFrom<String> for FieldKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = crate::text::base64(&text).map(Self::from_bytes);
        bytes.ok_or("a field key is base64 of 32 bytes")
    }
}

impl From<FieldKey> for String {
    fn from(key: FieldKey) -> String {
        BASE64.encode(&key.0[..])
    }
}

impl fmt::Debug for FieldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FieldKey(secret)")
    }
}

/// A field key with the name that its field has for it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HeldKey {
    /// As the sealed field of the record says.
    pub key_ref: KeyRef,
    /// The key.
    pub key: FieldKey,
}

impl HeldKey {
    /// A key of its own out of random bytes, to be forgotten at once: what is sealed under it is erased from the start, and
    /// looks like everything else that was.
    pub fn to_forget(key_ref: [u8; KeyRef::BYTES], key: [u8; 32]) -> Self {
        Self { key_ref: KeyRef::from_bytes(key_ref), key: FieldKey::from_bytes(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place { salt: Salt::from_bytes([1; 12]), field: "source" };

    #[test]
    fn derivations_are_those_of_every_version() {
        // Computed with another program, by RFC 5869: a vault of the first version must open its records for ever.
        let key = SubjectKey::from_bytes([2; 32]).field_key(HERE);
        assert_eq!(String::from(key), "qF3SGsHV2p1aZJKoeAoVXWXSjYb+HI6RCrdBRQsita4=");
        let key_ref = IndexKey::from_bytes([1; 32]).key_ref(KeyId::from_bytes([7; 8]), HERE);
        assert_eq!(key_ref.to_string(), "6qIgbGm8ToQ=");
    }

    #[test]
    fn only_the_index_key_tells_what_a_reference_means() {
        let (ours, theirs) = (IndexKey::from_bytes([1; 32]), IndexKey::from_bytes([2; 32]));
        let id = KeyId::from_bytes([7; 8]);
        assert_eq!(ours.key_id(ours.key_ref(id, HERE), HERE), id);
        assert_ne!(theirs.key_id(ours.key_ref(id, HERE), HERE), id);
    }

    #[test]
    fn one_key_has_another_name_and_another_derived_key_in_every_place() {
        let (index, subject) = (IndexKey::from_bytes([1; 32]), SubjectKey::from_bytes([2; 32]));
        let id = KeyId::from_bytes([7; 8]);
        let other_record = Place { salt: Salt::from_bytes([2; 12]), ..HERE };
        let other_field = Place { field: "login", ..HERE };
        for other in [other_record, other_field] {
            assert_ne!(index.key_ref(id, HERE), index.key_ref(id, other));
            assert_ne!(String::from(subject.field_key(HERE)), String::from(subject.field_key(other)));
        }
    }
}
