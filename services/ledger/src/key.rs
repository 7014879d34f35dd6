//! The keys that sign and verify notes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const ED25519: u8 = 1;
const KEY_FILE_PREFIX: &str = "PRIVATE+KEY+";
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// Why a key is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or has a space, a plus sign or a control character.
    #[error("the key name {0:?} must be non-empty, without spaces, control characters and '+'")]
    BadName(String),
    /// The text is not a key.
    #[error("not a key: {0}")]
    Malformed(&'static str),
    /// The key's algorithm is not one that is supported.
    #[error("key algorithm {0} is not supported: only Ed25519 (1) is")]
    UnsupportedAlgorithm(u8),
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

/// A holder of a signing key: a file, later a key service.
pub trait Signer: Send + Sync {
    /// The public half.
    fn verifier_key(&self) -> VerifierKey;

    /// Signs a note's text.
    ///
    /// # Errors
    /// When the key cannot be used now.
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A public key with its name, written `name+hash+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, key: ed25519_dalek::VerifyingKey) -> Result<Self, KeyError> {
        check_name(name)?;
        let id = key_id(name, &key);
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// The key's name; for a log's key, the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's identifier in signature lines.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether this is a signature by this key over `text`. Keys and signatures of small order are refused.
    #[must_use]
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(text, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id), BASE64.encode(&key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Malformed("expected name+hash+base64"));
        };
        let key = decode_typed_key(key)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key)
            .map_err(|_| KeyError::Malformed("the bytes are no Ed25519 public key"))?;
        if key.is_weak() {
            return Err(KeyError::Malformed("the Ed25519 public key is weak: anything would verify"));
        }
        let key = Self::new(name, key)?;
        if HEXLOWER.encode(&key.id) != id {
            return Err(KeyError::Malformed("its hash does not belong to its name and key"));
        }
        Ok(key)
    }
}

/// A private key in memory. Wiped when dropped; never shown.
pub struct SigningKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes the key from its 32 secret bytes.
    ///
    /// # Errors
    /// When the name cannot be a key name.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let seed = Zeroizing::new(seed);
        Ok(Self { name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(&seed) })
    }

    /// Makes a new key and writes it to a new file that only its owner can read.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or the name cannot be a key name.
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
        let key = Self::from_seed(name, *seed)?;
        let file = |source| KeyError::File { path: path.to_owned(), source };
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
        out.write_all(key.to_file_text().as_bytes()).and_then(|()| out.sync_all()).map_err(file)?;
        crate::disk::sync_parent(path).map_err(file)?;
        Ok(key)
    }

    /// Reads a key file (`PRIVATE+KEY+name+hash+base64`, as Go's note tools write it).
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it is no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.to_owned(), source };
        let input = File::open(path).map_err(file)?;
        let mode = input.metadata().map_err(file)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        input.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map_err(file)?;
        Self::from_file_text(text.trim_end())
    }

    fn from_file_text(text: &str) -> Result<Self, KeyError> {
        let shape = KeyError::Malformed("expected PRIVATE+KEY+name+hash+base64");
        let mut parts = text.strip_prefix(KEY_FILE_PREFIX).ok_or(shape)?.splitn(3, '+');
        let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Malformed("expected PRIVATE+KEY+name+hash+base64"));
        };
        let key = Self::from_seed(name, decode_typed_key(seed)?)?;
        if HEXLOWER.encode(&key_id(name, &key.key.verifying_key())) != id {
            return Err(KeyError::Malformed("its hash does not belong to its name and key"));
        }
        Ok(key)
    }

    fn to_file_text(&self) -> Zeroizing<String> {
        let mut typed = Zeroizing::new(vec![ED25519]);
        typed.extend_from_slice(self.key.as_bytes());
        let id = HEXLOWER.encode(&key_id(&self.name, &self.key.verifying_key()));
        let encoded = Zeroizing::new(BASE64.encode(&typed));
        Zeroizing::new(format!("{KEY_FILE_PREFIX}{}+{id}+{}\n", self.name, *encoded))
    }

    /// The public half.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        let key = self.key.verifying_key();
        VerifierKey { name: self.name.clone(), id: key_id(&self.name, &key), key }
    }
}

impl Signer for SigningKey {
    fn verifier_key(&self) -> VerifierKey {
        SigningKey::verifier_key(self)
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.key.sign(text).to_bytes().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret)", self.name)
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > 255 || name.contains(bad) {
        return Err(KeyError::BadName(name.to_owned()));
    }
    Ok(())
}

fn decode_typed_key(encoded: &str) -> Result<[u8; 32], KeyError> {
    let bytes = BASE64
        .decode(encoded.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Malformed("the key is not base64"))?;
    let (algorithm, key) = bytes.split_first().ok_or(KeyError::Malformed("the key is empty"))?;
    if *algorithm != ED25519 {
        return Err(KeyError::UnsupportedAlgorithm(*algorithm));
    }
    key.try_into().map_err(|_| KeyError::Malformed("an Ed25519 key has 32 bytes"))
}

fn key_id(name: &str, key: &ed25519_dalek::VerifyingKey) -> [u8; 4] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(key.as_bytes())
        .finalize()
        .into();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed("writ.example/log", [byte; 32]).unwrap()
    }

    #[test]
    fn a_key_file_is_private_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.key");
        let made = SigningKey::create(&path, "writ.example/log").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().verifier_key(), made.verifier_key());
        assert!(matches!(SigningKey::create(&path, "other"), Err(KeyError::File { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", key(0x5a));
        assert_eq!(shown, "SigningKey(writ.example/log, secret)");
    }

    #[test]
    fn malformed_keys_are_refused() {
        let good = key(1).verifier_key().to_string();
        assert!(good.parse::<VerifierKey>().is_ok());
        for bad in ["", "a", "a+b", "a+00000000+AAAA", &good[1..], &good[..good.len() - 4]] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
        assert!(matches!(SigningKey::from_seed("a b", [0; 32]), Err(KeyError::BadName(_))));
        assert!(matches!(SigningKey::from_seed("a+b", [0; 32]), Err(KeyError::BadName(_))));
    }
}
