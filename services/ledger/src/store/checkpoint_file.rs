//! The checkpoint file, written beside the commits and not before them.
//!
//! A rename makes the file system write at once what it would have left for later, which costs as much as half a commit. So under
//! load the newest checkpoint is written every [`CHECKPOINT_INTERVAL`] by a thread of its own; a log that is quiet writes it with
//! the commit. A crash leaves the file that much behind at most, and opening signs anew what is stored.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::CHECKPOINT;
use crate::disk::{Disk, new_name, replace};

/// How far the checkpoint file may be behind under load.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(10);

/// The file, and the thread that writes it under load.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    file: Arc<File>,
    interval: Duration,
    published: Option<Instant>,
    due: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct File {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// A checkpoint that waits to be written.
    waiting: Mutex<Option<String>>,
    /// Whether the thread was told and has not written yet.
    is_due: AtomicBool,
    /// Held while one is written.
    writing: Mutex<()>,
}

impl CheckpointFile {
    /// The checkpoint file of a log; an interval of zero writes every checkpoint with its commit.
    pub fn new(dir: PathBuf, disk: Arc<dyn Disk>, interval: Duration) -> Self {
        let (waiting, is_due, writing) = Default::default();
        let file = Arc::new(File { disk, dir, waiting, is_due, writing });
        let (due, thread) = match interval.is_zero() {
            true => (None, None),
            false => start(file.clone(), interval),
        };
        Self { file, interval, published: None, due, thread }
    }

    /// Writes a checkpoint, or has it written soon. What cannot be written now is written with the next commit or on opening.
    pub fn publish(&mut self, text: &str) {
        let is_quiet = self.published.is_none_or(|published| published.elapsed() >= self.interval);
        self.published = Some(Instant::now());
        *lock(&self.file.waiting) = Some(text.to_owned());
        match &self.due {
            Some(due) if !is_quiet => {
                if !self.file.is_due.swap(true, Ordering::AcqRel) {
                    // The thread lives as long as this.
                    let _ = due.send(());
                }
            }
            Some(_) | None => {
                let _ = self.file.write_waiting();
            }
        }
    }

    /// Writes a checkpoint at once, and durably: what comes next relies on it.
    pub fn publish_durably(&self, text: &str) -> io::Result<()> {
        let _writing = lock(&self.file.writing);
        // An older one that still waits would take its place.
        *lock(&self.file.waiting) = None;
        replace(self.file.disk.as_ref(), &self.file.dir.join(CHECKPOINT), text.as_bytes())
    }
}

impl Drop for CheckpointFile {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to say than what it printed.
            let _ = thread.join();
        }
        let _ = self.file.write_waiting();
    }
}

impl File {
    /// Readers of the file see the old or the new note. It is not synced: what it covers is.
    fn write_waiting(&self) -> io::Result<()> {
        let _writing = lock(&self.writing);
        let Some(text) = lock(&self.waiting).take() else { return Ok(()) };
        let path = self.dir.join(CHECKPOINT);
        let new = new_name(&path);
        let file = self.disk.open(&new)?;
        file.set_len(0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        self.disk.rename(&new, &path)
    }
}

/// Without a thread, every checkpoint is written with its commit.
fn start(file: Arc<File>, interval: Duration) -> (Option<Sender<()>>, Option<JoinHandle<()>>) {
    let (due, told) = channel();
    let run = move || write_when_due(&file, interval, &told);
    match std::thread::Builder::new().name("checkpoint".to_owned()).spawn(run) {
        Ok(thread) => (Some(due), Some(thread)),
        Err(_) => (None, None),
    }
}

fn write_when_due(file: &File, interval: Duration, told: &Receiver<()>) {
    while told.recv().is_ok() {
        // Checkpoints that are published meanwhile take the waiting one's place.
        if told.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        file.is_due.store(false, Ordering::Release);
        let _ = file.write_waiting();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
