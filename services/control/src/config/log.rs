//! Where the log is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use writ_ledger::store::kafka::KafkaOptions;
use zeroize::Zeroizing;

use super::ConfigError;

/// Largest file that a secret is read from.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Settings of librdkafka that are secrets: they are read from files, so that no configuration shows them.
const SECRETS: [&str; 7] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.assertion.private.key.passphrase",
];

/// How the log is kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Where.
    #[serde(default)]
    pub store: Store,
    /// The topic. It may be given while the log is still in files, to move the log there.
    #[serde(default)]
    pub kafka: Option<KafkaConfig>,
}

/// A kind of store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A folder of plain files.
    #[default]
    Files,
    /// A Kafka topic.
    Kafka,
}

/// A topic, and how its brokers are reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask first, each `HOST:PORT`.
    pub brokers: Vec<String>,
    /// The topic, of one partition, for this log alone.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Replicas of the topic, where it has to be made: three by default, or as many as there are brokers.
    #[serde(default)]
    pub replication: Option<i32>,
    /// Seconds to wait for the brokers before a commit's outcome is called unknown, or a start is given up.
    #[serde(default = "default_patience_seconds")]
    pub patience_seconds: u64,
    /// Settings of librdkafka, such as `security.protocol`.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Files with the values of settings that are secrets, such as `sasl.password`.
    #[serde(default)]
    pub secret_files: BTreeMap<String, PathBuf>,
}

fn default_topic() -> String {
    "writ".to_owned()
}

fn default_patience_seconds() -> u64 {
    10
}

impl LogConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let value = |key, problem: String| Err(ConfigError::Value { key, problem });
        let Some(kafka) = &self.kafka else {
            return match self.store {
                Store::Files => Ok(()),
                Store::Kafka => {
                    value("log.kafka", "expected `brokers` and `topic` for log.store = \"kafka\"".to_owned())
                }
            };
        };
        if let Some(secret) = SECRETS.iter().find(|secret| kafka.properties.contains_key(**secret)) {
            let problem = format!(
                "`{secret}` is a secret: write it to a file and name that under log.kafka.secret_files"
            );
            return value("log.kafka.properties", problem);
        }
        if !(1..=300).contains(&kafka.patience_seconds) {
            return value("log.kafka.patience_seconds", "expected 1 to 300".to_owned());
        }
        if kafka.replication.is_some_and(|replicas| !(1..=32).contains(&replicas)) {
            return value("log.kafka.replication", "expected 1 to 32".to_owned());
        }
        let options = kafka.options_with(BTreeMap::new());
        options.check().map_err(|problem| ConfigError::Value { key: "log.kafka", problem })
    }
}

impl KafkaConfig {
    /// Reads the secrets.
    pub(crate) fn options(&self) -> Result<KafkaOptions> {
        let read = |(name, file): (&String, &PathBuf)| Ok((name.clone(), read_secret(file)?));
        let secrets = self.secret_files.iter().map(read).collect::<Result<_>>()?;
        Ok(self.options_with(secrets))
    }

    fn options_with(&self, secrets: BTreeMap<String, Zeroizing<String>>) -> KafkaOptions {
        KafkaOptions {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            name: process_name(),
            replication: self.replication,
            patience: Duration::from_secs(self.patience_seconds),
            properties: self.properties.clone(),
            secrets,
        }
    }
}

/// What others read of this process in the topic.
fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("writd {} on {}", std::process::id(), host.trim())
}

fn read_secret(file: &Path) -> Result<Zeroizing<String>> {
    let cannot = || format!("cannot read the secret in {}", file.display());
    let length = std::fs::metadata(file).with_context(cannot)?.len();
    ensure!(length <= MAX_SECRET_BYTES, "{} is too long for a secret", file.display());
    let text = Zeroizing::new(std::fs::read_to_string(file).with_context(cannot)?);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(log: &str) -> Result<LogConfig, String> {
        let config: LogConfig = toml::from_str(log).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string()).map(|()| config)
    }

    #[test]
    fn a_topic_needs_brokers_and_keeps_secrets_out_of_the_configuration() {
        assert_eq!(parse("").unwrap().store, Store::Files);
        assert!(parse("store = 'kafka'").unwrap_err().contains("log.kafka"));
        let topic = "store = 'kafka'\n[kafka]\nbrokers = ['k:9092']\n";
        assert_eq!(parse(topic).unwrap().kafka.unwrap().topic, "writ");
        let secret = parse(&format!("{topic}properties = {{ 'sasl.password' = 'hunter2' }}")).unwrap_err();
        assert!(secret.contains("secret_files") && !secret.contains("hunter2"), "{secret}");
        let reserved = parse(&format!("{topic}properties = {{ acks = '1' }}")).unwrap_err();
        assert!(reserved.contains("`acks`"), "{reserved}");
        assert!(parse(&format!("{topic}patience_seconds = 0")).unwrap_err().contains("patience"));
    }

    #[test]
    fn a_secret_is_read_without_its_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        assert_eq!(*read_secret(file.path()).unwrap(), "hunter2");
        assert!(read_secret(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }
}
