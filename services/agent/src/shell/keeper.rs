//! Writes what was verified to disk, on a thread of its own, so that no packet waits for a disk.
//!
//! Of what is to be written only the newest counts: a disk that is slow gets fewer, never older, writes. What could not be
//! written is tried again until it is.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use crate::state::{StateDir, StateError};
use crate::trust::{StoredLive, StoredTrust};

/// What is live is written this seldom: it may be large, and losing its newest part costs a question to the control plane.
const LIVE_INTERVAL: Duration = Duration::from_millis(500);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The newest change of [`StoredTrust`] that is durable.
    pub trust: u64,
    /// Why the last attempt failed.
    pub failure: Option<String>,
}

/// The thread that writes.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    pub written: watch::Receiver<Written>,
    thread: JoinHandle<()>,
}

struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    trust: Option<(u64, StoredTrust)>,
    live: Option<StoredLive>,
    is_over: bool,
}

impl Keeper {
    /// Begins with what is on disk already, as changes 0.
    pub fn start(state: Arc<StateDir>) -> Result<Self> {
        let shared = Arc::new(Shared { wanted: Mutex::default(), changed: Condvar::new() });
        let (written, receiver) = watch::channel(Written::default());
        let writer = Writer { shared: shared.clone(), state, written, live_due: Instant::now() };
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || writer.run())
            .context("the thread that writes the state cannot be started")?;
        Ok(Self { shared, written: receiver, thread })
    }

    /// Asks for this to be durable, in the place of what was asked for before.
    pub fn keep_trust(&self, change: u64, trust: StoredTrust) {
        self.want(|wanted| wanted.trust = Some((change, trust)));
    }

    /// Asks for this to be written soon.
    pub fn keep_live(&self, live: StoredLive) {
        self.want(|wanted| wanted.live = Some(live));
    }

    /// Writes what is still to be written, once, and ends.
    pub fn finish(self) {
        self.want(|wanted| wanted.is_over = true);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes the state has failed");
        }
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_one();
    }
}

struct Writer {
    shared: Arc<Shared>,
    state: Arc<StateDir>,
    written: watch::Sender<Written>,
    live_due: Instant,
}

impl Writer {
    fn run(mut self) {
        loop {
            let Wanted { trust, live, is_over } = self.next();
            let mut failure = None;
            if let Some((change, trust)) = trust {
                match self.state.store_trust(&trust) {
                    Ok(()) => self.written.send_modify(|written| written.trust = change),
                    Err(error) => {
                        failure = Some(error);
                        self.put_back(|wanted| wanted.trust = wanted.trust.take().or(Some((change, trust))));
                    }
                }
            }
            if let Some(live) = live {
                let began = Instant::now();
                if let Err(error) = self.state.store_live(&live) {
                    failure = Some(error);
                    self.put_back(|wanted| wanted.live = wanted.live.take().or(Some(live)));
                }
                // At most a tenth of the time goes into it.
                self.live_due = Instant::now() + LIVE_INTERVAL.max(began.elapsed() * 10);
            }
            if is_over {
                return;
            }
            self.tell(failure);
        }
    }

    /// Waits for something to write: the checkpoint at once, what is live when its time has come.
    fn next(&self) -> Wanted {
        let mut wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let wait = self.live_due.saturating_duration_since(Instant::now());
            let is_live_due = wanted.live.is_some() && wait.is_zero();
            if wanted.is_over {
                return std::mem::replace(&mut *wanted, Wanted { is_over: true, ..Wanted::default() });
            }
            if wanted.trust.is_some() || is_live_due {
                let live = if is_live_due { wanted.live.take() } else { None };
                return Wanted { trust: wanted.trust.take(), live, is_over: false };
            }
            let changed = &self.shared.changed;
            wanted = if wanted.live.is_some() {
                changed.wait_timeout(wanted, wait).unwrap_or_else(PoisonError::into_inner).0
            } else {
                changed.wait(wanted).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn put_back(&self, put: impl FnOnce(&mut Wanted)) {
        put(&mut self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, failure: Option<StateError>) {
        let failure = failure.map(|error| error.to_string());
        let is_news = self.written.borrow().failure != failure;
        if is_news {
            match &failure {
                Some(why) => tracing::error!("what was verified cannot be stored: {why}"),
                None => tracing::info!("what was verified is stored again"),
            }
            self.written.send_modify(|written| written.failure.clone_from(&failure));
        }
        if failure.is_some() {
            std::thread::sleep(RETRY);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn trust(checkpoint: &str) -> StoredTrust {
        StoredTrust { checkpoint: checkpoint.to_owned(), ..StoredTrust::default() }
    }

    #[tokio::test]
    async fn the_newest_is_durable_when_it_is_said_so_and_a_full_disk_is_waited_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let state = Arc::new(StateDir::open(&path).unwrap());
        let mut keeper = Keeper::start(state.clone()).unwrap();
        (1..=20).for_each(|change| keeper.keep_trust(change, trust(&format!("checkpoint {change}"))));
        keeper.written.wait_for(|written| written.trust == 20).await.unwrap();
        assert_eq!(state.trust().unwrap().unwrap().checkpoint, "checkpoint 20");

        // A folder in the place of the file that is written first makes every write fail, for root too.
        std::fs::create_dir(path.join("trust.new")).unwrap();
        keeper.keep_trust(21, trust("checkpoint 21"));
        keeper.written.wait_for(|written| written.failure.is_some()).await.unwrap();
        assert_eq!(keeper.written.borrow().trust, 20);
        std::fs::remove_dir(path.join("trust.new")).unwrap();
        keeper.written.wait_for(|written| written.trust == 21 && written.failure.is_none()).await.unwrap();

        keeper.keep_live(StoredLive {
            saved_at: Timestamp::now(),
            seen: Arc::default(),
            live: Default::default(),
            relay: None,
            port: 51820,
        });
        keeper.finish();
        assert_eq!(state.live().unwrap().unwrap().port, 51820);
    }
}
