//! What an agent asks, turned into commands, and how it is answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tracing::Instrument as _;
use writ_schema::event::Event;
use writ_schema::keys::Signature;
use writ_schema::net::Prefix;
use writ_schema::protocol::{AgentFrame, AgentMessage, Candidate, MAX_CANDIDATES, ServerMessage};
use writ_schema::{Actor, CommandId, NodeId, RequestId};
use writ_telemetry::{current_traceparent, span_with_parent};

use super::asked::{Asked, AskedBook};
use super::hub::Input;
use super::pace::Pace;
use super::proofs::leaf_text;
use super::{OpenSession, Sessions};
use crate::core::{Command, Question, Rejection, Submission};
use crate::sequencer::{Outcome, SubmitError};

/// Attempts to record what an agent reports while the sequencer is busy. A report has no name by which the agent
/// could be asked to repeat it.
const REPORT_ATTEMPTS: u32 = 8;

/// Whose message is handled.
#[derive(Debug, Clone)]
pub struct Speaker {
    node: NodeId,
    number: u64,
    questions: Arc<Mutex<Pace>>,
}

impl OpenSession {
    /// Who speaks in this session.
    pub fn speaker(&self) -> Speaker {
        Speaker { node: self.node.clone(), number: self.number, questions: self.questions.clone() }
    }
}

/// The message has no place here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// `hello` is the first message and no other.
    #[error("`hello` comes once, as the first message")]
    SecondHello,
    /// More candidates than are taken.
    #[error("more than {MAX_CANDIDATES} candidates")]
    TooManyCandidates,
}

impl Sessions {
    /// Carries out what an agent asks. The answer goes out by way of the hub.
    pub async fn handle(&self, speaker: Speaker, frame: AgentFrame) -> Result<(), Violation> {
        let AgentFrame { trace, message } = frame;
        match message {
            AgentMessage::Hello { .. } => return Err(Violation::SecondHello),
            AgentMessage::Connect { request, address, exit, protocol, port, renews } => {
                let span = tracing::info_span!("connection.request", otel.kind = "server");
                adopt(&span, trace.as_deref());
                let node = speaker.node.clone();
                let command = Command::RequestConnection { node, address, exit, protocol, port, renews };
                self.connect(speaker, request, command).instrument(span).await;
            }
            AgentMessage::Candidates { candidates } => self.candidates(speaker, candidates).await?,
            AgentMessage::Routes { routes } => self.routes(speaker, routes).await,
            AgentMessage::Acknowledge { authorization, record, action, signature } => {
                let span = tracing::info_span!("acknowledge", otel.kind = "server", %action);
                adopt(&span, trace.as_deref());
                let leaf = match leaf_text(&self.shared.log, record) {
                    Ok(leaf) => leaf,
                    Err(_) => {
                        self.refuse(
                            &speaker,
                            None,
                            &SubmitError::Rejected { reason: Rejection::WrongRecord(record), record: None },
                        )
                        .await;
                        return Ok(());
                    }
                };
                let node = speaker.node.clone();
                let command = Command::Acknowledge { node, authorization, record, leaf, action, signature };
                let wish = ["acknowledge", &record.to_string(), &action.to_string()];
                self.report(speaker, &wish, command).instrument(span).await;
            }
            AgentMessage::Rotate { command, generation, wireguard_key, signature } => {
                let node = speaker.node.clone();
                let rotate = Command::RotateKey { node, generation, wireguard_key, signature };
                self.rotate(speaker, command, rotate).await;
            }
            AgentMessage::Closed { authorization, reason, bytes_sent, bytes_received, path } => {
                let node = speaker.node.clone();
                let name = authorization.to_string();
                let closed =
                    Command::ReportClosed { node, authorization, reason, bytes_sent, bytes_received, path };
                self.report(speaker, &["closed", &name], closed).await;
            }
            AgentMessage::Consistency { request, size } => {
                let Speaker { node, number, .. } = speaker;
                self.to_hub(Input::Consistency { node, number, request, size }).await;
            }
            AgentMessage::Explain { request, destination, exit, protocol, port } => {
                self.explain(&speaker, Question { request, destination, exit, protocol, port }).await;
            }
            AgentMessage::Cosigned { request } => {
                let Speaker { node, number, .. } = speaker;
                self.to_hub(Input::Cosigned { node, number, request }).await;
            }
            AgentMessage::Reject { frame, reason, signature } => {
                self.reject(speaker, frame, reason, signature).await;
            }
        }
        Ok(())
    }

