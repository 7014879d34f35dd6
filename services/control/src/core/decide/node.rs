//! Nodes: removal, key rotation, sessions.

use writ_schema::event::{
    FrameRejection, KeyRotated, NodeRemoval, RevocationReason, SessionEnd, SessionFrameRejected,
    SessionStarted, SessionTerminated, Version,
};
use writ_schema::keys::{Signature, Statement, WireGuardKey};
use writ_schema::protocol::MAX_REASON_CHARS;
use writ_schema::{Actor, NodeId};

use super::values::check_line;
use super::{Case, Decision, Refusal, routes, withdrawal};
use crate::core::command::Command;
use crate::core::refusals::RefusalFact;
use crate::core::rejection::Rejection;

pub(super) fn decide(case: &Case<'_>, command: &Command) -> Decision {
    match command {
        Command::RemoveNode { node } => {
            let node = case.live_node(node)?;
            let (removal, reason) = (NodeRemoval::Removed, RevocationReason::NodeRemoved);
            Ok(withdrawal::remove_nodes(case, None, std::iter::once(node), removal, reason))
        }
        Command::RotateKey { node, generation, wireguard_key, signature } => {
            rotate(case, node, *generation, wireguard_key, signature)
        }
        Command::StartSession { node, agent } => start_session(case, node, agent),
        Command::EndSession { node, reason } => end_session(case, node, *reason),
        Command::RecordFrameRejected { node, frame, reason, signature } => {
            reject_frame(case, node, *frame, reason, signature)
        }
        _ => Ok(Vec::new()),
    }
}

fn rotate(
    case: &Case<'_>,
    node: &NodeId,
    generation: u64,
    wireguard_key: &WireGuardKey,
    signature: &Signature,
) -> Decision {
    let known = case.live_node(node)?;
    let expected = known.generation.saturating_add(1);
    if generation != expected {
        return Err(Rejection::WrongGeneration { expected }.into());
    }
    let statement = Statement::Rotation { network: &case.network.created.network, generation, wireguard_key };
    if known.identity_key.verify(&statement, signature).is_err() {
        return Err(Rejection::BadSignature(node.clone()).into());
    }
    if case.state.nodes.by_wireguard_key(wireguard_key).is_some() {
        return Err(Rejection::KeyInUse.into());
    }
    let rotated = KeyRotated {
        v: Version,
        node: node.clone(),
        generation,
        wireguard_key: *wireguard_key,
        signature: *signature,
    };
    Ok(vec![case.draft_by(Actor::Node(node.clone()), rotated)])
}

fn start_session(case: &Case<'_>, node: &NodeId, agent: &str) -> Decision {
    let known = case.live_node(node)?;
    check_line("agent", agent, 64)?;
    let actor = Actor::Node(node.clone());
    let replaced = known.session.as_ref().map(|_| {
        let reason = SessionEnd::Replaced;
        case.draft_by(actor.clone(), SessionTerminated { v: Version, node: node.clone(), reason })
    });
    let started = SessionStarted { v: Version, node: node.clone(), agent: agent.to_owned() };
    Ok(replaced.into_iter().chain([case.draft_by(actor.clone(), started)]).collect())
}

fn end_session(case: &Case<'_>, node: &NodeId, reason: SessionEnd) -> Decision {
    let known = case.live_node(node)?;
    if known.session.is_none() {
        return Err(Rejection::NoSession(node.clone()).into());
    }
    let ended = case.draft(SessionTerminated { v: Version, node: node.clone(), reason });
    let is_gone = !matches!(reason, SessionEnd::Replaced | SessionEnd::ControlPlaneStopped);
    let replaced = is_gone.then(|| routes::replaced(case, known)).into_iter().flatten();
    Ok(std::iter::once(ended).chain(replaced.map(|event| case.consequence(0, event))).collect())
}

/// It is recorded whatever was sent: an agent that does not believe the control plane is a fact about either of them.
fn reject_frame(case: &Case<'_>, node: &NodeId, frame: u64, reason: &str, signature: &Signature) -> Decision {
    let known = case.live_node(node)?;
    check_line("reason", reason, MAX_REASON_CHARS)?;
    let statement = Statement::Rejection { network: &case.network.created.network, frame, reason };
    if known.identity_key.verify(&statement, signature).is_err() {
        return Err(Rejection::BadSignature(node.clone()).into());
    }
    let rejection = FrameRejection { frame, reason: reason.to_owned(), signature: *signature };
    let rejected = SessionFrameRejected {
        v: Version,
        source: case.sealed_source(known),
        rejection: case.seal(node, rejection),
        count: 1,
    };
    let fact =
        RefusalFact::Frame { node: node.clone(), reason: reason.to_owned(), rejected: Box::new(rejected) };
    Err(Box::new(Refusal { rejection: Rejection::FrameRejected(node.clone()), fact: Some(fact) }))
}
