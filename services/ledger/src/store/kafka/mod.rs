//! The log in a Kafka topic.
//!
//! The topic is the truth: one partition, one commit one message, folded by the rule of [`fold`](super::fold) alike in every
//! process. Each process keeps what it has folded in a folder like that of the file store, from which it reads and proves, and
//! which `writ log verify` checks. The folder is a copy: it can be deleted at any time and is made again; only `checkpoint`
//! in it is more, for what this process has signed must stay in the topic.
//!
//! ```text
//! DIR/segments, DIR/tiles, DIR/checkpoint, DIR/lock   as in the file store
//! DIR/topic.json                                      which log the topic holds, and where to read on
//! ```

mod client;
mod copy;
mod options;
mod position;
mod producer;
mod store;
mod topic;

use std::path::Path;

use self::copy::Copy;
use self::position::Position;
use self::store::{KafkaStore, random_id, same_log};
use self::topic::TopicReader;
use super::entry::LogId;
use super::error::OpenError;
use super::fold::Fold;
use super::log::{Log, Standing};
use super::{CHECKPOINT, LogStore, SEGMENTS, StoreError, file, load};
use crate::checkpoint::SignedCheckpoint;
use crate::key::Signer;
use crate::rotation::LogKeys;
use crate::tree::Frontier;

pub use options::KafkaOptions;
pub use topic::TopicSettings;

/// The log in a Kafka topic: how it is made and opened.
#[derive(Debug)]
pub enum KafkaLog {}

impl KafkaLog {
    /// Makes a new, empty log in a topic and opens it for writing. The topic is made if it is not there; it must hold no log.
    /// The folder must be new, or empty.
    ///
    /// # Errors
    /// When the folder or the topic holds a log already, or the brokers cannot be reached.
    pub fn create(dir: &Path, signer: Box<dyn Signer>, options: &KafkaOptions) -> Result<Log, OpenError> {
        options.check().map_err(|problem| options.unavailable(problem))?;
        if dir.join(SEGMENTS).exists() || dir.join(CHECKPOINT).exists() {
            return Err(OpenError::Exists(dir.to_owned()));
        }
        topic::make(options)?;
        let made = Self::make(dir, signer, options);
        if made.is_err() {
            // Nothing of another log is left, nor of one that did not come about.
            let _ = copy::remove(dir);
        }
        made
    }

    fn make(dir: &Path, signer: Box<dyn Signer>, options: &KafkaOptions) -> Result<Log, OpenError> {
        let log = LogId(random_id().map_err(|why| options.unavailable(why))?);
        let origin = signer.verifier_key().name().to_owned();
        let (mut store, standing, signer) = Opening::begin(dir, signer, options)?.follow(None)?;
        if let Some(current) = store.fold().current() {
            let (place, log) = (options.place(), current.log.to_string());
            return Err(StoreError::Taken { place, origin: current.origin.clone(), log }.into());
        }
        store.open_epoch(log, &origin)?;
        take_up(store, standing, signer)
    }

    /// Opens the log of a topic for writing: whoever writes it now is shut out.
    ///
    /// # Errors
    /// When the topic holds no log, or another than the one that this folder was copied from, or less of it than this
    /// folder's checkpoint covers, or the brokers cannot be reached.
    pub fn open(dir: &Path, signer: Box<dyn Signer>, options: &KafkaOptions) -> Result<Log, OpenError> {
        let mut log = Self::follow(dir, signer, options)?;
        log.lead().map_err(|error| OpenError::CatchUp(Box::new(error)))?;
        Ok(log)
    }

    /// Opens the log of a topic without becoming its writer: [`Log::catch_up`] shows what others write, and
    /// [`Log::lead`] makes this the writer.
    ///
    /// # Errors
    /// As for [`KafkaLog::open`].
    pub fn follow(dir: &Path, signer: Box<dyn Signer>, options: &KafkaOptions) -> Result<Log, OpenError> {
        options.check().map_err(|problem| options.unavailable(problem))?;
        let position = Position::load(dir).map_err(OpenError::io(dir))?;
        let position = position.filter(|position| position.topic == options.topic);
        let opening = Opening::begin(dir, signer, options)?;
        let (store, standing, signer) = opening.follow(position)?;
        let Some(current) = store.fold().current() else {
            return Err(options
                .foreign("it holds no log: make one with `writd init`, or copy one there")
                .into());
        };
        let key = signer.verifier_key();
        if current.origin != key.name() {
            let other =
                format!("it holds the log {}, not {}: name that one's topic", current.origin, key.name());
            return Err(options.foreign(other).into());
        }
        take_up(store, standing, signer)
    }

    /// Whether a folder is the copy of a topic, rather than a log of its own.
    #[must_use]
    pub fn is_copy(dir: &Path) -> bool {
        position::file(dir).exists()
    }

