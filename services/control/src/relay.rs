//! The relay's permits: always what the committed state allows, never more.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use writ_relay::RelayHandle;
use writ_schema::NodeId;
use writ_schema::event::Event;

use crate::core::State;
use crate::core::state::Authorization;
use crate::sequencer::OpenRecord;

/// Gives the relay the permits of every authorization in use in the place of whatever it had.
pub fn set_all(relay: &RelayHandle, state: &State, now: Timestamp) {
    let mut pairs: HashMap<(NodeId, NodeId), SystemTime> = HashMap::new();
    for authorization in state.live_authorizations(now).filter(|it| !it.is_closed()) {
        let Some((pair, until)) = permit_of(authorization) else { continue };
        pairs.entry(pair).and_modify(|longest| *longest = until.max(*longest)).or_insert(until);
    }
    let permits = pairs.into_iter().map(|((a, b), until)| (a, b, until));
    if let Err(error) = relay.set_permits(permits) {
        tracing::error!(%error, "the relay could not take the permits of the live authorizations");
    }
}

/// Follows one committed record.
pub fn follow(relay: &RelayHandle, record: &OpenRecord, state: &State, now: Timestamp) {
    match &record.record.event {
        Event::ConnectionAuthorized(body) => {
            let used = state.authorization(&body.authorization);
            let used = used.filter(|it| it.is_live(now) && !it.is_closed());
            if let Some(((a, b), until)) = used.and_then(permit_of) {
                permit(relay, &a, &b, until);
            }
        }
        Event::ConnectionRevoked(body) => {
            refresh(relay, state, state.authorization(&body.authorization), now)
        }
        Event::ConnectionClosed(body) => refresh(relay, state, state.authorization(&body.authorization), now),
        Event::NodeRemoved(body) => relay.drop_node(&body.node),
        _ => {}
    }
}

/// Makes the permit of an authorization's pair what the pair's authorizations allow together that are live and that neither
/// end has closed.
fn refresh(relay: &RelayHandle, state: &State, changed: Option<&Authorization>, now: Timestamp) {
    let Some(((a, b), _)) = changed.and_then(permit_of) else { return };
    let used = state.live_authorizations_of(&a, now).filter(|it| !it.is_closed()).filter_map(permit_of);
    let longest = used.filter(|(pair, _)| *pair == (a.clone(), b.clone())).map(|(_, until)| until).max();
    // Withdrawn first: a permit can only be prolonged otherwise.
    relay.revoke(&a, &b);
    if let Some(until) = longest {
        permit(relay, &a, &b, until);
    }
}

fn permit(relay: &RelayHandle, a: &NodeId, b: &NodeId, until: SystemTime) {
    if let Err(error) = relay.permit(a, b, until) {
        tracing::error!(%error, "the relay could not take a permit");
    }
}

/// The two ends in order, and until when they may talk.
fn permit_of(authorization: &Authorization) -> Option<((NodeId, NodeId), SystemTime)> {
    let source = authorization.source.as_ref()?.node.clone();
    let destination = authorization.destination.clone();
    let pair = if source <= destination { (source, destination) } else { (destination, source) };
    Some((pair, authorization.expires_at.into()))
}
