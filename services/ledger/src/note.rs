//! Signed notes (C2SP signed-note) and the keys that sign and verify them.

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

/// The largest note that is read. A checkpoint with sixteen signatures is under four kilobytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// The most signatures that are read on one note: as many as the specification asks a verifier to accept.
pub const MAX_SIGNATURES: usize = 16;

const ED25519: u8 = 1;
const KEY_FILE_PREFIX: &str = "PRIVATE+KEY+";
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// Why a note is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is larger than [`MAX_NOTE_BYTES`].
    #[error("the note has {0} bytes, more than {MAX_NOTE_BYTES}")]
    TooLarge(usize),
    /// It holds a control character.
    #[error("the note holds a control character at byte {0}")]
    ControlCharacter(usize),
    /// It does not end in a block of signature lines after an empty line.
    #[error("the note has no signature block: an empty line, then lines of \"— name signature\"")]
    NoSignatures,
    /// It has more than [`MAX_SIGNATURES`] signatures.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A signature line is malformed.
    #[error("signature line {0} is malformed: expected \"— name base64\"")]
    BadSignatureLine(usize),
    /// None of the keys asked for signed it.
    #[error("the note is not signed by {0}")]
    UnknownSigner(String),
    /// A signature in the name of a known key is wrong.
    #[error("the signature of {0} is wrong: the note or the signature was altered")]
    WrongSignature(String),
}

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

/// One signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// The key's identifier.
    pub key_id: [u8; 4],
    /// The signature itself.
    pub bytes: Vec<u8>,
}

/// A text with signatures. Parsing checks the form only; [`Note::verify`] checks signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note that nobody has signed yet. The text must end with a line break.
    ///
    /// # Errors
    /// When the text is too large, holds control characters or does not end with a line break.
    pub fn new(text: String) -> Result<Self, NoteError> {
        check_text(&text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::NoSignatures);
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, checked or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature.
    ///
    /// # Errors
    /// When the signer cannot sign.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), SignError> {
        let key = signer.verifier_key();
        let bytes = signer.sign(self.text.as_bytes())?;
        self.signatures.push(NoteSignature { name: key.name().to_owned(), key_id: key.id(), bytes });
        Ok(())
    }

    /// Checks the signatures of these keys, and returns how many of the keys signed. Others are ignored.
    ///
    /// # Errors
    /// When a signature by one of the keys is wrong, or none of them signed.
    pub fn verify(&self, keys: &[&VerifierKey]) -> Result<usize, NoteError> {
        let mut signers = 0;
        for key in keys {
            let mut signed = false;
            let by_key = |s: &&NoteSignature| s.name == key.name && s.key_id == key.id;
            for signature in self.signatures.iter().filter(by_key) {
                if !key.verifies(self.text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::WrongSignature(key.name.clone()));
                }
                signed = true;
            }
            signers += usize::from(signed);
        }
        if signers == 0 {
            let names: Vec<_> = keys.iter().map(|key| key.name()).collect();
            return Err(NoteError::UnknownSigner(names.join(" or ")));
        }
        Ok(signers)
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        check_text(note)?;
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, block) = (&note[..=split], &note[split + 2..]);
        let block = block.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (number, line) in block.split('\n').enumerate() {
            if number == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::BadSignatureLine(number + 1))?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let bytes = [signature.key_id.as_slice(), &signature.bytes].concat();
            writeln!(f, "— {} {}", signature.name, BASE64.encode(&bytes))?;
        }
        Ok(())
    }
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    check_name(name).ok()?;
    let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
    let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
    if bytes.is_empty() {
        return None;
    }
    Some(NoteSignature { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLarge(text.len()));
    }
    match text.find(|c: char| c.is_ascii_control() && c != '\n') {
        Some(at) => Err(NoteError::ControlCharacter(at)),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), KeyError> {
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

    /// The example of Go's `golang.org/x/mod/sumdb/note`.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_signed_by_others_tools_is_verified() {
        let key: VerifierKey = GO_KEY.parse().unwrap();
        assert_eq!(key.to_string(), GO_KEY);
        let note: Note = GO_NOTE.parse().unwrap();
        assert_eq!(note.verify(&[&key]), Ok(1));
        assert_eq!(note.to_string(), GO_NOTE);
        let altered: Note = GO_NOTE.replace("answer", "Answer").parse().unwrap();
        assert_eq!(altered.verify(&[&key]), Err(NoteError::WrongSignature("PeterNeumann".into())));
    }

    #[test]
    fn unknown_signers_are_ignored_and_known_ones_must_be_right() {
        let mut note = Note::new("hello\n".into()).unwrap();
        note.sign(&key(1)).unwrap();
        note.sign(&key(2)).unwrap();
        let note: Note = note.to_string().parse().unwrap();
        assert_eq!(note.verify(&[&key(1).verifier_key()]), Ok(1));
        assert_eq!(note.verify(&[&key(1).verifier_key(), &key(2).verifier_key()]), Ok(2));
        assert!(matches!(note.verify(&[&key(3).verifier_key()]), Err(NoteError::UnknownSigner(_))));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let signature = "— n AAAAAAAA\n";
        for bad in ["", "\n", "text\n", "text\n\n", "text\n\nx\n", "text\n\n— n\n", "text\n\n— n AAAA\n"]
        {
            assert!(bad.parse::<Note>().is_err(), "{bad:?}");
        }
        assert!(format!("text\n\n{signature}").parse::<Note>().is_ok());
        assert!(format!("text\n\n{}", signature.trim_end()).parse::<Note>().is_err());
        assert_eq!(format!("te\rxt\n\n{signature}").parse::<Note>(), Err(NoteError::ControlCharacter(2)));
        assert_eq!(
            format!("text\n\n{}", signature.repeat(MAX_SIGNATURES + 1)).parse::<Note>(),
            Err(NoteError::TooManySignatures)
        );
        assert!(format!("text\n\n{}", signature.repeat(MAX_SIGNATURES)).parse::<Note>().is_ok());
        assert!(matches!("x".repeat(MAX_NOTE_BYTES + 1).parse::<Note>(), Err(NoteError::TooLarge(_))));
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
