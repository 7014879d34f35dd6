//! `GET /agent/v1/session`: one WebSocket for each agent. This moves frames; [`Sessions`] does the rest.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use writ_schema::NodeId;
use writ_schema::event::SessionEnd;
use writ_schema::protocol::{AgentFrame, AgentMessage, MAX_AGENT_FRAME_BYTES};

use super::Services;
use super::access;
use super::error::ApiError;
use crate::sequencer::SubmitError;
use crate::session::pace::Pace;
use crate::session::{OpenError, OpenSession, Outgoing, Sessions, Stop, TokenRefusal};

/// How long an agent may take for its first frame.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

const PING_EVERY: Duration = Duration::from_secs(20);

/// A session in which nothing is heard for so long has ended.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// The same for an agent that carries packets for others: another takes over when its session ends, so its end is noticed
/// sooner.
const ROUTER_PING_EVERY: Duration = Duration::from_secs(3);
const ROUTER_SILENCE_LIMIT: Duration = Duration::from_secs(9);

/// How long one frame may take to leave.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// How long the last frame of a session is waited for.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(1);

/// Messages a second, and at once, of one agent. Beyond this its frames wait in its own socket.
const MESSAGES_PER_SECOND: u32 = 200;
const MESSAGE_BURST: u32 = 400;

/// Messages of one agent that are decided at the same time.
const MAX_AT_ONCE: usize = 64;

/// Opens a session.
pub async fn session(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let node = admit(&services, &request)?;
    let (response, session, messages) = actix_ws::handle(&request, payload).map_err(|error| {
        ApiError::bad_request("bad_upgrade", format!("a session is a WebSocket: {error}"))
    })?;
    let messages = messages
        .max_frame_size(MAX_AGENT_FRAME_BYTES)
        .aggregate_continuations()
        .max_continuation_size(MAX_AGENT_FRAME_BYTES);
    let live = services.live_sessions.token();
    actix_web::rt::spawn(async move {
        let _live = live;
        Socket { session, messages }.serve(&services, node).await;
    });
    Ok(response)
}

/// The node whose token a request carries. A token opens one WebSocket.
pub(super) fn admit(services: &Services, request: &HttpRequest) -> Result<NodeId, ApiError> {
    let token = access::bearer_of(request)?;
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    services.sessions.admit(token, now).map_err(|refusal| match refusal {
        TokenRefusal::TooMany => {
            ApiError::busy(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(60))
        }
        other => ApiError::unauthorized(other.word(), other.to_string()),
    })
}

struct Socket {
    session: Session,
    messages: AggregatedMessageStream,
}

/// How a session ended, and what the agent is told in the close frame.
struct Ending {
    reason: SessionEnd,
    close: Option<CloseReason>,
}

impl Ending {
    fn silent(reason: SessionEnd) -> Self {
        Self { reason, close: None }
    }

    fn told(reason: SessionEnd, code: CloseCode, why: &str) -> Self {
        Self { reason, close: Some(CloseReason { code, description: Some(why.to_owned()) }) }
    }

    fn violation(why: &str) -> Self {
        Self::told(SessionEnd::ProtocolViolation, CloseCode::Policy, why)
    }
}

impl Socket {
    async fn serve(mut self, services: &Services, node: NodeId) {
        let opened = tokio::select! {
            opened = self.open(services, node) => opened,
            () = services.stopping.cancelled() => Err(CloseReason::from(CloseCode::Restart)),
        };
        let mut open = match opened {
            Ok(open) => open,
            Err(reason) => return self.close(Some(reason)).await,
        };
        let ending = self.run(&services.sessions, &mut open).await;
        // Recorded before the agent sees the end, but not at the price of keeping it waiting.
        services.sessions.close(open, ending.reason).await;
        self.close(ending.close).await;
    }