    /// Says how a connection would be decided. That is no connection, so it is not recorded; but it is slow, so that it is no
    /// way to read the policy unseen.
    async fn explain(&self, speaker: &Speaker, question: Question) {
        let request = question.request.clone();
        let allowed = speaker.questions.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if let Err(retry_after) = allowed {
            return self.refuse(speaker, Some(request), &SubmitError::Busy { retry_after }).await;
        }
        let explained = {
            let state = self.shared.sequencer.state();
            state.explain_connection(&speaker.node, Timestamp::now(), question)
        };
        match explained {
            Ok(explained) => self.tell(speaker, ServerMessage::Explained(explained), None).await,
            Err(reason) => {
                let error = SubmitError::Rejected { reason, record: None };
                self.refuse(speaker, Some(request), &error).await;
            }
        }
    }

    /// Tells an agent that one of its frames was not one.
    pub async fn refuse_frame(&self, speaker: Speaker, place: String) {
        let refused = ServerMessage::Refused {
            request: None,
            error: "malformed_frame".to_owned(),
            message: format!("{place}; the session ends"),
            retry_after_ms: None,
        };
        self.tell(&speaker, refused, None).await;
    }

    /// Records that an agent did not accept what it was sent. The reason stays sealed: it can name whom a person talks to.
    async fn reject(&self, speaker: Speaker, frame: u64, reason: String, signature: Signature) {
        tracing::error!(frame, "an agent could not verify what it was sent; the log says which and why");
        self.shared.metrics.frame_rejected();
        let (number, why) = (frame.to_string(), reason.clone());
        let node = speaker.node.clone();
        let command = Command::RecordFrameRejected { node, frame, reason, signature };
        self.report(speaker, &["reject", &number, &why], command).await;
    }

    async fn connect(&self, speaker: Speaker, request: RequestId, command: Command) {
        let wish = ["connect", request.as_str()];
        let id = match self.shared.sequencer.confidential_id(&speaker.node, &wish) {
            Ok(id) => id,
            Err(error) => return self.refuse(&speaker, Some(request), &error).await,
        };
        let trace = current_traceparent();
        let asked =
            Asked { node: speaker.node.clone(), request: Some(request.clone()), trace: trace.clone() };
        let noted = Noted::note(&self.shared.asked, id.clone(), asked);
        let submission = Submission { id, actor: Actor::Agent, command, trace: trace.clone() };
        match self.shared.sequencer.submit(submission).await {
            // The hub answers when it comes to the record.
            Ok(outcome) if !outcome.repeated => noted.leave_to_the_hub(),
            Ok(outcome) => {
                if let Some(authorization) = authorized_in(&outcome) {
                    let node = speaker.node;
                    self.to_hub(Input::AuthorizedAgain { node, authorization, request, trace }).await;
                }
            }
            Err(SubmitError::Rejected {
                reason: Rejection::Connection { reason, explanation },
                record: Some(record),
            }) => {
                let denied = ServerMessage::Denied { request, reason, explanation, record };
                self.tell(&speaker, denied, trace).await;
            }
            Err(error) => self.refuse(&speaker, Some(request), &error).await,
        }
    }

    async fn rotate(&self, speaker: Speaker, id: CommandId, command: Command) {
        let actor = Actor::Node(speaker.node.clone());
        let submission = Submission { id, actor, command, trace: None };
        match self.shared.sequencer.submit(submission).await {
            Ok(outcome) if outcome.repeated => {
                let node = speaker.node;
                self.to_hub(Input::KeyAgain { node, record: outcome.first }).await;
            }
            Ok(_) => {}
            Err(error) => self.refuse(&speaker, None, &error).await,
        }
    }

    /// Takes what a node offers to carry packets for, if it is not what is known already.
    async fn routes(&self, speaker: Speaker, mut routes: Vec<Prefix>) {
        routes.sort_unstable();
        routes.dedup();
        let node = speaker.node.clone();
        let known = {
            let state = self.shared.sequencer.state();
            state.node(&node).map(|node| (state.size(), node.advertised == routes))
        };
        let Some((size, false)) = known else { return };
        let offer: Vec<String> = routes.iter().map(Prefix::to_string).collect();
        let wish = ["routes", &size.to_string(), &offer.join(" ")];
        self.report(speaker, &wish, Command::AdvertiseRoutes { node, routes }).await;
    }

