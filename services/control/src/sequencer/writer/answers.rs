//! What is answered to those who submitted commands.

use std::sync::Arc;

use super::super::Metrics;
use super::super::commit::{PendingCommit, Verdict};
use super::super::handle::{OpenRecord, Outcome, SubmitError};
use super::Writer;
use crate::core::state::Answered;

impl Writer {
    pub(super) fn answer(&self, pending: PendingCommit, failure: Option<&SubmitError>) {
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
        failure: Option<&SubmitError>,
    ) -> Result<Outcome, SubmitError> {
        let metrics = &self.shared.metrics;
        let durable = self.log.size();
        match (verdict, failure) {
            (Verdict::Repeated(answered), _) if answered.first.0 < durable => {
                Metrics::add(&metrics.repeated, 1);
                self.repeat(records, &answered)
            }
            // What was decided stands on records that did not come about.
            (_, Some(failure)) => Err(failure.clone()),
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
        let records: Vec<Arc<OpenRecord>> = from_commit.cloned().collect();
        if records.is_empty() {
            return self.shared.repeat(answered);
        }
        Ok(Outcome { first: answered.first, records, repeated: true })
    }
}
