//! Traces: a connection's begins with the packet that asks for it, goes through the control plane, and ends with the
//! acknowledgements of both agents.

use std::collections::HashMap;

use tracing::{Span, field, info_span};
use writ_schema::RequestId;
use writ_schema::protocol::{AgentMessage, ServerMessage};
use writ_telemetry::{current_traceparent, span_with_parent};

/// Requests whose answer is awaited; more are not traced.
const MAX_REQUESTS: usize = 1024;

/// The spans of requests that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Traces {
    requests: HashMap<RequestId, Span>,
}

impl Traces {
    /// The traceparent that a message is to carry. A request begins a trace; what else is said while a frame is handled
    /// belongs to that frame's.
    pub fn outgoing(&mut self, message: &AgentMessage) -> Option<String> {
        let AgentMessage::Connect { request, protocol, port, renews, .. } = message else {
            return current_traceparent();
        };
        let span = info_span!(
            parent: None,
            "connection.request",
            %request,
            %protocol,
            port,
            renewal = renews.is_some(),
            outcome = field::Empty
        );
        let trace = span.in_scope(current_traceparent);
        if self.requests.len() < MAX_REQUESTS {
            self.requests.insert(request.clone(), span);
        }
        trace
    }

    /// A frame came: ends the span of the request that it answers, and gives the span of carrying it out.
    pub fn incoming(&mut self, message: &ServerMessage, trace: Option<&str>) -> Span {
        let (answered, outcome, span) = match message {
            ServerMessage::Authorized(authorized) => (
                authorized.request.as_ref(),
                "authorized",
                info_span!(parent: None, "acknowledge", action = "established"),
            ),
            ServerMessage::Revoked { .. } => {
                (None, "", info_span!(parent: None, "acknowledge", action = "withdrawn"))
            }
            ServerMessage::Denied { request, .. } => (Some(request), "denied", Span::none()),
            ServerMessage::Refused { request, .. } => (request.as_ref(), "refused", Span::none()),
            ServerMessage::Snapshot(_)
            | ServerMessage::NetmapChanged(_)
            | ServerMessage::PeerKey { .. }
            | ServerMessage::Candidates { .. }
            | ServerMessage::Consistency { .. }
            | ServerMessage::Explained(_)
            | ServerMessage::Cosigned { .. }
            | ServerMessage::Removed { .. } => (None, "", Span::none()),
        };
        if let Some(request) = answered.and_then(|request| self.requests.remove(request)) {
            request.record("outcome", outcome);
        }
        if let Some(trace) = trace {
            // A trace that cannot be read costs the trace, not the message.
            let _ = span_with_parent(&span, trace);
        }
        span
    }

    /// Requests of a session that is gone are asked again under other names.
    pub fn forget_requests(&mut self) {
        self.requests.clear();
    }
}
