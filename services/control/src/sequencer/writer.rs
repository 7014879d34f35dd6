//! The thread that writes.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use writ_ledger::store::StoreError;
use writ_ledger::{AppendError, Log};
use writ_schema::record::CommandRef;
use writ_schema::seal::DestroyedKeys;
use writ_schema::{Actor, CommandId, Event, Seq};

use super::commit::{PendingCommit, Verdict};
use super::digest::digest;
use super::handle::{Commit, Message, OpenRecord, Outcome, Pending, Shared, SubmitError};
use super::replay::open_record;
use super::seal::{SealFailure, seal};
use super::{Metrics, Options};
use crate::core::refusals::{Noted, Refusals};
use crate::core::state::Answered;
use crate::core::{Command, Context, Draft, Refusal, Rejection, State, Submission, decide, evolve};

/// Most commands of one commit.
const MAX_COMMANDS: usize = 256;

/// A commit with this many records takes no further command. The ledger takes 65,536, and one command may bring about
/// [`MAX_DRAFTS`].
const FULL_COMMIT: usize = 8_192;

/// Most records of one command.
const MAX_DRAFTS: usize = 50_000;

/// How often to look whether a window of refusals is over, or an erasure can be finished.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    log: Log,
    shared: Arc<Shared>,
    working: State,
    refusals: Refusals,
    options: Options,
    /// Whether `log.opened` of this run is durable.
    is_opened: bool,
    /// Keys whose destruction is recorded and did not succeed yet.
    unfinished_erasures: Vec<DestroyedKeys>,
}

impl Writer {
    pub(super) fn new(log: Log, shared: Arc<Shared>, state: State, options: Options) -> Self {
        let (refusals, unfinished_erasures) = (Refusals::default(), Vec::new());
        Self { log, shared, working: state, refusals, options, is_opened: false, unfinished_erasures }
    }

    /// Records that writing begins. If that fails, it is tried again with every commit.
    pub(super) fn open(&mut self) {
        self.commit(&mut VecDeque::new());
    }

