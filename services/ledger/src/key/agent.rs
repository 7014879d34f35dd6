//! A log's key in the hands of an ssh-agent.
//!
//! The agent protocol (draft-ietf-sshm-ssh-agent) is what hardware and key services already speak on a Unix socket: OpenSSH's
//! own agent with keys on a PKCS#11 token, the agents of TPMs, YubiKeys and secret stores. An Ed25519 signature of an agent is
//! an ordinary one over the bytes that were sent, so the log is the same to everybody. The key cannot be read from the agent.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{SignError, Signer, VerifierKey};

/// How long the agent may take for one message. A commit waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The largest answer that is read. A signature has 83 bytes.
const MAX_ANSWER_BYTES: u32 = 4096;

const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const FAILURE: u8 = 5;
const KEY_TYPE: &[u8] = b"ssh-ed25519";

/// Signs by asking an ssh-agent.
#[derive(Debug)]
pub struct AgentSigner {
    socket: PathBuf,
    key: VerifierKey,
    /// Kept from one signature to the next.
    connection: Mutex<Option<UnixStream>>,
}

impl AgentSigner {
    /// The key with this public half, held by the agent at this socket. One signature is asked for, to see that it is there.
    ///
    /// # Errors
    /// When the agent cannot be reached, does not hold the key, or does not sign with it.
    pub fn connect(socket: &Path, key: VerifierKey) -> Result<Self, SignError> {
        let signer = Self { socket: socket.to_owned(), key, connection: Mutex::new(None) };
        signer.sign(b"writ: is the key there?\n")?;
        Ok(signer)
    }

    /// The key's SSH form, as `ssh-add -L` shows it in base64.
    fn blob(&self) -> Vec<u8> {
        [string(KEY_TYPE), string(self.key.as_bytes())].concat()
    }

    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = connection.as_mut() {
            // The agent may have been started anew since.
            if let Ok(answer) = exchange(stream, request) {
                return Ok(answer);
            }
        }
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let answer = exchange(&mut stream, request);
        *connection = answer.is_ok().then_some(stream);
        answer
    }

    fn unavailable(&self, problem: impl std::fmt::Display) -> SignError {
        SignError::Unavailable(format!("the ssh-agent at {}: {problem}", self.socket.display()))
    }
}

impl Signer for AgentSigner {
    fn verifier_key(&self) -> VerifierKey {
        self.key.clone()
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
        let no_flags = 0_u32.to_be_bytes();
        let request = [&[SIGN_REQUEST], string(&self.blob()).as_slice(), &string(text), &no_flags].concat();
        let answer = self.ask(&request).map_err(|error| self.unavailable(error))?;
        let signature = match answer.split_first() {
            Some((&SIGN_RESPONSE, rest)) => signature(rest),
            Some((&FAILURE, _)) => {
                let problem =
                    format!("it does not sign with the key {} (is it loaded, is it locked?)", self.key);
                return Err(self.unavailable(problem));
            }
            _ => None,
        };
        let signature =
            signature.ok_or_else(|| self.unavailable("it answered what is no Ed25519 signature"))?;
        if !self.key.verifies(text, &signature) {
            return Err(self.unavailable(format!("its signature is not by {}", self.key)));
        }
        Ok(signature)
    }
}

fn exchange(stream: &mut UnixStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&string(request))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_ANSWER_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without end"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The 64 bytes in an answer: a string that holds the key type and the signature, each a string again.
fn signature(answer: &[u8]) -> Option<Vec<u8>> {
    let (blob, _) = split_string(answer)?;
    let (kind, rest) = split_string(blob)?;
    let (signature, _) = split_string(rest)?;
    (kind == KEY_TYPE && signature.len() == 64).then(|| signature.to_vec())
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), bytes].concat()
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
