//! Questions about the policy: they go to the control plane, and its answers back to whoever asked on the local socket.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use writ_schema::RequestId;
use writ_schema::event::Side;
use writ_schema::net::Protocol;
use writ_schema::protocol::{AgentFrame, AgentMessage, Destination, Explained};

use super::{Agent, now};
use crate::shell::local::{Response, WhyQuestion};
use crate::shell::status::WhyStatus;

/// Questions that may wait for their answers.
const MAX_QUESTIONS: usize = 16;

/// Who waits for an answer of the control plane.
#[derive(Default)]
pub(super) struct Questions(BTreeMap<RequestId, Waiting>);

struct Waiting {
    protocol: Protocol,
    port: u16,
    answer: oneshot::Sender<Response>,
}

impl Questions {
    /// The session is gone, and the answers with it.
    pub fn fail(&mut self, why: &str) {
        for (_, waiting) in std::mem::take(&mut self.0) {
            let _ = waiting.answer.send(Response::Failed(why.to_owned()));
        }
    }

    /// The control plane does not answer a question now.
    pub fn refused(&mut self, request: &RequestId, message: &str) {
        if let Some(waiting) = self.0.remove(request) {
            let why = format!("the control plane does not answer: {message}");
            let _ = waiting.answer.send(Response::Failed(why));
        }
    }
}

impl Agent {
    pub(super) fn ask_why(&mut self, question: WhyQuestion, answer: oneshot::Sender<Response>) {
        self.questions.0.retain(|_, waiting| !waiting.answer.is_closed());
        let problem = if !self.connection.is_up {
            let why = self.connection.why.as_deref().unwrap_or("it was never reached");
            Some(format!(
                "the control plane decides who may reach whom, and there is no session with it: {why}. What is authorized \
                 already (`writ-agent peers`) goes on until it expires"
            ))
        } else if self.questions.0.len() >= MAX_QUESTIONS {
            Some("too many wait for an answer already".to_owned())
        } else {
            None
        };
        if let Some(problem) = problem {
            let _ = answer.send(Response::Failed(problem));
            return;
        }
        let WhyQuestion { destination, protocol, port } = question;
        let request = self.engine.request_id();
        self.questions.0.insert(request.clone(), Waiting { protocol, port, answer });
        let exit = match &destination {
            Destination::Address(address) => self.engine.exit_to(*address),
            Destination::Name(_) => None,
        };
        let message = AgentMessage::Explain { request, destination, exit, protocol, port };
        self.send(AgentFrame { trace: None, message });
    }

    pub(super) fn take_explained(&mut self, explained: Explained) {
        let Some(waiting) = self.questions.0.remove(&explained.request) else { return };
        let Waiting { protocol, port, answer } = waiting;
        let peers = self.engine.status(now()).peers;
        let node = explained.destination.as_ref().map(|destination| &destination.node);
        let peer = peers.into_iter().find(|peer| Some(&peer.node) == node);
        let (path, mut authorizations) = match peer {
            Some(peer) => (Some(peer.path), peer.authorizations),
            None => (None, Vec::new()),
        };
        authorizations.retain(|live| {
            let covers = !protocol.has_ports() || live.ports.contains(port);
            live.side == Side::Source && live.protocol == protocol && covers
        });
        let allowed = explained.denied.is_none();
        let _ = answer.send(Response::of(&WhyStatus {
            protocol,
            port,
            allowed,
            explained,
            authorizations,
            path,
        }));
    }
}
