//! This node as a witness: what it says to its peers about the log, and what comes of what they say.

use writ_schema::protocol::AgentFrame;

use super::{Agent, now};
use crate::engine::Testimony;
use crate::shell::local::Response;
use crate::state::StateDir;
use crate::trust::Heard;

impl Agent {
    /// Looks at what peers have said.
    pub(super) fn hear_peers(&mut self) {
        let at = now().wall;
        while let Some((peer, testimony)) = self.engine.poll_heard() {
            let heard = match &testimony {
                Testimony::Checkpoint(note) => self.trust.hear_checkpoint(at, &peer, note),
                Testimony::SplitView(evidence) => self.trust.hear_split_view(at, &peer, evidence),
            };
            if heard == Heard::Nothing {
                tracing::debug!(%peer, "a peer said something that the log's key has not signed");
            }
        }
        self.take_split_view();
        self.ask_for_proofs();
    }

    /// Says to peers what is verified, once it is on disk.
    pub(super) fn testify(&mut self) {
        if self.keeper.written.borrow().trust < self.asked.trust {
            return;
        }
        let testimony = match self.trust.split_view().filter(|found| found.is_proven) {
            Some(found) => Testimony::SplitView(found.evidence.clone()),
            None => match self.trust.chain().note() {
                Some(note) => Testimony::Checkpoint(note.into()),
                None => return,
            },
        };
        self.engine.testify(now(), testimony);
    }

    fn ask_for_proofs(&mut self) {
        if !self.connection.is_up || self.is_ending {
            return;
        }
        while let Some(message) = self.trust.ask(now().wall, || self.engine.request_id()) {
            self.send(AgentFrame { trace: None, message });
        }
    }

    /// A split view was found, or had been when this process began: it is said everywhere, and its evidence kept.
    fn take_split_view(&mut self) {
        let Some(found) = self.trust.split_view().filter(|found| Some(found.at) != self.told_split_view)
        else {
            return;
        };
        let path = StateDir::split_view_path(&self.options.state);
        tracing::error!(
            evidence = %path.display(),
            is_proven = found.is_proven,
            "SPLIT VIEW: {}. New connections are refused until an administrator has decided",
            found.what
        );
        if let Err(error) = self.state.store_split_view(&found.evidence) {
            // It is kept with what was verified all the same.
            tracing::error!("the evidence cannot be written as a file of its own: {error}");
        }
        let (at, reason) = (found.at, format!("split view: {}", found.what));
        self.told_split_view = Some(at);
        let frame = self.position.last_frame.unwrap_or_default();
        self.engine.reject(frame, &reason);
    }

    /// What an administrator has decided.
    pub(super) fn reset_trust(&mut self, forget_checkpoint: bool) -> Response {
        if self.trust.split_view().is_none() && !forget_checkpoint {
            return Response::Failed("no split view was found here, so there is nothing to reset".to_owned());
        }
        let kept = match self.state.set_split_view_aside(now().wall.as_second()) {
            Ok(kept) => kept,
            Err(error) => return Response::Failed(error.to_string()),
        };
        tracing::warn!(forget_checkpoint, "an administrator has reset what is believed of the log");
        self.trust.reset(forget_checkpoint);
        self.told_split_view = None;
        // What was refused meanwhile is told anew.
        self.begin_anew("what is believed of the log was reset");
        let evidence = kept.map(|path| format!("; the evidence stays in {}", path.display()));
        let from = if forget_checkpoint {
            "the checkpoint that it shows next"
        } else {
            "the checkpoint that is held here"
        };
        Response::Done(format!(
            "the control plane is believed again, from {from}{}",
            evidence.unwrap_or_default()
        ))
    }
}
