//! What nodes ask, and the hub answers from the log.

use jiff::Timestamp;
use writ_schema::event::Side;
use writ_schema::protocol::ServerMessage;
use writ_schema::{AuthorizationId, CommandId, NodeId, RequestId};

use super::super::pushes::Push;
use super::Hub;

impl Hub {
    /// Answers a request that was answered before, if the answer still holds.
    pub(super) fn answer_again(
        &mut self,
        node: &NodeId,
        id: &AuthorizationId,
        request: RequestId,
        trace: Option<String>,
    ) {
        let live = {
            let state = self.parts.sequencer.state();
            let live = state.authorization(id);
            let live = live.filter(|it| it.is_live(Timestamp::now()) && !it.is_closed());
            live.map(|it| (it.record, it.destination.clone()))
        };
        match live {
            Some((record, peer)) => {
                let command = CommandId::from_bytes([0; 16]);
                let authorization = id.clone();
                let push = Push::Authorized { authorization, record, command, side: Side::Source, peer };
                self.push(node, push, Some(request), trace);
            }
            None => {
                let message = "this request was answered before, and what was authorized has ended; ask anew \
                               with a new request";
                let refused = ServerMessage::Refused {
                    request: Some(request),
                    error: "stale_request".to_owned(),
                    message: message.to_owned(),
                    retry_after_ms: None,
                };
                self.tell(node, refused, trace);
            }
        }
    }

    /// Proves to a node that the log goes on from a checkpoint that a peer of it holds.
    pub(super) fn prove_consistency(&mut self, node: &NodeId, request: RequestId, asked: u64) {
        let size = self.parts.log.size();
        if asked <= size {
            return self.frame(node, None, |_, prover| Ok((prover.consistency(request, asked)?, true)));
        }
        // Signed by this log's key: either the log was rolled back, or it was told otherwise to somebody else.
        tracing::error!(%node, asked, size, "a node holds a checkpoint of a longer log than this one");
        let message = format!("this log has {size} records, fewer than the {asked} of that checkpoint");
        let error = "beyond_log".to_owned();
        let refused = ServerMessage::Refused { request: Some(request), error, message, retry_after_ms: None };
        self.tell(node, refused, None);
    }

    /// Shows a node what witnesses have cosigned last, and proves that the log goes on from it.
    pub(super) fn show_cosigned(&mut self, node: &NodeId, request: RequestId) {
        // Taken before the checkpoint of the frame, which covers it therefore.
        if let Some(cosigned) = self.parts.cosigners.cosigned() {
            return self.frame(node, None, |_, prover| Ok((prover.cosigned(request, &cosigned)?, true)));
        }
        let message =
            "no quorum of witnesses has cosigned this log since the control plane started".to_owned();
        let error = "not_cosigned".to_owned();
        let refused = ServerMessage::Refused { request: Some(request), error, message, retry_after_ms: None };
        self.tell(node, refused, None);
    }
}