    /// Asks the brokers what the topic is like.
    ///
    /// # Errors
    /// When they cannot be reached, or the topic cannot hold a log.
    pub fn settings(options: &KafkaOptions) -> Result<TopicSettings, StoreError> {
        topic::settings(options)
    }
}

/// A folder that is being made the copy of a topic.
struct Opening<'a> {
    dir: &'a Path,
    lock: std::fs::File,
    signer: Box<dyn Signer>,
    options: &'a KafkaOptions,
    settings: TopicSettings,
    checkpoint: Option<SignedCheckpoint>,
}

impl<'a> Opening<'a> {
    fn begin(dir: &'a Path, signer: Box<dyn Signer>, options: &'a KafkaOptions) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(OpenError::io(dir))?;
        let lock = file::lock(dir)?;
        copy::put_back(dir).map_err(OpenError::io(dir))?;
        let checkpoint = load::read_checkpoint(dir, &LogKeys::of(signer.verifier_key()))?;
        let settings = topic::settings(options)?;
        Ok(Self { dir, lock, signer, options, settings, checkpoint })
    }

    /// Folds the topic to its end: from where the copy stands, or from the beginning.
    fn follow(
        self,
        position: Option<Position>,
    ) -> Result<(KafkaStore, Standing, Box<dyn Signer>), OpenError> {
        if let Some(position) = &position {
            same_log(self.options, position.log)?;
        }
        let resumed = match position {
            Some(position) => self.resume(&position)?,
            None => None,
        };
        let tiles_rebuilt = resumed.is_none() && self.dir.join(SEGMENTS).exists();
        let (store, frontier) = match resumed {
            Some(resumed) => resumed,
            None => (self.begin_anew()?, Frontier::new()),
        };
        let Self { dir, lock, signer, checkpoint, .. } = self;
        let (dir, disk) = (dir.to_owned(), copy::disk());
        let checkpoint_interval = crate::store::CHECKPOINT_INTERVAL;
        let standing = Standing {
            dir,
            disk,
            checkpoint_interval,
            frontier,
            checkpoint,
            unfinished_bytes: 0,
            tiles_rebuilt,
            lock,
        };
        Ok((store, standing, signer))
    }

    /// Goes on from the copy; `None` if it is damaged, or is not what the topic holds.
    fn resume(&self, position: &Position) -> Result<Option<(KafkaStore, Frontier)>, OpenError> {
        let Some((copy, frontier, known)) = Copy::load(self.dir, &self.signer.verifier_key(), position)?
        else {
            return Ok(None);
        };
        let reader = TopicReader::start(self.options, position.offset)?;
        let fold = Fold::resume(position.current(), known);
        let mut store = KafkaStore::new(self.options.clone(), self.settings.clone(), reader, fold, copy)?;
        match store.catch_up() {
            Ok(()) if store.size() >= frontier.size() => Ok(Some((store, frontier))),
            Ok(()) => Ok(None),
            Err(_) if store.copy_differs() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the copy anew. The old one is kept until the topic is known to hold all that was signed.
    fn begin_anew(&self) -> Result<KafkaStore, OpenError> {
        let io = OpenError::io(self.dir);
        copy::put_aside(self.dir).map_err(&io)?;
        let folded = self.fold_all();
        match &folded {
            Ok(_) => copy::forget_old(self.dir).map_err(&io)?,
            Err(_) => copy::put_back(self.dir).map_err(&io)?,
        }
        folded
    }

    fn fold_all(&self) -> Result<KafkaStore, OpenError> {
        let copy = Copy::empty(self.dir).map_err(OpenError::io(self.dir))?;
        let reader = TopicReader::start(self.options, 0)?;
        let (first, _) = reader.bounds()?;
        if first > 0 {
            let cut = format!(
                "its first {first} offsets were removed, by retention or by hand: the log cannot be read"
            );
            return Err(self.options.foreign(cut).into());
        }
        let mut store =
            KafkaStore::new(self.options.clone(), self.settings.clone(), reader, Fold::new(), copy)?;
        let signed = self.checkpoint.as_ref().map(SignedCheckpoint::checkpoint);
        if let Some(signed) = signed {
            store.expect(signed.size, signed.root);
        }
        store.catch_up()?;
        match signed.filter(|signed| signed.size > store.size()) {
            None => Ok(store),
            Some(signed) => Err(self
                .options
                .foreign(format!(
                    "it holds {} records, but this server has signed a checkpoint of {}: records that were acknowledged \
                     are gone from the topic; {} has a copy of them, which `writd log copy` can put into a new topic",
                    store.size(),
                    signed.size,
                    self.dir.display()
                ))
                .into()),
        }
    }
}

fn take_up(mut store: KafkaStore, standing: Standing, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
    store.save();
    let index = store.copied().index();
    Log::over(Box::new(store), index, standing, signer)
}
