//! What peers say about the log, the questions that follow from it, and what an administrator decides in the end.

use jiff::Timestamp;
use writ_ledger::Hash;
use writ_schema::protocol::AgentMessage;
use writ_schema::{NodeId, RequestId};

use super::{FoundSplitView, Heard, Trust, UnprovenCheckpoint};

impl Trust {
    /// A peer says that this signed note is the newest checkpoint it has verified.
    pub fn hear_checkpoint(&mut self, now: Timestamp, peer: &NodeId, note: &str) -> Heard {
        let heard = self.witness.hear_checkpoint(now, &self.chain, peer, note);
        self.changes.trust += u64::from(heard == Heard::SplitView);
        heard
    }

    /// A peer says that this proves a split view.
    pub fn hear_split_view(&mut self, now: Timestamp, peer: &NodeId, evidence: &str) -> Heard {
        let heard = self.witness.hear_split_view(now, &self.chain, peer, evidence);
        self.changes.trust += u64::from(heard == Heard::SplitView);
        heard
    }

    /// What is to be asked of the control plane because of what peers hold or the policy demands, while there is a session.
    pub fn ask(&mut self, now: Timestamp, name: impl FnOnce() -> RequestId) -> Option<AgentMessage> {
        // Not both at once, since a name can be given once.
        if let Some(quorum) = self.quorum.as_mut().filter(|quorum| quorum.is_due(now)) {
            return Some(AgentMessage::Cosigned { request: quorum.ask(now, name()) });
        }
        let (request, size) = self.witness.ask(now, name)?;
        Some(AgentMessage::Consistency { request, size })
    }

    /// The control plane shows what witnesses have cosigned. Tells whether something may be believed now that was refused.
    pub(super) fn hear_cosigned(
        &mut self,
        now: Timestamp,
        request: &RequestId,
        note: &str,
        proof: Option<Vec<Hash>>,
    ) -> bool {
        let Some(quorum) = &mut self.quorum else { return false };
        self.changes.trust += 1;
        quorum.answered(now, &self.chain, request, note, proof)
    }

    /// A session began, or ended.
    pub fn session_changed(&mut self, now: Timestamp, is_up: bool) {
        if is_up {
            if let Some(quorum) = &mut self.quorum {
                quorum.session_began();
            }
            self.witness.session_began(now);
        } else {
            self.witness.session_lost();
        }
    }

    /// That the log has shown two histories, if it has. Nothing new is believed from then on.
    pub fn split_view(&self) -> Option<&FoundSplitView> {
        self.witness.found()
    }

    /// Checkpoints of peers that the control plane has not proven.
    pub fn unproven_checkpoints(&self, now: Timestamp) -> Vec<UnprovenCheckpoint> {
        self.witness.unproven(now)
    }

    /// An administrator has decided about a split view: new authorizations are believed again. The chain goes on from the
    /// checkpoint that is held or, if that is the wrong history, from the one that the control plane shows next.
    pub fn reset(&mut self, forget_checkpoint: bool) {
        self.witness.forgive(&self.chain);
        if forget_checkpoint {
            self.chain.forget();
            self.witness.forget_history();
        }
        self.changes.trust += 1;
    }
}