    /// Waits for `hello` and opens the session.
    async fn open(&mut self, services: &Services, node: NodeId) -> Result<OpenSession, CloseReason> {
        let policy = |why: &str| CloseReason { code: CloseCode::Policy, description: Some(why.to_owned()) };
        let first = tokio::time::timeout(HELLO_LIMIT, self.first_text()).await;
        let first = first.map_err(|_| policy("no hello in time"))?.ok_or_else(|| policy("no hello"))?;
        let hello = serde_json::from_str::<AgentFrame>(&first).map(|frame| frame.message);
        let Ok(AgentMessage::Hello { agent, checkpoint_size, last_frame }) = hello else {
            return Err(policy("the first frame must be hello"));
        };
        let opened = services.sessions.open(node, agent, checkpoint_size, last_frame).await;
        opened.map_err(|error| {
            if let OpenError::LogBehind { .. } = error {
                tracing::error!(%error, "an agent holds proof of a longer log");
            }
            let code = match &error {
                OpenError::LogBehind { .. } => CloseCode::Policy,
                OpenError::Submit(SubmitError::Rejected { .. }) => CloseCode::Policy,
                OpenError::Submit(_) | OpenError::Stopping => CloseCode::Again,
            };
            CloseReason { code, description: Some(shortened(&error.to_string())) }
        })
    }

    async fn first_text(&mut self) -> Option<String> {
        loop {
            match self.messages.recv().await? {
                Ok(AggregatedMessage::Text(text)) => return Some(text.to_string()),
                Ok(AggregatedMessage::Ping(bytes)) => self.session.pong(&bytes).await.ok()?,
                Ok(AggregatedMessage::Pong(_)) => {}
                Ok(AggregatedMessage::Binary(_) | AggregatedMessage::Close(_)) | Err(_) => return None,
            }
        }
    }

    async fn run(&mut self, sessions: &Sessions, open: &mut OpenSession) -> Ending {
        let mut pace = Pace::per_second(MESSAGES_PER_SECOND, MESSAGE_BURST, Instant::now());
        let mut ready_at = Instant::now();
        let mut at_work = FuturesUnordered::new();
        let (mut heard, mut pinged) = (Instant::now(), Instant::now());
        let mut look_at = Instant::now();
        loop {
            let may_read = at_work.len() < MAX_AT_ONCE;
            tokio::select! {
                outgoing = open.next() => match outgoing {
                    Outgoing::Frame(text) => {
                        if let Err(ending) = self.send(&text).await { return ending; }
                        open.sent(sessions).await;
                        // It may carry routes from now on.
                        look_at = look_at.min(Instant::now() + ROUTER_PING_EVERY);
                    }
                    Outgoing::Stop(stop) => return self.stopped(open, stop).await,
                },
                Some(handled) = at_work.next(), if !at_work.is_empty() => {
                    if let Err(violation) = handled { return Ending::violation(&format!("{violation}")); }
                }
                message = self.next_message(ready_at), if may_read => {
                    heard = Instant::now();
                    let text = match message {
                        Incoming::Text(text) => text,
                        Incoming::Control => continue,
                        Incoming::End(ending) => return ending,
                    };
                    ready_at = heard + pace.spend(heard);
                    look_at = look_at.min(heard + ROUTER_PING_EVERY);
                    match serde_json::from_str::<AgentFrame>(&text) {
                        Ok(frame) => at_work.push(sessions.handle(open.speaker(), frame)),
                        Err(error) => return self.malformed(sessions, open, &error).await,
                    }
                }
                () = tokio::time::sleep_until(look_at.into()) => {
                    let (ping_every, silence_limit) = match sessions.carries_routes(open) {
                        true => (ROUTER_PING_EVERY, ROUTER_SILENCE_LIMIT),
                        false => (PING_EVERY, SILENCE_LIMIT),
                    };
                    if heard.elapsed() > silence_limit && may_read {
                        return Ending::told(SessionEnd::TimedOut, CloseCode::Away, "nothing was heard");
                    }
                    if pinged.elapsed() + ROUTER_PING_EVERY / 2 >= ping_every {
                        if self.session.ping(b"").await.is_err() { return Ending::silent(SessionEnd::Closed); }
                        pinged = Instant::now();
                    }
                    let due = (pinged + ping_every).min(heard + silence_limit);
                    look_at = due.max(Instant::now() + ROUTER_PING_EVERY);
                }
            }
        }
    }

