//! Signed notes (C2SP signed-note): a text and who signed it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;

use crate::key::{SignError, Signer, VerifierKey, check_name};

/// The largest note that is read. Sixteen post-quantum signatures, which every verifier has to accept, have a hundred kilobytes.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;

/// The most signatures that are read on one note. A verifier has to accept 16 (C2SP signed-note), and a trust policy may
/// well name 32 witnesses (C2SP tlog-policy).
pub const MAX_SIGNATURES: usize = 64;

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
        self.signatures.push(signature(signer, &self.text)?);
        Ok(())
    }

    /// Adds a signature that was made elsewhere. It is checked when the note is.
    pub fn add(&mut self, signature: NoteSignature) {
        self.signatures.push(signature);
    }

    /// Takes out the signatures that do not satisfy a condition.
    pub fn retain(&mut self, keep: impl FnMut(&NoteSignature) -> bool) {
        self.signatures.retain(keep);
    }

    /// Checks the signatures of these keys, and returns how many of the keys signed. Others are ignored.
    ///
    /// # Errors
    /// When a signature by one of the keys is wrong, or none of them signed.
    pub fn verify(&self, keys: &[&VerifierKey]) -> Result<usize, NoteError> {
        let mut signers = 0;
        for key in keys {
            let mut signed = false;
            let by_key = |s: &&NoteSignature| s.name == key.name() && s.key_id == key.id();
            for signature in self.signatures.iter().filter(by_key) {
                if !key.verifies(self.text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::WrongSignature(key.name().to_owned()));
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

/// A signature on a note's text.
pub(crate) fn signature(signer: &dyn Signer, text: &str) -> Result<NoteSignature, SignError> {
    let key = signer.verifier_key();
    let bytes = signer.sign(text.as_bytes())?;
    Ok(NoteSignature { name: key.name().to_owned(), key_id: key.id(), bytes })
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        check_text(note)?;
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let signatures = parse_signatures(&note[split + 2..])?;
        Ok(Self { text: note[..=split].to_owned(), signatures })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl fmt::Display for NoteSignature {
    /// The signature line, without its line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.key_id.as_slice(), &self.bytes].concat();
        write!(f, "— {} {}", self.name, BASE64.encode(&bytes))
    }
}

/// Reads lines of signatures, each ended by a line break, as a witness answers them. The number of a malformed line is its
/// error.
pub(crate) fn parse_signatures(block: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let block = block.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
    let mut signatures = Vec::new();
    for (number, line) in block.split('\n').enumerate() {
        if number == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(parse_signature(line).ok_or(NoteError::BadSignatureLine(number + 1))?);
    }
    Ok(signatures)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

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
    fn the_example_of_the_specification_is_verified() {
        let key: VerifierKey =
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let note: Note = "This is an example message.\n\n— example.com/foo \
            Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
            .parse()
            .unwrap();
        assert_eq!(note.verify(&[&key]), Ok(1));
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
}
