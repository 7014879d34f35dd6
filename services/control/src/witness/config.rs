//! How a witness runs: `witness.toml` in its folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use writ_ledger::VerifierKey;

use crate::config::TlsConfig;

/// Largest configuration that is read. The keys of 1,000 logs fit.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The configuration of a witness.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// Where HTTP is served.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The public keys of the logs that are witnessed. While a log changes its key, both stand here.
    #[serde(default)]
    pub logs: Vec<String>,
    /// TLS. Nothing depends on it, since requests and answers are signed: a proxy in front may add it.
    #[serde(default, skip_serializing_if = "TlsConfig::is_unset")]
    pub tls: TlsConfig,
    /// Structured logs as JSON instead of text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_json: bool,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8444))
}

impl Default for WitnessConfig {
    fn default() -> Self {
        Self { listen: default_listen(), logs: Vec::new(), tls: TlsConfig::default(), log_json: false }
    }
}

impl WitnessConfig {
    /// The configuration file in a witness's folder.
    pub fn file(data: &Path) -> PathBuf {
        data.join("witness.toml")
    }

    /// The file of its private key.
    pub fn key_file(data: &Path) -> PathBuf {
        data.join("witness.key")
    }

    /// The folder of what it has cosigned.
    pub fn state_folder(data: &Path) -> PathBuf {
        data.join("cosigned")
    }

    /// Reads the configuration of the witness in a folder.
    pub fn load(data: &Path) -> Result<Self> {
        let path = Self::file(data);
        let name = path.display();
        let length = std::fs::metadata(&path)
            .with_context(|| format!("cannot read {name}: make the witness with `writd witness init`"))?
            .len();
        ensure!(length <= MAX_CONFIG_BYTES, "{name} has more than {MAX_CONFIG_BYTES} bytes");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let config: Self = toml::from_str(&text).with_context(|| name.to_string())?;
        if config.tls.certificate.is_some() != config.tls.key.is_some() {
            bail!("{name}: tls: `certificate` and `key` belong together: give both or neither");
        }
        Ok(config)
    }

    /// The keys of the logs.
    pub fn log_keys(&self) -> Result<Vec<VerifierKey>> {
        let keys = self.logs.iter().map(|text| {
            text.parse().with_context(|| {
                format!("logs: {text:?} is no log key, such as example.org/log+1a2b3c4d+Aa…, which the log's operator publishes")
            })
        });
        keys.collect()
    }
}
