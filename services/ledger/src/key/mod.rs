//! The keys that sign and verify notes: a log's, and a cosigner's. They are types of their own, so that one is never
//! taken for the other.

mod agent;
mod error;
mod signing;

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use agent::AgentSigner;
pub use error::{KeyError, SignError};
pub use signing::{CosigningKey, Signer, SigningKey};

const PUBLIC_KEY_BYTES: usize = 32;

/// What a key signs: its signature type (C2SP signed-note).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Purpose {
    /// Notes, such as a log's checkpoints.
    Log = 1,
    /// Cosignatures with a time (C2SP tlog-cosignature).
    Cosigner = 4,
}

/// An Ed25519 public key with its name and purpose.
#[derive(Clone, PartialEq, Eq)]
struct NamedKey {
    purpose: Purpose,
    name: String,
    id: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl NamedKey {
    fn new(purpose: Purpose, name: &str, key: ed25519_dalek::VerifyingKey) -> Result<Self, KeyError> {
        check_name(name)?;
        Ok(Self { purpose, name: name.to_owned(), id: key_id(purpose, name, &key), key })
    }

    fn parse(purpose: Purpose, text: &str) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Malformed("expected name+hash+base64"));
        };
        let key = decode_typed_key(purpose, key)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key)
            .map_err(|_| KeyError::Malformed("the bytes are no Ed25519 public key"))?;
        if key.is_weak() {
            return Err(KeyError::Malformed("the Ed25519 public key is weak: anything would verify"));
        }
        let key = Self::new(purpose, name, key)?;
        if HEXLOWER.encode(&key.id) != id {
            return Err(KeyError::Malformed("its hash does not belong to its name and key"));
        }
        Ok(key)
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.purpose as u8], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id), BASE64.encode(&key))
    }
}

/// A log's public key with its name, written `name+hash+base64` (a *vkey* of type 1).
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey(NamedKey);

/// A cosigner's public key with its name, such as a witness's, written `name+hash+base64` (a *vkey* of type 4).
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerKey(NamedKey);

impl VerifierKey {
    /// Whether this is a signature by this key over `text`. Keys and signatures of small order are refused.
    #[must_use]
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.0.verifies(text, signature)
    }

    /// The key of this name with these bytes.
    ///
    /// # Errors
    /// When the name cannot be a key's, or the bytes are none.
    pub fn from_bytes(name: &str, bytes: &[u8; PUBLIC_KEY_BYTES]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|_| KeyError::Malformed("the bytes are no Ed25519 public key"))?;
        NamedKey::new(Purpose::Log, name, key).map(Self)
    }
}

impl CosignerKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verifies(message, signature)
    }
}

/// What both kinds of public keys have.
macro_rules! named_key {
    ($key:ident, $purpose:expr) => {
        impl $key {
            /// The key's name; for a log's key, the log's origin.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.0.name
            }

            /// The key's identifier in signature lines.
            #[must_use]
            pub fn id(&self) -> [u8; 4] {
                self.0.id
            }

            /// The Ed25519 public key itself.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
                self.0.key.as_bytes()
            }
        }

        impl fmt::Display for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($key), "({})"), self)
            }
        }

        impl FromStr for $key {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                NamedKey::parse($purpose, text).map(Self)
            }
        }
    };
}

named_key!(VerifierKey, Purpose::Log);
named_key!(CosignerKey, Purpose::Cosigner);

pub(crate) fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > 255 || name.contains(bad) {
        return Err(KeyError::BadName(name.to_owned()));
    }
    Ok(())
}

fn decode_typed_key(purpose: Purpose, encoded: &str) -> Result<[u8; PUBLIC_KEY_BYTES], KeyError> {
    let bytes = BASE64
        .decode(encoded.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Malformed("the key is not base64"))?;
    let (found, key) = bytes.split_first().ok_or(KeyError::Malformed("the key is empty"))?;
    if *found != purpose as u8 {
        return Err(KeyError::OtherPurpose { found: *found, expected: purpose as u8 });
    }
    key.try_into().map_err(|_| KeyError::Malformed("an Ed25519 key has 32 bytes"))
}

fn key_id(purpose: Purpose, name: &str, key: &ed25519_dalek::VerifyingKey) -> [u8; 4] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', purpose as u8])
        .chain_update(key.as_bytes())
        .finalize()
        .into();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_keys_are_refused() {
        let good = SigningKey::from_seed("writ.example/log", [1; 32]).unwrap().verifier_key().to_string();
        assert!(good.parse::<VerifierKey>().is_ok());
        for bad in ["", "a", "a+b", "a+00000000+AAAA", &good[1..], &good[..good.len() - 4]] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
        assert!(matches!(SigningKey::from_seed("a b", [0; 32]), Err(KeyError::BadName(_))));
        assert!(matches!(SigningKey::from_seed("a+b", [0; 32]), Err(KeyError::BadName(_))));
    }

    #[test]
    fn a_key_of_one_purpose_is_not_one_of_the_other() {
        let log = SigningKey::from_seed("writ.example/log", [1; 32]).unwrap().verifier_key();
        let cosigner = CosigningKey::from_seed("writ.example/log", [1; 32]).unwrap().cosigner_key();
        assert_eq!(log.as_bytes(), cosigner.as_bytes());
        assert_ne!(log.id(), cosigner.id());
        assert_eq!(cosigner.to_string().parse::<CosignerKey>().unwrap(), cosigner);
        let refused = log.to_string().parse::<CosignerKey>().unwrap_err().to_string();
        assert!(refused.contains("a log's key (type 1)") && refused.contains("a cosigner's"), "{refused}");
        let refused = cosigner.to_string().parse::<VerifierKey>().unwrap_err().to_string();
        assert!(refused.contains("a cosigner's key (type 4)"), "{refused}");
    }
}
