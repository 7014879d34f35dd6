//! The projector: a thread that follows the log and folds what is new.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::watch;
use writ_ledger::store::Reader;
use writ_schema::seal::OpeningKeys;
use writ_schema::{DecodeError, Record, Seq};

use super::{Entry, FoldError, Progress, Projection, ViewError, Views, fold_batch, projections, store};

/// Records that are folded in one transaction at most.
const BATCH: usize = 512;

/// How long the projector waits without a word before it looks at the log by itself.
const LOOK: Duration = Duration::from_millis(500);

/// How long it waits before it tries again what failed for a reason that may go away, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// A record as it is read from the log.
#[derive(Debug, Clone)]
pub struct SourceRecord {
    /// The record, opened as far as there are keys.
    pub record: Record,
    /// Its exact bytes.
    pub bytes: String,
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A record that this version does not know, or garbage.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(String),
    /// A sealed field was altered.
    #[error("record {seq}: {problem}; run `writ log verify`")]
    Seal {
        /// Which record.
        seq: Seq,
        /// What is wrong.
        problem: String,
    },
}

/// Where the projector reads the log.
pub trait Source: Send + 'static {
    /// How many records are durable.
    fn size(&self) -> u64;

    /// Records from a position on, in order, at most so many, opened as far as there are keys.
    fn read(&self, from: Seq, limit: usize) -> Result<Vec<SourceRecord>, SourceError>;
}

/// The log on disk with keys to open it.
#[derive(Debug)]
pub struct LogSource<K> {
    reader: Reader,
    keys: K,
}

impl<K: OpeningKeys + Send + 'static> LogSource<K> {
    /// Reads this log with these keys.
    pub fn new(reader: Reader, keys: K) -> Self {
        Self { reader, keys }
    }
}

impl<K: OpeningKeys + Send + 'static> Source for LogSource<K> {
    fn size(&self) -> u64 {
        self.reader.size()
    }

    fn read(&self, from: Seq, limit: usize) -> Result<Vec<SourceRecord>, SourceError> {
        let end = from.0.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX));
        let mut records = Vec::new();
        for read in self.reader.read_range(from.0..end) {
            let (_, bytes) = read.map_err(|error| SourceError::Read(error.to_string()))?;
            let mut record = Record::decode(&bytes)?;
            let seq = record.seq;
            let altered = |problem: String| SourceError::Seal { seq, problem };
            record.open(&self.keys).map_err(|error| altered(error.to_string()))?;
            let bytes = String::from_utf8(bytes).map_err(|_| altered("not text".to_owned()))?;
            records.push(SourceRecord { record, bytes });
        }
        Ok(records)
    }
}

/// Tells the projector that the log has grown. Cheap, and never waits.
#[derive(Debug, Clone)]
pub struct Waker(SyncSender<()>);

impl Waker {
    /// There is something new.
    pub fn wake(&self) {
        // A full channel means that the projector is about to look anyway.
        let _ = self.0.try_send(());
    }
}

/// Why the projector cannot begin, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The database failed.
    #[error("{path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The views were folded from another log, or from one that has since lost records.
    #[error("the views are not of this log, or the log has lost records since: run `writd views rebuild`")]
    OtherLog,
    /// The log cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A record cannot be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The thread cannot be started.
    #[error("the projector's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl ProjectorError {
    /// Whether the same may succeed later without anybody touching the views.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Source(SourceError::Read(_))
                | Self::Fold(FoldError::Database { .. })
                | Self::Database { .. }
        )
    }
}

/// The running projector. Dropping it ends the thread.
#[derive(Debug)]
pub struct Projector {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Projector {
    /// Opens the views and starts to follow the log.
    pub fn start(path: &Path, source: impl Source) -> Result<(Views, Self), ProjectorError> {
        let mut follower = Follower::open(path, Box::new(source))?;
        let (progress, receiver) = watch::channel(follower.progress());
        let views = Views::new(path, receiver);
        let (sender, wakes) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("projector".to_owned())
            .spawn(move || follower.run(&wakes, &progress, &is_stopped))
            .map_err(ProjectorError::Thread)?;
        Ok((views, Self { stop, waker: Waker(sender), thread: Some(thread) }))
    }

