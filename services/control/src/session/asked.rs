//! Which requests of agents are being decided, so that the record which answers one finds its way back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use writ_schema::{AuthorizationId, CommandId, NodeId, RequestId};

use crate::core::State;

/// What an agent asked, under the command that it became.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who asked.
    pub node: NodeId,
    /// The agent's name for it; nothing for what needs no answer by name.
    pub request: Option<RequestId>,
    /// The trace that goes on with the answer.
    pub trace: Option<String>,
}

/// The requests under decision. Bounded by the sessions, each of which has few at a time.
#[derive(Debug, Default)]
pub struct AskedBook(Mutex<HashMap<CommandId, Asked>>);

impl AskedBook {
    /// Notes a request before it is submitted.
    pub fn note(&self, command: CommandId, asked: Asked) {
        self.lock().insert(command, asked);
    }

    /// Forgets a request that was answered otherwise.
    pub fn forget(&self, command: &CommandId) {
        self.lock().remove(command);
    }

    /// The trace of the command, if it has one.
    pub fn trace_of(&self, command: &CommandId) -> Option<String> {
        self.lock().get(command).and_then(|asked| asked.trace.clone())
    }

    /// Takes the request of this node that the command answers.
    pub fn take(&self, command: &CommandId, node: &NodeId) -> Option<RequestId> {
        let mut book = self.lock();
        let is_theirs = book.get(command).is_some_and(|asked| asked.node == *node);
        is_theirs.then(|| book.remove(command)).flatten().and_then(|asked| asked.request)
    }

    /// Takes the requests that were authorized according to the state.
    pub fn take_authorized(
        &self,
        state: &State,
        now: Timestamp,
    ) -> Vec<(NodeId, RequestId, AuthorizationId)> {
        let mut taken = Vec::new();
        self.lock().retain(|command, asked| {
            let (Some(answered), Some(request)) = (state.answered(command), &asked.request) else {
                return true;
            };
            let mut live = state.live_authorizations_of(&asked.node, now);
            let Some(authorization) = live.find(|it| it.record == answered.first) else { return true };
            taken.push((asked.node.clone(), request.clone(), authorization.id.clone()));
            false
        });
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CommandId, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
