//! The policy and its changes.

use writ_schema::Seq;
use writ_schema::event::{PolicyActivated, PolicyChangeProposed};

use crate::core::state::{ActivePolicy, Proposal, State};

pub(super) fn proposed(state: &mut State, seq: Seq, body: &PolicyChangeProposed) {
    let text = body.text.value().map(|text| text.as_str().into());
    state.policies.propose(body.proposal.clone(), Proposal { text, record: seq });
}

pub(super) fn activated(state: &mut State, seq: Seq, body: &PolicyActivated) {
    let Some(proposal) = state.policies.take_proposal(&body.proposal) else { return };
    state.policies.activate(ActivePolicy {
        version: body.version,
        text: proposal.text,
        proposal: body.proposal.clone(),
        proposed: proposal.record,
        activated: seq,
        restores: body.restores,
    });
}
