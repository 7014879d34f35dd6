//! Who holds the log's signing key: a file, or an ssh-agent before whatever a firm keeps keys in.
//!
//! Before the key is changed, the next one lies beside it as `log.key.next`: prepared by an operator, or made then. It takes the
//! place of the old one once the change is recorded; a start in between finishes what was begun.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::sync::Mutex;
use writ_ledger::{Note, Signer, SigningKey, VerifierKey};
use writ_schema::{Actor, CommandId};
use zeroize::Zeroizing;

use crate::config::{Config, LogKeyConfig};
use crate::sequencer::{Outcome, SequencerHandle};

/// Largest key file that is read.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// The keys that a start finds.
pub struct Keys {
    /// The one to open the log with.
    pub present: Box<dyn Signer>,
    /// One that a change of the key has left behind, unfinished.
    pub next: Option<Box<dyn Signer>>,
}

/// Finds the log's key. If the change to a next one has come so far that the log is signed by it, the change is finished.
pub fn find(config: &Config) -> Result<Keys> {
    let next = config.next_log_key_file();
    let origin = origin(config);
    let present = || {
        let present = config.log_key.open(&config.log_key_file(), origin.as_deref());
        present.context("cannot use the log's signing key")
    };
    if config.log_key.ssh_agent.is_some() || !next.exists() {
        return Ok(Keys { present: present()?, next: None });
    }
    let next_key = load(&next, origin.as_deref())?;
    if has_signed(config, &next_key.verifier_key()) {
        promote(config)?;
        return Ok(Keys { present: Box::new(next_key), next: None });
    }
    Ok(Keys { present: present()?, next: Some(Box::new(next_key)) })
}

/// Prepares the next key: makes it, or takes it from a file, a key file of ours or PKCS#8 PEM. Nothing is changed to it yet, so
/// that witnesses can be told before.
pub fn prepare(config: &Config, from: Option<&Path>) -> Result<VerifierKey> {
    ensure_in_file(config)?;
    let next = config.next_log_key_file();
    let origin = origin(config).with_context(|| {
        format!("there is no log in {}: make one with `writd init`", config.log_dir().display())
    })?;
    if let Some(from) = from {
        ensure!(
            !next.exists(),
            "a next key is prepared already, {}: change to it, or remove it first",
            next.display()
        );
        load(from, Some(&origin))?;
        copy(from, &next)?;
    }
    Ok(make_next(config, &origin)?.verifier_key())
}

/// The log's key, which can be changed while the control plane runs. Cheap to clone.
#[derive(Clone)]
pub struct LogKeyChanges(Arc<Changes>);

struct Changes {
    config: Config,
    sequencer: SequencerHandle,
    /// One change at a time.
    turn: Mutex<()>,
}

impl LogKeyChanges {
    /// Of the log that this sequencer writes.
    pub fn new(config: Config, sequencer: SequencerHandle) -> Self {
        Self(Arc::new(Changes { config, sequencer, turn: Mutex::new(()) }))
    }

    /// Changes to the key that is prepared, or to a new one; where a key is named, to no other. A repeat of a command that was
    /// carried out changes nothing.
    ///
    /// # Errors
    /// What is wrong, and what to do: a [`KeyChangeError`](crate::sequencer::KeyChangeError) where the sequencer said so.
    pub async fn change(&self, named: Option<&VerifierKey>, id: CommandId, actor: Actor) -> Result<Outcome> {
        let Changes { config, sequencer, turn } = &*self.0;
        let _turn = turn.lock().await;
        if let Some(outcome) = sequencer.answered(&id)? {
            return Ok(outcome);
        }
        change(config, &LogKeyConfig::default(), named, sequencer, (id, actor)).await
    }
}

/// Changes the log's key to the one that is wanted; without more, to the one that is prepared, or to a new one.
pub async fn change(
    config: &Config,
    wanted: &LogKeyConfig,
    named: Option<&VerifierKey>,
    sequencer: &SequencerHandle,
    (id, actor): (CommandId, Actor),
) -> Result<Outcome> {
    let present: VerifierKey = {
        let state = sequencer.state();
        state.network().map(|network| network.log_key().parse()).context("there is no network")??
    };
    let is_ours = *wanted == LogKeyConfig::default();
    let next = if is_ours {
        ensure_in_file(config)?;
        let file = config.next_log_key_file();
        ensure!(
            named.is_none() || file.exists(),
            "no next key is prepared on the server: `writd log next-key` does it"
        );
        make_next(config, present.name())?
    } else {
        wanted.open(&config.log_key_file(), Some(present.name()))?
    };
    let key = next.verifier_key();
    if let Some(named) = named.filter(|named| **named != key) {
        bail!("the key that is prepared on the server is {key}, not {named}: nothing was done");
    }
    ensure!(key != present, "{key} is the log's key already: nothing was done");
    let outcome = sequencer.rotate_key(next, id, actor).await?;
    if is_ours {
        promote(config)?;
    }
    Ok(outcome)
}

/// Where something else than its file says which key it is, a changed file would be refused by the next start.
fn ensure_in_file(config: &Config) -> Result<()> {
    let LogKeyConfig { ssh_agent, vkey, .. } = &config.log_key;
    ensure!(
        ssh_agent.is_none(),
        "an ssh-agent holds the log's key: stop writd and change it by `writd log rotate-key`, with --to-ssh-agent or --to-file"
    );
    ensure!(
        vkey.is_none(),
        "`log_key.vkey` in the configuration names the present key, and the next start would refuse another one: take it out and \
         restart writd first"
    );
    Ok(())
}

/// The next key: the one that is prepared, or a new one.
fn make_next(config: &Config, origin: &str) -> Result<Box<dyn Signer>> {
    let next = config.next_log_key_file();
    let key = if next.exists() { load(&next, Some(origin))? } else { SigningKey::create(&next, origin)? };
    Ok(Box::new(key))
}

fn load(path: &Path, origin: Option<&str>) -> Result<SigningKey> {
    let key = match origin {
        Some(name) => SigningKey::load_named(path, name),
        None => SigningKey::load(path),
    };
    key.with_context(|| format!("cannot use {}", path.display()))
}

/// Copies a key's file into a new one that only its owner can read.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(from).and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut text));
    read.with_context(|| format!("cannot read {}", from.display()))?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let written = made.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.and_then(|()| sync_folder(to)).with_context(|| format!("cannot write {}", to.display()))
}

/// Puts the next key in the place of the old one, which is gone then.
pub fn promote(config: &Config) -> Result<()> {
    let (file, next) = (config.log_key_file(), config.next_log_key_file());
    fs::rename(&next, &file)
        .with_context(|| format!("cannot rename {} to {}", next.display(), file.display()))?;
    sync_folder(&file).with_context(|| format!("cannot make the new {} durable", file.display()))
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
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
