//! Who holds the log's signing key: a file, or an ssh-agent before whatever a firm keeps keys in.
//!
//! While the key is being changed, the next one lies beside it as `log.key.next`. It is made before the change is recorded
//! and takes the place of the old one afterwards; a start in between finishes what was begun.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use writ_ledger::{AgentSigner, Note, Signer, SigningKey, VerifierKey};

use crate::config::{Config, ConfigError};

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

/// The keys that a start finds.
pub struct Keys {
    /// The one to open the log with.
    pub present: Box<dyn Signer>,
    /// One that a change of the key has left behind, unfinished.
    pub next: Option<Box<dyn Signer>>,
}

/// Finds the log's key. If the change to a next one has come so far that the log is signed by it, the change is finished.
pub fn find(config: &Config) -> Result<Keys> {
    let (file, next) = (config.log_key_file(), config.next_log_key_file());
    let origin = origin(config);
    if next.exists() && config.log_key.ssh_agent.is_none() && config.log_key.file.is_none() {
        let next_key = SigningKey::load(&next).with_context(|| format!("cannot use {}", next.display()))?;
        if has_signed(config, &next_key.verifier_key()) {
            promote(config)?;
            return Ok(Keys { present: Box::new(next_key), next: None });
        }
        let present =
            config.log_key.open(&file, origin.as_deref()).context("cannot use the log's signing key")?;
        return Ok(Keys { present, next: Some(Box::new(next_key)) });
    }
    let present =
        config.log_key.open(&file, origin.as_deref()).context("cannot use the log's signing key")?;
    Ok(Keys { present, next: None })
}

/// Makes the next key, unless an unfinished change has made it.
pub fn make_next(config: &Config, origin: &str) -> Result<Box<dyn Signer>> {
    let next = config.next_log_key_file();
    let key = if next.exists() { SigningKey::load(&next)? } else { SigningKey::create(&next, origin)? };
    Ok(Box::new(key))
}

/// Puts the next key in the place of the old one, which is gone then.
pub fn promote(config: &Config) -> Result<()> {
    let (file, next) = (config.log_key_file(), config.next_log_key_file());
    fs::rename(&next, &file)
        .with_context(|| format!("cannot rename {} to {}", next.display(), file.display()))?;
    let folder = fs::File::open(&config.data).and_then(|folder| folder.sync_all());
    folder.with_context(|| format!("cannot make the new {} durable", file.display()))
}

/// The origin in the log's checkpoint, also while the log is being moved.
fn origin(config: &Config) -> Option<String> {
    let folders = [config.log_dir(), config.data.join("log.new")];
    let text = folders.iter().find_map(|folder| fs::read_to_string(folder.join("checkpoint")).ok())?;
    text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
}

fn has_signed(config: &Config, key: &VerifierKey) -> bool {
    let text = fs::read_to_string(config.log_dir().join("checkpoint")).unwrap_or_default();
    text.parse::<Note>().is_ok_and(|note| note.verify(&[key]).is_ok())
}
