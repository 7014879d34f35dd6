//! Where the log is kept: in files, or in a Kafka topic of which the log's folder is then a copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use writ_ledger::store::kafka::{KafkaLog, KafkaOptions};
use writ_ledger::store::{Copied, StoreError, copy_log};
use writ_ledger::{CheckpointError, FileLog, Log, LogKeys, NoteError, OpenError, Signer, verify_log};
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError};
use crate::log_key;

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
    fn options(&self) -> Result<KafkaOptions> {
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

/// Opens the log for writing.
pub fn open(config: &Config, signer: Box<dyn Signer>) -> Result<Log> {
    open_by(config, signer, KafkaLog::open)
}

/// Opens the log for reading, while nothing in this folder writes: no other process is shut out.
pub fn open_to_read(config: &Config, signer: Box<dyn Signer>) -> Result<Log> {
    open_by(config, signer, KafkaLog::follow)
}

type OpenTopic = fn(&Path, Box<dyn Signer>, &KafkaOptions) -> Result<Log, OpenError>;

fn open_by(config: &Config, signer: Box<dyn Signer>, open_topic: OpenTopic) -> Result<Log> {
    let dir = config.log_dir();
    let held = holding(&dir);
    let log = match config.log.store {
        Store::Files if held == Some(Store::Kafka) => bail!(
            "{} is the copy of a Kafka topic, but log.store is \"files\": set log.store = \"kafka\", or bring the log back \
             with `writd log move --to files`",
            dir.display()
        ),
        Store::Kafka if held == Some(Store::Files) => bail!(
            "{} holds the log in files, but log.store is \"kafka\": move the log there first, with `writd log move --to \
             kafka`",
            dir.display()
        ),
        Store::Files => FileLog::open(&dir, signer),
        Store::Kafka => {
            let options = kafka(config)?.options()?;
            for caution in KafkaLog::settings(&options)?.cautions() {
                tracing::warn!(topic = options.topic, "{caution}");
            }
            open_topic(&dir, signer, &options)
        }
    };
    let context = || format!("cannot open the log in {}", dir.display());
    match &log {
        Err(OpenError::Checkpoint {
            source: CheckpointError::Note(NoteError::UnknownSigner(ours)), ..
        }) => {
            let advice = format!(
                "its checkpoint is not signed by {ours}, which is the key here. A copy from before the log's key was changed can be \
                 gone on with by the key of that time alone: put that one back as `log_key`, or restore a copy from after the \
                 change. `writ log verify` checks either"
            );
            log.context(advice).with_context(context)
        }
        _ => log.with_context(context),
    }
}

fn kafka(config: &Config) -> Result<&KafkaConfig> {
    config
        .log
        .kafka
        .as_ref()
        .context("there is no table [log.kafka] in the configuration: it names the topic")
}

/// What kind of log a folder holds, if any.
fn holding(dir: &Path) -> Option<Store> {
    match (KafkaLog::is_copy(dir), dir.join("segments").is_dir()) {
        (true, _) => Some(Store::Kafka),
        (false, true) => Some(Store::Files),
        (false, false) => None,
    }
}

/// What moving the log did.
#[derive(Debug)]
pub struct Moved {
    /// What both stores hold.
    pub copied: Copied,
    /// Where the folder of the store that was left is now.
    pub left: PathBuf,
}

/// Moves the log into the other store: all records are copied and verified, then the folders change places. The old one is
/// kept. A move that was interrupted goes on from where it was.
pub fn move_to(config: &Config, target: Store) -> Result<Moved> {
    let (dir, new, left) = (config.log_dir(), config.data.join("log.new"), config.data.join("log.left"));
    if !dir.exists() && holding(&new) == Some(target) && left.exists() {
        // It was interrupted between the last two steps.
        let copied = verified(config, &new)?;
        std::fs::rename(&new, &dir).with_context(|| format!("cannot rename {}", new.display()))?;
        return Ok(Moved { copied, left });
    }
    let source = holding(&dir).with_context(|| format!("there is no log in {}", dir.display()))?;
    ensure!(source != target, "the log in {} is kept there already: nothing was done", dir.display());
    ensure!(
        !left.exists(),
        "{} is there, from a move before: remove it, or put it elsewhere, then move again",
        left.display()
    );
    let options = kafka(config)?.options()?;
    let from = match source {
        Store::Files => FileLog::open(&dir, signing_key(config)?)?,
        // As its writer, so that nobody adds anything to it meanwhile.
        Store::Kafka => KafkaLog::open(&dir, signing_key(config)?, &options)?,
    };
    let mut to = match target {
        Store::Files if holding(&new).is_some() => FileLog::open(&new, signing_key(config)?)?,
        Store::Files => FileLog::create(&new, signing_key(config)?)?,
        Store::Kafka => open_new_topic(config, &new, &options)?,
    };
    copy_log(from.reader(), &mut to)
        .context("the log was not moved; what was copied stays, and moving again goes on from there")?;
    LogKeys::kept(&dir)?.iter().try_for_each(|rotation| to.keep_rotation(rotation))?;
    drop(to);
    writ_ledger::cosigned::copy_cosigned(&dir, &new)
        .with_context(|| format!("cannot copy the cosigned checkpoints of {}", dir.display()))?;
    let copied = verified(config, &new)?;
    let (size, root) = {
        let signed = from.reader().checkpoint();
        (signed.checkpoint().size, signed.checkpoint().root)
    };
    ensure!(
        (copied.size, copied.root) == (size, root),
        "the copy in {} differs: the log was not moved",
        new.display()
    );
    // It writes down in its folder how far it came: before the folder changes its place.
    drop(from);
    std::fs::rename(&dir, &left).with_context(|| format!("cannot rename {}", dir.display()))?;
    std::fs::rename(&new, &dir).with_context(|| format!("cannot rename {}", new.display()))?;
    Ok(Moved { copied, left })
}

/// A topic that holds no log yet, or what an interrupted move has put there.
fn open_new_topic(config: &Config, new: &Path, options: &KafkaOptions) -> Result<Log> {
    let created = match holding(new) {
        Some(_) => KafkaLog::open(new, signing_key(config)?, options),
        None => KafkaLog::create(new, signing_key(config)?, options),
    };
    match created {
        Err(OpenError::Store(StoreError::Taken { .. })) => {
            Ok(KafkaLog::open(new, signing_key(config)?, options)?)
        }
        other => Ok(other?),
    }
}

/// Checks every record, tile and the checkpoint of a folder.
fn verified(config: &Config, dir: &Path) -> Result<Copied> {
    let report = verify_log(dir, &signing_key(config)?.verifier_key())?;
    match (report.checkpoint, report.findings.first()) {
        (Some(checkpoint), None) => Ok(Copied { size: checkpoint.size, root: checkpoint.root, found: 0 }),
        (_, Some(finding)) => bail!("{} is not sound: {finding}", dir.display()),
        (None, None) => bail!("{} has no checkpoint", dir.display()),
    }
}

fn signing_key(config: &Config) -> Result<Box<dyn Signer>> {
    Ok(log_key::find(config)?.present)
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
