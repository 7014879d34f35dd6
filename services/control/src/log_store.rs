//! Where the log is kept: in files, or in a Kafka topic of which the log's folder is then a copy.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use writ_ledger::store::kafka::{KafkaLog, KafkaOptions};
use writ_ledger::store::{Copied, StoreError, copy_log};
use writ_ledger::{CheckpointError, FileLog, Log, LogKeys, NoteError, OpenError, Signer, verify_log};

use crate::config::{Config, KafkaConfig, Store};
use crate::log_key;

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
