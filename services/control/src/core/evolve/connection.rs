//! Connections.

use std::collections::BTreeSet;

use writ_schema::Seq;
use writ_schema::event::{ConnectionAcknowledged, ConnectionAuthorized, ConnectionClosed, ConnectionRevoked};

use crate::core::state::{Authorization, AuthorizationEnd, State};

pub(super) fn authorized(state: &mut State, seq: Seq, body: &ConnectionAuthorized) {
    state.authorizations.insert(Authorization {
        id: body.authorization.clone(),
        source: body.source.value().cloned(),
        sealed_for: body.source.of().cloned(),
        destination: body.destination.clone(),
        route: body.route,
        protocol: body.protocol,
        ports: body.ports,
        rule: body.rule.clone(),
        policy: body.policy,
        renews: body.renews.clone(),
        expires_at: body.expires_at,
        record: seq,
        revoked: None,
        acknowledged: BTreeSet::new(),
        closed: BTreeSet::new(),
    });
}

pub(super) fn revoked(state: &mut State, seq: Seq, body: &ConnectionRevoked) {
    if let Some(authorization) = state.authorizations.get_mut(&body.authorization) {
        authorization.revoked = Some(AuthorizationEnd { record: seq, reason: body.reason });
    }
}

pub(super) fn acknowledged(state: &mut State, body: &ConnectionAcknowledged) {
    if let Some(authorization) = state.authorizations.get_mut(&body.authorization) {
        authorization.acknowledged.insert((body.side, body.action));
    }
}

pub(super) fn closed(state: &mut State, body: &ConnectionClosed) {
    if let Some(authorization) = state.authorizations.get_mut(&body.authorization) {
        authorization.closed.insert(body.side);
    }
}
