//! A commit in the making.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;
use writ_schema::Seq;

use super::handle::{OpenRecord, Outcome, SubmitError};
use crate::core::Rejection;
use crate::core::state::Answered;

/// The records and answers of one commit, before it is durable.
#[derive(Default)]
pub(super) struct PendingCommit {
    pub(super) records: Vec<Arc<OpenRecord>>,
    /// The records' bytes, together.
    pub(super) bytes: usize,
    pub(super) answers: Vec<(oneshot::Sender<Result<Outcome, SubmitError>>, Verdict)>,
    /// Of what the append is a part: traceparent and number of records of each command.
    pub(super) traces: Vec<(String, usize)>,
}

/// What was decided about a command.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is carried out by records of the commit.
    Accepted {
        /// The first.
        first: Seq,
        /// How many.
        count: usize,
    },
    /// It was carried out before.
    Repeated(Answered),
    /// The answer is no.
    Rejected {
        /// Why.
        reason: Rejection,
        /// The record of the refusal.
        record: Option<Seq>,
    },
    /// It could not be decided.
    Failed(SubmitError),
}

impl PendingCommit {
    /// Takes up records that follow those that it has.
    pub(super) fn push(&mut self, records: Vec<Arc<OpenRecord>>, trace: Option<&String>) {
        if let Some(trace) = trace.filter(|_| !records.is_empty()) {
            self.traces.push((trace.clone(), records.len()));
        }
        self.bytes += records.iter().map(|record| record.bytes.len()).sum::<usize>();
        self.records.extend(records);
    }

    /// The position of its first record.
    pub(super) fn first(&self) -> Option<Seq> {
        self.records.first().map(|record| record.record.seq)
    }

    /// Spans that last as long as the append, one in the trace of each command.
    pub(super) fn append_spans(&self) -> Vec<Span> {
        let spans = self.traces.iter().map(|(trace, count)| {
            let span = tracing::info_span!("append", records = count, commit = self.records.len());
            // A traceparent that is none comes from outside; the span then begins a trace of its own.
            let _ = writ_telemetry::span_with_parent(&span, trace);
            span
        });
        spans.collect()
    }
}
