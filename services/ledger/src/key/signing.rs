//! Private keys, and who holds them.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use zeroize::Zeroizing;

use super::{
    CosignerKey, KeyError, NamedKey, Purpose, SignError, VerifierKey, check_name, decode_typed_key, key_id,
};

const KEY_FILE_PREFIX: &str = "PRIVATE+KEY+";
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// A holder of a log's signing key: a file, or a key service.
pub trait Signer: Send + Sync {
    /// The public half.
    fn verifier_key(&self) -> VerifierKey;

    /// Signs a note's text.
    ///
    /// # Errors
    /// When the key cannot be used now.
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// An Ed25519 private key in memory, with its name and purpose. Wiped when dropped; never shown.
struct PrivateKey {
    purpose: Purpose,
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl PrivateKey {
    fn from_seed(purpose: Purpose, name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let seed = Zeroizing::new(seed);
        Ok(Self { purpose, name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(&seed) })
    }

    fn create(purpose: Purpose, path: &Path, name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
        let key = Self::from_seed(purpose, name, *seed)?;
        let file = |source| KeyError::File { path: path.to_owned(), source };
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
        out.write_all(key.to_file_text().as_bytes()).and_then(|()| out.sync_all()).map_err(file)?;
        crate::disk::sync_parent(path).map_err(file)?;
        Ok(key)
    }

    fn from_file_text(purpose: Purpose, text: &str) -> Result<Self, KeyError> {
        let shape = || KeyError::Malformed("expected PRIVATE+KEY+name+hash+base64");
        let mut parts = text.strip_prefix(KEY_FILE_PREFIX).ok_or_else(shape)?.splitn(3, '+');
        let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(shape());
        };
        let key = Self::from_seed(purpose, name, decode_typed_key(purpose, seed)?)?;
        if HEXLOWER.encode(&key_id(purpose, name, &key.key.verifying_key())) != id {
            return Err(KeyError::Malformed("its hash does not belong to its name and key"));
        }
        Ok(key)
    }

    fn to_file_text(&self) -> Zeroizing<String> {
        let mut typed = Zeroizing::new(vec![self.purpose as u8]);
        typed.extend_from_slice(self.key.as_bytes());
        let id = HEXLOWER.encode(&self.public().id);
        let encoded = Zeroizing::new(BASE64.encode(&typed));
        Zeroizing::new(format!("{KEY_FILE_PREFIX}{}+{id}+{}\n", self.name, *encoded))
    }

    fn public(&self) -> NamedKey {
        let key = self.key.verifying_key();
        NamedKey {
            purpose: self.purpose,
            name: self.name.clone(),
            id: key_id(self.purpose, &self.name, &key),
            key,
        }
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// Reads a file that only its owner may read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let file = |source| KeyError::File { path: path.to_owned(), source };
    let input = File::open(path).map_err(file)?;
    let mode = input.metadata().map_err(file)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    input.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map_err(file)?;
    Ok(text)
}

/// A log's private key in memory. Wiped when dropped; never shown.
pub struct SigningKey(PrivateKey);

impl SigningKey {
    /// Makes the key from its 32 secret bytes.
    ///
    /// # Errors
    /// When the name cannot be a key name.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        PrivateKey::from_seed(Purpose::Log, name, seed).map(Self)
    }

    /// Makes a new key and writes it to a new file that only its owner can read.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or the name cannot be a key name.
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyError> {
        PrivateKey::create(Purpose::Log, path, name).map(Self)
    }

    /// Reads a key file (`PRIVATE+KEY+name+hash+base64`, as Go's note tools write it).
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it is no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        PrivateKey::from_file_text(Purpose::Log, read_private(path)?.trim_end()).map(Self)
    }

    /// Reads a key file of either form: one of ours, or PKCS#8 PEM as `openssl genpkey -algorithm ed25519` writes it, which
    /// holds no name and takes this one.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, it is no Ed25519 key, or it has another name.
    pub fn load_named(path: &Path, name: &str) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        let key = if text.starts_with("-----BEGIN") {
            let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&text)
                .map_err(|_| KeyError::Malformed("the PEM file holds no Ed25519 private key in PKCS#8"))?;
            Self::from_seed(name, key.to_bytes())?
        } else {
            Self(PrivateKey::from_file_text(Purpose::Log, text.trim_end())?)
        };
        if key.0.name != name {
            return Err(KeyError::OtherName { found: key.0.name.clone(), expected: name.to_owned() });
        }
        Ok(key)
    }

    /// The public half.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey(self.0.public())
    }
}

impl Signer for SigningKey {
    fn verifier_key(&self) -> VerifierKey {
        SigningKey::verifier_key(self)
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.0.sign(text).to_vec())
    }
}

/// A cosigner's private key in memory, such as a witness's. Wiped when dropped; never shown.
pub struct CosigningKey(PrivateKey);

impl CosigningKey {
    /// Makes the key from its 32 secret bytes.
    ///
    /// # Errors
    /// When the name cannot be a key name.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        PrivateKey::from_seed(Purpose::Cosigner, name, seed).map(Self)
    }

    /// Makes a new key and writes it to a new file that only its owner can read.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or the name cannot be a key name.
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyError> {
        PrivateKey::create(Purpose::Cosigner, path, name).map(Self)
    }

    /// Reads a key file: `PRIVATE+KEY+name+hash+base64` of type 4, so that a log's key is not taken for it.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it is no cosigner's key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        PrivateKey::from_file_text(Purpose::Cosigner, read_private(path)?.trim_end()).map(Self)
    }

    /// The public half.
    #[must_use]
    pub fn cosigner_key(&self) -> CosignerKey {
        CosignerKey(self.0.public())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

macro_rules! shown_without_secret {
    ($($key:ident)*) => {$(
        impl fmt::Debug for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($key), "({}, secret)"), self.0.name)
            }
        }
    )*};
}
shown_without_secret!(SigningKey CosigningKey);

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_key_file_of_one_purpose_is_not_loaded_for_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let (log, witness) = (dir.path().join("log.key"), dir.path().join("witness.key"));
        SigningKey::create(&log, "writ.example/log").unwrap();
        let made = CosigningKey::create(&witness, "writ.example/witness").unwrap();
        assert_eq!(CosigningKey::load(&witness).unwrap().cosigner_key(), made.cosigner_key());
        assert!(matches!(CosigningKey::load(&log), Err(KeyError::OtherPurpose { found: 1, expected: 4 })));
        assert!(matches!(SigningKey::load(&witness), Err(KeyError::OtherPurpose { found: 4, expected: 1 })));
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = SigningKey::from_seed("writ.example/log", [0x5a; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(writ.example/log, secret)");
    }
}
