//! The network itself, and erasure.

use writ_schema::Seq;
use writ_schema::event::{KeyShredded, LogKeyRotated, NetworkCreated, RetentionLapsed};
use writ_schema::seal::{DestroyedKeys, Retention, Subject};

use crate::core::state::{LogKeyChange, Network, Prefixes, State};

pub(super) fn network_created(state: &mut State, body: &NetworkCreated) {
    // The prefixes were checked when the network was made.
    if let Ok(prefixes) = Prefixes::parse(&body.prefix_v4, &body.prefix_v6) {
        state.network = Some(Network { created: body.clone(), prefixes, log_keys: Vec::new() });
    }
}

pub(super) fn log_key_rotated(state: &mut State, seq: Seq, body: &LogKeyRotated) {
    if let Some(network) = &mut state.network {
        network.log_keys.push(LogKeyChange {
            seq,
            key: body.new_key.clone(),
            rotation: body.rotation.clone(),
        });
    }
}

/// Forgets all that was read from fields under the destroyed keys, so that the state is the one that somebody gets who
/// never had those keys.
pub(super) fn key_shredded(state: &mut State, body: &KeyShredded) {
    state.authorizations.erase_sources(&DestroyedKeys::OfSubject(body.subject.clone()));
    match &body.subject {
        Subject::User(user) => {
            state.users.erase(user);
            state.nodes.erase_names(|node| node.user() == Some(user));
        }
        Subject::Node(id) => state.nodes.erase_names(|node| node.id == *id && node.user().is_none()),
        Subject::Admin(id) => {
            if let Some(admin) = state.admins.get_mut(id) {
                admin.name = None;
            }
        }
        Subject::Network(_) => state.policies.erase_texts(),
    }
}

/// Forgets whose the authorizations of the quarter were.
pub(super) fn retention_lapsed(state: &mut State, body: &RetentionLapsed) {
    state.lapsed.insert(body.quarter);
    state.authorizations.erase_sources(&DestroyedKeys::OfRetention(Retention::Connections(body.quarter)));
}