    /// A handle to tell it that the log has grown.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to say than what it printed.
            let _ = thread.join();
        }
    }
}

/// Drops the views and folds the whole log again. Nothing else may use the file meanwhile. Answers how many records there were.
pub fn rebuild(path: &Path, source: impl Source) -> Result<u64, ProjectorError> {
    let database = |source| ProjectorError::Database { path: path.to_owned(), source };
    let mut connection = store::open_for_folding(path, &projections()).map_err(database)?;
    store::drop_everything(&mut connection).map_err(database)?;
    drop(connection);
    let mut follower = Follower::open(path, Box::new(source))?;
    while follower.step()? {}
    follower.connection.execute_batch("VACUUM").map_err(database)?;
    Ok(follower.next.0)
}

/// The thread's own: a connection, a position, a log.
struct Follower {
    path: PathBuf,
    connection: Connection,
    projections: Vec<Box<dyn Projection>>,
    source: Box<dyn Source>,
    next: Seq,
    last_time: Option<Timestamp>,
    behind_since: Option<Instant>,
}

impl Follower {
    fn open(path: &Path, source: Box<dyn Source>) -> Result<Self, ProjectorError> {
        let database = |source| ProjectorError::Database { path: path.to_owned(), source };
        let projections = projections();
        let connection = store::open_for_folding(path, &projections).map_err(database)?;
        if let Some((seq, digest)) = store::last_record(&connection).map_err(database)? {
            let there = if seq.0 < source.size() { source.read(seq, 1)? } else { Vec::new() };
            if there.first().is_none_or(|record| store::digest(&record.bytes) != digest) {
                return Err(ProjectorError::OtherLog);
            }
        }
        let lowest = store::positions(&connection).map_err(database)?.into_iter().map(|(_, next)| next).min();
        let next = lowest.unwrap_or_default();
        let path = path.to_owned();
        Ok(Self { path, connection, projections, source, next, last_time: None, behind_since: None })
    }

    fn run(&mut self, wakes: &Receiver<()>, progress: &watch::Sender<Progress>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.step() {
                Ok(true) => {
                    progress.send_replace(self.progress());
                }
                Ok(false) => {
                    progress.send_replace(self.progress());
                    let _ = wakes.recv_timeout(LOOK);
                }
                Err(error) => {
                    tracing::error!(%error, next = self.next.0, "the views do not follow the log");
                    progress
                        .send_replace(Progress { fault: Some(error.to_string().into()), ..self.progress() });
                    if !error.may_pass() {
                        return;
                    }
                    let _ = wakes.recv_timeout(RETRY);
                }
            }
        }
    }

    /// Folds one batch. Answers whether there was anything to fold.
    fn step(&mut self) -> Result<bool, ProjectorError> {
        if self.next.0 >= self.source.size() {
            self.behind_since = None;
            return Ok(false);
        }
        self.behind_since.get_or_insert_with(Instant::now);
        let records = self.source.read(self.next, BATCH)?;
        let batch: Vec<Entry<'_>> =
            records.iter().map(|read| Entry { record: &read.record, bytes: &read.bytes }).collect();
        fold_batch(&mut self.connection, &self.projections, &batch)?;
        let Some(last) = records.last() else { return Ok(false) };
        self.next = Seq(last.record.seq.0.saturating_add(1));
        self.last_time = Some(last.record.time);
        if records.iter().any(|read| read.record.event.destroyed_keys().is_some()) {
            self.forget()?;
        }
        Ok(true)
    }

    /// Moves everything out of the write-ahead log, which may still hold purged values.
    fn forget(&self) -> Result<(), ProjectorError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|source| ProjectorError::Database { path: self.path.clone(), source })
    }

    fn progress(&self) -> Progress {
        Progress {
            folded: self.next.0,
            head: self.source.size().max(self.next.0),
            last_time: self.last_time,
            behind_since: self.behind_since.filter(|_| self.next.0 < self.source.size()),
            fault: None,
        }
    }
}

impl From<ProjectorError> for ViewError {
    fn from(error: ProjectorError) -> Self {
        Self::Stopped(error.to_string())
    }
}
