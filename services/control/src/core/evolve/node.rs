//! Nodes, their keys and their sessions.

use writ_schema::event::{
    KeyRotated, NodeJoined, NodeRemoved, NodeRoutesAdvertised, NodeRoutesApproved, SessionStarted,
};
use writ_schema::{NodeId, Seq};

use crate::core::policy::inventory_node;
use crate::core::state::{Node, Session, State};

pub(super) fn joined(state: &mut State, seq: Seq, body: &NodeJoined) {
    if let Some(key) = state.enrolment_keys.get_mut(&body.enrolment_key) {
        key.uses = key.uses.saturating_add(1);
    }
    if let Some(host) = host_of(state, body.address_v4) {
        state.addresses.hold(host, body.node.clone());
    }
    let node = Node {
        id: body.node.clone(),
        name: body.name.value().cloned(),
        owner: body.owner.clone(),
        identity_key: body.identity_key,
        wireguard_key: body.wireguard_key,
        generation: 0,
        address_v4: body.address_v4,
        address_v6: body.address_v6,
        enrolment_key: body.enrolment_key.clone(),
        joined: seq,
        rotated: None,
        removed: None,
        session: None,
        advertised: Vec::new(),
        approved: Vec::new(),
    };
    state.policies.with_compiled(|compiled| compiled.insert_node(&inventory_node(&node)));
    state.nodes.insert(node);
}

pub(super) fn removed(state: &mut State, seq: Seq, body: &NodeRemoved) {
    let address = state.node(&body.node).map(|node| node.address_v4);
    if let Some(host) = address.and_then(|address| host_of(state, address)) {
        state.addresses.release(host);
    }
    state.nodes.remove(&body.node, seq, body.reason);
    state.policies.with_compiled(|compiled| compiled.remove_node(&body.node));
}

pub(super) fn routes_advertised(state: &mut State, body: &NodeRoutesAdvertised) {
    change_routes(state, &body.node, |node| node.advertised.clone_from(&body.routes));
}

pub(super) fn routes_approved(state: &mut State, body: &NodeRoutesApproved) {
    change_routes(state, &body.node, |node| node.approved.clone_from(&body.routes));
}

fn change_routes(state: &mut State, node: &NodeId, change: impl FnOnce(&mut Node)) {
    let Some(node) = state.nodes.get_mut(node) else { return };
    let before: Vec<_> = node.routes().collect();
    change(node);
    if !node.is_removed() && !node.routes().eq(before) {
        let known = inventory_node(node);
        state.policies.with_compiled(|compiled| compiled.insert_node(&known));
    }
}

pub(super) fn key_rotated(state: &mut State, seq: Seq, body: &KeyRotated) {
    state.nodes.rotate(&body.node, seq, body.generation, body.wireguard_key);
}

pub(super) fn session_started(state: &mut State, seq: Seq, body: &SessionStarted) {
    let session = Session { started: seq, agent: body.agent.clone() };
    state.nodes.set_session(&body.node, Some(session));
}

fn host_of(state: &State, address: std::net::Ipv4Addr) -> Option<u32> {
    state.network.as_ref()?.prefixes.host_of(address.into())
}