    async fn next_message(&mut self, ready_at: Instant) -> Incoming {
        tokio::time::sleep_until(ready_at.into()).await;
        match self.messages.recv().await {
            Some(Ok(AggregatedMessage::Text(text))) => Incoming::Text(text.to_string()),
            Some(Ok(AggregatedMessage::Ping(bytes))) => match self.session.pong(&bytes).await {
                Ok(()) => Incoming::Control,
                Err(_) => Incoming::End(Ending::silent(SessionEnd::Closed)),
            },
            Some(Ok(AggregatedMessage::Pong(_))) => Incoming::Control,
            Some(Ok(AggregatedMessage::Close(_))) | None => Incoming::End(Ending::silent(SessionEnd::Closed)),
            Some(Ok(AggregatedMessage::Binary(_))) => {
                Incoming::End(Ending::violation("frames are JSON text"))
            }
            Some(Err(actix_ws::ProtocolError::Overflow)) => Incoming::End(Ending::told(
                SessionEnd::ProtocolViolation,
                CloseCode::Size,
                "the frame is too long",
            )),
            // The connection broke.
            Some(Err(actix_ws::ProtocolError::Io(_))) => Incoming::End(Ending::silent(SessionEnd::Closed)),
            Some(Err(_)) => Incoming::End(Ending::told(
                SessionEnd::ProtocolViolation,
                CloseCode::Protocol,
                "not the WebSocket protocol",
            )),
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), Ending> {
        match tokio::time::timeout(SEND_LIMIT, self.session.text(text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ending::silent(SessionEnd::Closed)),
            Err(_) => Err(Ending::told(SessionEnd::TimedOut, CloseCode::Policy, "frames are not read")),
        }
    }

    /// The hub ends the session. What was queued before still goes out.
    async fn stopped(&mut self, open: &mut OpenSession, stop: Stop) -> Ending {
        while let Some(text) = open.waiting() {
            if let Err(ending) = self.send(&text).await {
                return ending;
            }
        }
        match stop {
            Stop::End(SessionEnd::Replaced) => {
                Ending::told(SessionEnd::Replaced, CloseCode::Policy, "a newer session of this node is open")
            }
            Stop::End(SessionEnd::ControlPlaneStopped) => Ending::told(
                SessionEnd::ControlPlaneStopped,
                CloseCode::Restart,
                "the control plane is stopping",
            ),
            Stop::End(reason) => Ending::told(reason, CloseCode::Policy, "the node was removed"),
            Stop::Resync => Ending::told(SessionEnd::Closed, CloseCode::Again, "connect again"),
        }
    }

    /// Says where a frame is wrong, without repeating it, and ends the session.
    async fn malformed(
        &mut self,
        sessions: &Sessions,
        open: &mut OpenSession,
        error: &serde_json::Error,
    ) -> Ending {
        let place = format!("not a frame of an agent, at line {}, column {}", error.line(), error.column());
        sessions.refuse_frame(open.speaker(), place.clone()).await;
        // The refusal comes by way of the hub, after whatever was queued before it.
        while let Ok(Outgoing::Frame(text)) = tokio::time::timeout(LAST_WORD_LIMIT, open.next()).await {
            if let Err(ending) = self.send(&text).await {
                return ending;
            }
            if text.contains("\"refused\"") {
                break;
            }
        }
        Ending::violation(&place)
    }

    async fn close(self, reason: Option<CloseReason>) {
        // The agent may be gone already.
        let _ = self.session.close(reason).await;
    }
}

enum Incoming {
    Text(String),
    Control,
    End(Ending),
}

/// A close frame holds 123 bytes of reason.
fn shortened(text: &str) -> String {
    text.chars().filter(char::is_ascii).take(120).collect()
}