    async fn report(&self, speaker: Speaker, wish: &[&str], command: Command) {
        let id = match self.shared.sequencer.confidential_id(&speaker.node, wish) {
            Ok(id) => id,
            Err(error) => return self.refuse(&speaker, None, &error).await,
        };
        for _ in 0..REPORT_ATTEMPTS {
            let (id, command) = (id.clone(), command.clone());
            let submission = Submission { id, actor: Actor::Agent, command, trace: current_traceparent() };
            match self.shared.sequencer.submit(submission).await {
                Ok(_)
                | Err(SubmitError::Rejected {
                    reason: Rejection::AlreadyReported | Rejection::FrameRejected(_),
                    ..
                }) => return,
                Err(SubmitError::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
                Err(error) => return self.refuse(&speaker, None, &error).await,
            }
        }
        self.refuse(&speaker, None, &SubmitError::Busy { retry_after: std::time::Duration::from_secs(1) })
            .await;
    }

    async fn candidates(&self, speaker: Speaker, candidates: Vec<Candidate>) -> Result<(), Violation> {
        if candidates.len() > MAX_CANDIDATES {
            return Err(Violation::TooManyCandidates);
        }
        let candidates = candidates.into_iter().filter(is_usable).collect();
        self.to_hub(Input::Candidates { node: speaker.node, candidates }).await;
        Ok(())
    }

    async fn refuse(&self, speaker: &Speaker, request: Option<RequestId>, error: &SubmitError) {
        let (word, retry_after) = match error {
            SubmitError::Rejected { reason, .. } => (reason.word(), None),
            SubmitError::Busy { retry_after } => ("busy", Some(*retry_after)),
            SubmitError::ConflictingCommand(_) => ("conflicting_command", None),
            SubmitError::Unavailable { .. } | SubmitError::Undecided { .. } => ("unavailable", None),
        };
        let refused = ServerMessage::Refused {
            request,
            error: word.to_owned(),
            message: error.to_string(),
            retry_after_ms: retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        self.tell(speaker, refused, None).await;
    }

    async fn tell(&self, speaker: &Speaker, message: ServerMessage, trace: Option<String>) {
        let Speaker { node, number, .. } = speaker.clone();
        self.to_hub(Input::Tell { node, number, message: Box::new(message), trace }).await;
    }

    async fn to_hub(&self, input: Input) {
        // The hub ends with the process only.
        let _ = self.shared.hub.send(input).await;
    }
}

/// A request in the book, taken out again unless it is left to the hub, also when the session ends meanwhile.
struct Noted<'a> {
    book: Option<&'a AskedBook>,
    command: CommandId,
}

impl<'a> Noted<'a> {
    fn note(book: &'a AskedBook, command: CommandId, asked: Asked) -> Self {
        book.note(command.clone(), asked);
        Self { book: Some(book), command }
    }

    fn leave_to_the_hub(mut self) {
        self.book = None;
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(book) = self.book {
            book.forget(&self.command);
        }
    }
}

fn authorized_in(outcome: &Outcome) -> Option<writ_schema::AuthorizationId> {
    outcome.records.iter().find_map(|record| match &record.record.event {
        Event::ConnectionAuthorized(body) => Some(body.authorization.clone()),
        _ => None,
    })
}

/// Makes the agent's span the parent. A traceparent that is none is passed over: it is no reason to refuse a request.
fn adopt(span: &tracing::Span, trace: Option<&str>) {
    if let Some(trace) = trace
        && span_with_parent(span, trace).is_err()
    {
        tracing::debug!("an agent's traceparent was not one");
    }
}

/// Addresses that cannot be those of one host are not passed on.
fn is_usable(candidate: &Candidate) -> bool {
    let ip = candidate.address.ip();
    let is_broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    candidate.address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_schema::protocol::CandidateKind;

    #[test]
    fn addresses_of_no_host_are_not_candidates() {
        for (address, usable) in [
            ("192.0.2.1:51820", true),
            ("[2001:db8::1]:51820", true),
            ("192.0.2.1:0", false),
            ("0.0.0.0:1", false),
            ("224.0.0.1:1", false),
            ("255.255.255.255:1", false),
        ] {
            let candidate = Candidate { address: address.parse().unwrap(), kind: CandidateKind::Host };
            assert_eq!(is_usable(&candidate), usable, "{address}");
        }
    }
}
