//! Where the log's signing key is.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use writ_ledger::{AgentSigner, Signer, SigningKey, VerifierKey};

use super::ConfigError;

/// Where the log's key is. Without anything, it is the file `log.key` in the data folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeyConfig {
    /// A key file: ours, or PKCS#8 PEM as `openssl genpkey -algorithm ed25519` writes it.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Socket of an ssh-agent that holds the key.
    #[serde(default)]
    pub ssh_agent: Option<PathBuf>,
    /// The public key. An agent is asked for it by this; of a file it is checked.
    #[serde(default)]
    pub vkey: Option<String>,
}

impl LogKeyConfig {
    /// Whether it makes sense.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |problem: &str| Err(ConfigError::Value { key: "log_key", problem: problem.to_owned() });
        match (&self.file, &self.ssh_agent, &self.vkey) {
            (Some(_), Some(_), _) => wrong("`file` and `ssh_agent` exclude each other"),
            (_, Some(_), None) => wrong("`ssh_agent` needs `vkey`, the public key (name+hash+base64)"),
            _ => match self.verifier_key() {
                Ok(_) => Ok(()),
                Err(error) => wrong(&format!("`vkey`: {error}")),
            },
        }
    }

    fn verifier_key(&self) -> Result<Option<VerifierKey>, writ_ledger::KeyError> {
        self.vkey.as_deref().map(str::parse).transpose()
    }

    /// The key. A PEM file takes its name from the public key, or else this origin.
    pub fn open(&self, default: &Path, origin: Option<&str>) -> Result<Box<dyn Signer>> {
        let expected = self.verifier_key()?;
        let signer: Box<dyn Signer> = match (&self.ssh_agent, &expected) {
            (Some(socket), Some(key)) => Box::new(AgentSigner::connect(socket, key.clone())?),
            _ => {
                let path = self.file.as_deref().unwrap_or(default);
                let origin = expected.as_ref().map(VerifierKey::name).or(origin);
                Box::new(match origin {
                    Some(name) => SigningKey::load_named(path, name)?,
                    None => SigningKey::load(path)?,
                })
            }
        };
        if let Some(expected) = expected.filter(|expected| *expected != signer.verifier_key()) {
            bail!("the log's key is {}, but `log_key.vkey` says {expected}", signer.verifier_key());
        }
        Ok(signer)
    }
}
