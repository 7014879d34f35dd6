//! The thread that writes.

mod answers;
mod store;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;
use writ_ledger::{Log, Signer};
use writ_schema::record::CommandRef;
use writ_schema::seal::DestroyedKeys;
use writ_schema::{Actor, CommandId, Event, Seq};

use self::store::Trouble;
use super::commit::{PendingCommit, Verdict};
use super::digest::digest;
use super::handle::{Commit, KeyChange, KeyChangeError, Message, Outcome, Pending, Shared, SubmitError};
use super::seal::{SealFailure, seal};
use super::{Metrics, Options};
use crate::core::refusals::{Noted, Refusals};
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
    /// What the store is in, when a commit has failed so that the log must be taken up again before the next.
    trouble: Option<Trouble>,
    /// What fails beside appending, as it was told last.
    upkeep_failure: Option<String>,
    looked: Instant,
}

impl Writer {
    pub(super) fn new(log: Log, shared: Arc<Shared>, state: State, options: Options) -> Self {
        let (refusals, unfinished_erasures) = (Refusals::default(), Vec::new());
        let (is_opened, trouble, looked) = (false, None, Instant::now());
        Self {
            log,
            shared,
            working: state,
            refusals,
            options,
            is_opened,
            unfinished_erasures,
            trouble,
            upkeep_failure: None,
            looked,
        }
    }

    /// Records that writing begins. If that fails, it is tried again with every commit.
    pub(super) fn open(&mut self) {
        self.commit(&mut VecDeque::new());
    }

    pub(super) fn run(mut self, waiting: &Receiver<Message>) {
        loop {
            let first = if self.has_work_in_time() {
                waiting.recv_timeout(TICK)
            } else {
                waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut batch = VecDeque::new();
            let mut key_changes = Vec::new();
            let mut is_stopping = matches!(first, Err(RecvTimeoutError::Disconnected));
            let rest = std::iter::from_fn(|| waiting.try_recv().ok()).take(MAX_COMMANDS - 1);
            for message in first.ok().into_iter().chain(rest) {
                match message {
                    Message::Submit(pending) => batch.push_back(*pending),
                    Message::RotateKey(change) => key_changes.push(change),
                    Message::Stop => is_stopping = true,
                }
            }
            self.shared.metrics.queued.fetch_sub(batch.len() as u64, Ordering::Relaxed);
            self.look_at_the_store();
            self.commit(&mut batch);
            while !batch.is_empty() {
                self.commit(&mut batch);
            }
            for change in key_changes {
                let KeyChange { next, id, actor, answer } = *change;
                // Whoever does not wait any more finds it in the log.
                let _ = answer.send(self.rotate_key(next, id, actor));
            }
            self.finish_erasures();
            if is_stopping {
                return self.close();
            }
        }
    }

    fn has_work_in_time(&self) -> bool {
        let is_due = self.refusals.is_counting() || !self.unfinished_erasures.is_empty();
        is_due || self.trouble.is_some() || self.log.is_shared()
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
            let full_bytes = self.log.max_commit_bytes() / 4;
            if pending.records.len() >= FULL_COMMIT || pending.bytes >= full_bytes {
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

    /// Changes the log's key. The record of it ends a commit of its own, so that the rotation can name the tree before it.
    fn rotate_key(
        &mut self,
        next: Box<dyn Signer>,
        id: CommandId,
        actor: Actor,
    ) -> Result<Outcome, KeyChangeError> {
        let new_key = next.verifier_key().to_string();
        let rotation = self.log.rotation_to(next.as_ref()).map_err(KeyChangeError::Sign)?;
        let command = Command::RotateLogKey { new_key, rotation: rotation.statement.clone() };
        let (answer, mut answered) = oneshot::channel();
        let mut pending = PendingCommit::default();
        let verdict = self.decide(&mut pending, &Submission { id, actor, command, trace: None });
        pending.answers.push((answer, verdict));
        self.make_durable(pending);
        let stopped = || SubmitError::Unavailable { why: "the change was not answered".to_owned() };
        let outcome = answered.try_recv().unwrap_or_else(|_| Err(stopped()))?;
        if !outcome.repeated {
            let seq = outcome.first;
            let handed_over = self.log.hand_over(next, &rotation);
            handed_over.map_err(|source| KeyChangeError::Unfinished { seq, source })?;
            *self.shared.signer.write().unwrap_or_else(PoisonError::into_inner) = self.log.signer();
        }
        Ok(outcome)
    }

    /// Why nothing may be signed: the key in hand is not the one that the log says, since a change of it is not finished.
    fn has_former_key(&self) -> Option<String> {
        let committed = self.committed();
        let change = committed.network()?.log_keys.last()?;
        (change.key != self.log.verifier_key().to_string()).then(|| {
            format!(
                "the log's key is {} since record {}, and the change is not finished: restart writd, which finishes it",
                change.key, change.seq
            )
        })
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
        match appended {
            Ok(checkpoint) => {
                self.shared.set_problem(None);
                self.refusals.commit();
                self.is_opened |= self.working.is_open();
                self.publish(&pending, checkpoint, append_time);
                self.answer(pending, None);
                self.look_at_the_upkeep();
            }
            Err(failure) => {
                tracing::error!(why = %failure, records = pending.records.len(), "a commit failed");
                Metrics::add(&self.shared.metrics.failed_commits, 1);
                self.shared.set_problem(Some(failure.to_string()));
                let committed = self.committed().clone();
                self.working = committed;
                self.refusals.roll_back(first);
                self.answer(pending, Some(&failure));
            }
        }
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