    pub(super) fn run(mut self, waiting: &Receiver<Message>) {
        loop {
            let first = if self.refusals.is_counting() || !self.unfinished_erasures.is_empty() {
                waiting.recv_timeout(TICK)
            } else {
                waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut batch = VecDeque::new();
            let mut is_stopping = matches!(first, Err(RecvTimeoutError::Disconnected));
            let rest = std::iter::from_fn(|| waiting.try_recv().ok()).take(MAX_COMMANDS - 1);
            for message in first.ok().into_iter().chain(rest) {
                match message {
                    Message::Submit(pending) => batch.push_back(*pending),
                    Message::Stop => is_stopping = true,
                }
            }
            self.shared.metrics.queued.fetch_sub(batch.len() as u64, Ordering::Relaxed);
            self.commit(&mut batch);
            while !batch.is_empty() {
                self.commit(&mut batch);
            }
            self.finish_erasures();
            if is_stopping {
                return self.close();
            }
        }
    }

    /// Records what was counted and that writing ends.
    fn close(mut self) {
        let mut pending = PendingCommit::default();
        let counted = self.refusals.end_all();
        self.record_counted(&mut pending, counted);
        self.submit_own(&mut pending, Command::CloseLog);
        self.make_durable(pending);
    }

    /// Decides waiting commands until the commit is full, and makes it durable.
    fn commit(&mut self, waiting: &mut VecDeque<Pending>) {
        self.working.adopt_compiled_policy(&self.committed());
        let mut pending = PendingCommit::default();
        if !self.is_opened && self.working.network().is_some() {
            self.submit_own(&mut pending, Command::OpenLog { program: self.options.program.clone() });
        }
        let counted = self.refusals.end_due(self.now());
        self.record_counted(&mut pending, counted);
        while let Some(Pending { submission, answer }) = waiting.pop_front() {
            let verdict = self.decide(&mut pending, &submission);
            pending.answers.push((answer, verdict));
            if pending.records.len() >= FULL_COMMIT {
                break;
            }
        }
        self.make_durable(pending);
    }

    fn committed(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.shared.committed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the next record: by the clock, but never before the last one's.
    fn now(&self) -> Timestamp {
        (self.options.clock)().max(self.working.time())
    }

    fn context(&self) -> Result<Context, SubmitError> {
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy)
            .map_err(|error| unavailable(format!("the system gave no random bytes: {error}")))?;
        let mut context = Context::new(self.now(), entropy);
        context.authorization_life = self.options.authorization_life;
        Ok(context)
    }

    /// Submits a command of the control plane's own.
    fn submit_own(&mut self, pending: &mut PendingCommit, command: Command) {
        let Ok(context) = self.context() else { return };
        let id = CommandId::from_bytes(context.identifier());
        let submission = Submission { id, actor: Actor::System, command, trace: None };
        let verdict = self.decide(pending, &submission);
        if !matches!(verdict, Verdict::Accepted { .. }) {
            tracing::error!(command = submission.command.name(), ?verdict, "a command of its own failed");
        }
    }

    fn record_counted(&mut self, pending: &mut PendingCommit, counted: Vec<(Event, Actor)>) {
        if counted.is_empty() {
            return;
        }
        let drafts = counted.into_iter().map(|(event, actor)| Draft { event, cause: None, actor }).collect();
        let sealed = self.context().map(|context| {
            // Counts answer no single command: they are the control plane's own.
            let id = CommandId::from_bytes(context.identifier());
            let command = CommandRef { id, digest: "0000000000000000".to_owned() };
            self.seal(pending, &context, &command, drafts, None)
        });
        if !matches!(sealed, Ok(Ok(_))) {
            tracing::error!("refusals that were counted cannot be recorded");
        }
    }

    fn decide(&mut self, pending: &mut PendingCommit, submission: &Submission) -> Verdict {
        let span = tracing::info_span!("decide", command = submission.command.name());
        if let Some(trace) = &submission.trace {
            let _ = writ_telemetry::span_with_parent(&span, trace);
        }
        let _entered = span.enter();
        self.try_decide(pending, submission).unwrap_or_else(Verdict::Failed)
    }

    fn try_decide(
        &mut self,
        pending: &mut PendingCommit,
        submission: &Submission,
    ) -> Result<Verdict, SubmitError> {
        let Submission { id, command, .. } = submission;
        let context = self.context()?;
        let answered = self.working.answered(id).cloned();
        let time = answered.as_ref().map_or(context.now, |answered| answered.time);
        let digest = digest(&self.shared.vault, &self.working, id, command, time);
        let digest = digest.map_err(|error| unavailable(error.to_string()))?;
        if let Some(answered) = answered {
            if answered.digest == digest {
                return Ok(Verdict::Repeated(answered));
            }
            return Err(SubmitError::ConflictingCommand(id.clone()));
        }
        let reference = CommandRef { id: id.clone(), digest };
        match decide(&self.working, &context, submission) {
            Ok(drafts) => {
                let (first, count) = (Seq(self.working.size()), drafts.len());
                let sealed = self.seal(pending, &context, &reference, drafts, submission.trace.as_ref());
                Ok(sealed.map_or_else(rejected_as, |()| Verdict::Accepted { first, count }))
            }
            Err(refusal) => {
                let Refusal { rejection, fact } = *refusal;
                let Some(fact) = fact else {
                    return Ok(Verdict::Rejected { reason: rejection, record: None });
                };
                let next = Seq(self.working.size());
                let record = match self.refusals.note(fact, context.now, next) {
                    Noted::Full => {
                        let reason = Rejection::TooManyRefusals;
                        return Ok(Verdict::Rejected { reason, record: None });
                    }
                    Noted::Repeat(record) => record,
                    Noted::Record(event, actor) => {
                        let drafts = vec![Draft { event: *event, cause: None, actor }];
                        let trace = submission.trace.as_ref();
                        if let Err(failure) = self.seal(pending, &context, &reference, drafts, trace) {
                            return Ok(rejected_as(failure));
                        }
                        next
                    }
                };
                Ok(Verdict::Rejected { reason: rejection, record: Some(record) })
            }
        }
    }

    /// Makes records of drafts, takes them into the commit and folds them into the working state.
    fn seal(
        &mut self,
        pending: &mut PendingCommit,
        context: &Context,
        command: &CommandRef,
        drafts: Vec<Draft>,
        trace: Option<&String>,
    ) -> Result<(), SealFailure> {
        if drafts.len() > MAX_DRAFTS {
            return Err(SealFailure::TooLong);
        }
        let records = seal(&self.shared.vault, context, command, self.working.size(), drafts)?;
        for record in &records {
            evolve(&mut self.working, &record.record);
        }
        pending.push(records, trace);
        Ok(())
    }

    /// Appends; then shows, and then answers. Or takes everything back.
    fn make_durable(&mut self, pending: PendingCommit) {
        if pending.records.is_empty() {
            return self.answer(pending, None);
        }
        let first = Seq(self.log.size());
        let spans = pending.append_spans();
        let started = Instant::now();
        let appended = self.append(&pending);
        let append_time = started.elapsed();
        drop(spans);
        self.shared.is_writable.store(appended.is_ok(), Ordering::Relaxed);
        match appended {
            Ok(checkpoint) => {
                self.refusals.commit();
                self.is_opened |= self.working.is_open();
                self.publish(&pending, checkpoint, append_time);
                self.answer(pending, None);
            }
            Err(why) => {
                tracing::error!(%why, records = pending.records.len(), "a commit failed; nothing of it took effect");
                Metrics::add(&self.shared.metrics.failed_commits, 1);
                let committed = self.committed().clone();
                self.working = committed;
                self.refusals.roll_back(first);
                self.answer(pending, Some(&why));
            }
        }
    }

    fn append(&mut self, pending: &PendingCommit) -> Result<String, String> {
        self.shared.vault.store_new().map_err(|error| {
            format!("{error}; free space on the volume of the vault, or mend its permissions, and try again")
        })?;
        let bytes: Vec<&[u8]> = pending.records.iter().map(|record| record.bytes.as_bytes()).collect();
        self.log.append(&bytes).map(|commit| commit.checkpoint).map_err(|error| advise(&error))
    }

    fn publish(&mut self, pending: &PendingCommit, checkpoint: String, append_time: Duration) {
        let metrics = &self.shared.metrics;
        Metrics::add(&metrics.commits, 1);
        Metrics::add(&metrics.records, pending.records.len() as u64);
        Metrics::add(&metrics.append_micros, u64::try_from(append_time.as_micros()).unwrap_or(u64::MAX));
        {
            let mut committed = self.shared.committed.write().unwrap_or_else(PoisonError::into_inner);
            for record in &pending.records {
                evolve(&mut committed, &record.record);
            }
            committed.adopt_compiled_policy(&self.working);
        }
        for record in &pending.records {
            if let Some(keys) = record.record.event.destroyed_keys() {
                self.refusals.forget(&keys);
                self.unfinished_erasures.push(keys);
            }
        }
        self.finish_erasures();
        let commit = Commit {
            records: pending.records.clone(),
            checkpoint: checkpoint.into(),
            size: self.log.size(),
            append_time,
        };
        // Nobody may be listening.
        let _ = self.shared.commits.send(Arc::new(commit));
    }

    /// Destroys keys whose destruction is in the log. What fails is tried again, at the latest at the next start.
    fn finish_erasures(&mut self) {
        let vault = &self.shared.vault;
        self.unfinished_erasures.retain(|keys| {
            vault
                .destroy(keys)
                .inspect_err(|error| tracing::error!(%error, "keys cannot be destroyed yet; trying again"))
                .is_err()
        });
    }

    fn answer(&self, pending: PendingCommit, failure: Option<&String>) {
        let PendingCommit { records, answers, .. } = pending;
        for (sender, verdict) in answers {
            // Whoever does not wait any more can repeat the command and gets its answer then.
            let _ = sender.send(self.outcome(&records, verdict, failure));
        }
    }

    fn outcome(
        &self,
        records: &[Arc<OpenRecord>],
        verdict: Verdict,
        failure: Option<&String>,
    ) -> Result<Outcome, SubmitError> {
        let metrics = &self.shared.metrics;
        let durable = self.log.size();
        match (verdict, failure) {
            (Verdict::Repeated(answered), _) if answered.first.0 < durable => {
                Metrics::add(&metrics.repeated, 1);
                self.repeat(records, &answered)
            }
            // What was decided stands on records that did not come about.
            (_, Some(why)) => Err(unavailable(why.clone())),
            (Verdict::Repeated(answered), None) => self.repeat(records, &answered),
            (Verdict::Accepted { first, count }, None) => {
                Metrics::add(&metrics.accepted, 1);
                let before = records.partition_point(|record| record.record.seq < first);
                let own = records.iter().skip(before).take(count).cloned().collect();
                Ok(Outcome { first, records: own, repeated: false })
            }
            (Verdict::Rejected { reason, record }, None) => {
                Metrics::add(&metrics.rejected, 1);
                Err(SubmitError::Rejected { reason, record })
            }
            (Verdict::Failed(error), None) => Err(error),
        }
    }

    /// The first answer again, from the commit or from the log.
    fn repeat(&self, records: &[Arc<OpenRecord>], answered: &Answered) -> Result<Outcome, SubmitError> {
        let first = answered.first.0;
        let wanted = first..first.saturating_add(u64::from(answered.count));
        let from_commit = records.iter().filter(|record| wanted.contains(&record.record.seq.0));
        let mut found: Vec<Arc<OpenRecord>> = from_commit.cloned().collect();
        if found.is_empty() {
            for entry in self.shared.log.read_range(wanted) {
                let (seq, bytes) = entry.map_err(|error| unavailable(error.to_string()))?;
                let open = open_record(seq, &bytes, &self.shared.vault);
                found.push(Arc::new(open.map_err(|error| unavailable(error.to_string()))?));
            }
        }
        Ok(Outcome { first: answered.first, records: found, repeated: true })
    }
}

fn rejected_as(failure: SealFailure) -> Verdict {
    match failure {
        SealFailure::TooLong => Verdict::Rejected { reason: Rejection::TooLong, record: None },
        other => Verdict::Failed(unavailable(other.to_string())),
    }
}

fn unavailable(why: String) -> SubmitError {
    SubmitError::Unavailable { why }
}

/// Says what to do about a log that cannot be written.
fn advise(error: &AppendError) -> String {
    let source = match error {
        AppendError::Tiles { source, .. } | AppendError::Store(StoreError::Failed { source, .. }) => source,
        _ => return format!("{error}; restart writd, which checks the log and mends what it can"),
    };
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return format!("the disk is full: free space on the volume of the log and try again ({error})");
    }
    format!("{error}; mend the volume of the log and try again")
}
