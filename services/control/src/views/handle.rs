//! Reading the views from many tasks at once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use super::{ViewError, store};

/// Queries that run at the same time; further ones wait.
const MAX_READERS: usize = 4;

/// How long a query waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How far the views have followed the log.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Records folded.
    pub folded: u64,
    /// Records that the log held when the projector last looked.
    pub head: u64,
    /// Time of the last record that was folded since the start.
    pub last_time: Option<Timestamp>,
    /// Since when the views are behind; `None` if they are not.
    pub behind_since: Option<Instant>,
    /// Why the projector does not go on.
    pub fault: Option<Arc<str>>,
}

impl Progress {
    /// Records that are not folded yet.
    pub fn lag(&self) -> u64 {
        self.head.saturating_sub(self.folded)
    }
}

/// The views, for reading. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Semaphore,
    progress: watch::Receiver<Progress>,
}

impl Views {
    pub(super) fn new(path: &Path, progress: watch::Receiver<Progress>) -> Self {
        let idle = Mutex::new(Vec::new());
        let turns = Semaphore::new(MAX_READERS);
        Self { shared: Arc::new(Shared { path: path.to_owned(), idle, turns, progress }) }
    }

    /// How far the views are.
    pub fn progress(&self) -> Progress {
        self.shared.progress.borrow().clone()
    }

    /// Waits until this many records are folded, but no longer than `patience`: queries that follow a command see what
    /// it did. Answers how far the views are.
    pub async fn caught_up(&self, size: u64, patience: Duration) -> Progress {
        let mut progress = self.shared.progress.clone();
        let reached = progress.wait_for(|now| now.folded >= size || now.fault.is_some());
        // What was reached by then is in the answer, whether in time or not.
        let _ = tokio::time::timeout(patience, reached).await.is_ok_and(|waited| waited.is_ok());
        self.progress()
    }

    /// Runs a query on a thread where it may block.
    pub async fn read<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ViewError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let turn = tokio::time::timeout(MAX_WAIT, self.shared.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(ViewError::Busy.into()) };
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            let connection = shared.take().map_err(ViewError::Database)?;
            let answer = query(&connection);
            shared.put_back(connection);
            answer
        });
        task.await.unwrap_or_else(|_| Err(ViewError::Stopped("the query failed inside".to_owned()).into()))
    }
}

impl Shared {
    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| store::open_for_reading(&self.path), Ok)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_READERS {
            idle.push(connection);
        }
    }
}
