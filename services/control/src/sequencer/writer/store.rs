//! The store of the log as its writer sees it: appending, and taking the log up again after trouble.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use writ_ledger::AppendError;
use writ_ledger::store::StoreError;
use writ_schema::Seq;

use super::super::commit::PendingCommit;
use super::super::handle::SubmitError;
use super::super::replay::open_record;
use super::{TICK, Writer, unavailable};

/// Why nothing can be committed now.
pub(super) struct Trouble {
    why: String,
    /// When it was last tried to take the log up again.
    tried: Instant,
}

impl Writer {
    /// Takes the log up again after a commit failed, and sees whether another process writes it.
    pub(super) fn look_at_the_store(&mut self) {
        if self.trouble.is_some() {
            // What fails is told to whoever wants something committed.
            let _ = self.take_up_again();
        } else if self.log.is_shared() && self.looked.elapsed() >= TICK {
            self.looked = Instant::now();
            match self.follow() {
                Ok(()) => {}
                Err(why) => self.fail_until_taken_up(why),
            }
        }
    }

    /// Becomes the writer again, unless another process is, and takes in what was stored: also by commits whose outcome was
    /// unknown. At most once in a while, since it waits for the store.
    fn take_up_again(&mut self) -> Result<(), String> {
        let Some(trouble) = &self.trouble else { return Ok(()) };
        if trouble.tried.elapsed() < TICK {
            return Err(trouble.why.clone());
        }
        let taken_up = self.follow().and_then(|()| {
            self.log.lead().map_err(|error| advise(&error))?;
            self.adopt()
        });
        match taken_up {
            Ok(()) => {
                self.trouble = None;
                self.shared.set_problem(None);
                tracing::info!(records = self.log.size(), "the log is taken up again");
                Ok(())
            }
            Err(why) => {
                self.fail_until_taken_up(why.clone());
                Err(why)
            }
        }
    }

    fn fail_until_taken_up(&mut self, why: String) {
        if self.trouble.as_ref().is_none_or(|trouble| trouble.why != why) {
            tracing::error!(%why, "the log cannot be written");
        }
        self.shared.set_problem(Some(why.clone()));
        self.trouble = Some(Trouble { why, tried: Instant::now() });
    }

    /// Takes in what others have written. An error if another process has become the writer.
    fn follow(&mut self) -> Result<(), String> {
        self.log.catch_up().map_err(|error| advise(&error))?;
        self.shared.metrics.ignored_entries.store(self.log.ignored_entries(), Ordering::Relaxed);
        self.adopt()?;
        match self.log.deposed_by() {
            Some(newer) => Err(advise(&StoreError::Deposed { newer }.into())),
            None => Ok(()),
        }
    }

    /// Shows records that are in the log and were not answered: of a commit whose outcome was unknown, or of another process.
    fn adopt(&mut self) -> Result<(), String> {
        let known = self.committed().size();
        if self.log.size() == known {
            return Ok(());
        }
        let mut pending = PendingCommit::default();
        for entry in self.log.reader().read_range(known..self.log.size()) {
            let (seq, bytes) = entry.map_err(|error| error.to_string())?;
            let open = open_record(seq, &bytes, &self.shared.vault).map_err(|error| error.to_string())?;
            pending.records.push(Arc::new(open));
        }
        let checkpoint = self.log.reader().checkpoint().text().to_owned();
        self.publish(&pending, checkpoint, Duration::ZERO);
        let committed = self.committed().clone();
        self.working = committed;
        Ok(())
    }

    pub(super) fn append(&mut self, pending: &PendingCommit) -> Result<String, SubmitError> {
        self.take_up_again().map_err(unavailable)?;
        if let Some(why) = self.has_former_key() {
            return Err(unavailable(why));
        }
        if Seq(self.log.size()) != pending.first().unwrap_or(Seq(self.log.size())) {
            // It was decided on a state that is no longer the newest.
            return Err(unavailable("the log has just been taken up again; try again at once".to_owned()));
        }
        self.shared.vault.store_new().map_err(|error| {
            unavailable(format!(
                "{error}; free space on the volume of the vault, or mend its permissions, and try again"
            ))
        })?;
        let bytes: Vec<&[u8]> = pending.records.iter().map(|record| record.bytes.as_bytes()).collect();
        self.log.append(&bytes).map(|commit| commit.checkpoint).map_err(|error| {
            let why = advise(&error);
            if !leaves_the_store_as_it_was(&error) {
                self.fail_until_taken_up(why.clone());
            }
            if error.is_unknown() { SubmitError::Undecided { why } } else { unavailable(why) }
        })
    }

    /// Tells an operator what fails beside appending, once each time it begins, changes or ends.
    pub(super) fn look_at_the_upkeep(&mut self) {
        let failure = self.log.upkeep_failure();
        if failure == self.upkeep_failure {
            return;
        }
        match &failure {
            Some(why) => {
                tracing::warn!(%why, "it will be tried again; no record is lost, but the disk fills faster")
            }
            None => tracing::info!("the log's upkeep works again"),
        }
        self.shared.metrics.upkeep_fails.store(failure.is_some().into(), Ordering::Relaxed);
        self.upkeep_failure = failure;
    }
}

/// Whether the next commit can be tried as if the failed one had not been.
fn leaves_the_store_as_it_was(error: &AppendError) -> bool {
    match error {
        AppendError::Store(error) => matches!(
            error,
            StoreError::Failed { .. }
                | StoreError::EmptyBatch
                | StoreError::BatchTooLarge { .. }
                | StoreError::BadRecord { .. }
        ),
        AppendError::Sign(_) | AppendError::Read(_) => false,
    }
}

/// Says what to do about a log that cannot be written.
fn advise(error: &AppendError) -> String {
    let source = match error {
        AppendError::Store(StoreError::Failed { source, .. }) => source,
        AppendError::Store(StoreError::Unavailable { .. } | StoreError::Undecided { .. }) => {
            return format!("{error}; writd goes on by itself when the brokers are back");
        }
        AppendError::Store(StoreError::NotLeading) => {
            return format!("{error}; it is being taken up again: try again in a moment");
        }
        AppendError::Store(StoreError::Deposed { .. }) => {
            return format!("{error}; to write here again, stop that one and restart this one");
        }
        AppendError::Store(StoreError::Foreign { .. }) => {
            return format!("{error}; nothing is written until an operator has looked at it");
        }
        AppendError::Store(StoreError::BatchTooLarge { .. }) => {
            return format!("{error}; raise max.message.bytes of the topic");
        }
        _ => return format!("{error}; restart writd, which checks the log and mends what it can"),
    };
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return format!("the disk is full: free space on the volume of the log and try again ({error})");
    }
    format!("{error}; mend the volume of the log and try again")
}
