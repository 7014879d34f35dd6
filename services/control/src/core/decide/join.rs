//! Letting nodes in.

use writ_schema::event::{JoinRefusal, NodeJoinRefused, NodeJoined, NodeOwner, Version};
use writ_schema::keys::{SecretHash, Statement};
use writ_schema::protocol::JoinRequest;
use writ_schema::seal::{Retention, Sealed, Subject};
use writ_schema::{Actor, NodeId};

use super::values::is_dns_label;
use super::{Case, Decision, Refusal};
use crate::core::refusals::RefusalFact;
use crate::core::rejection::Rejection;
use crate::core::state::EnrolmentKey;

pub(super) fn decide(case: &Case<'_>, request: &JoinRequest) -> Decision {
    let node = NodeId::of_identity_key(request.identity_key.as_bytes());
    let secret_hash = SecretHash::of(&request.secret);
    let key = case.state.enrolment_keys().find(|key| key.secret_hash == secret_hash);
    let refused = |reason: JoinRefusal| {
        let enrolment_key = key.map(|key| key.id.clone());
        let fact = NodeJoinRefused { v: Version, node: node.clone(), enrolment_key, reason, count: 1 };
        Box::new(Refusal { rejection: Rejection::Join(reason), fact: Some(RefusalFact::Join(fact)) })
    };
    let key = key.ok_or_else(|| refused(JoinRefusal::UnknownKey))?;
    check_key(case, key).map_err(refused)?;
    check_proofs(case, request, &secret_hash).map_err(refused)?;
    check_names(case, request, &node).map_err(refused)?;
    let prefixes = &case.network.prefixes;
    let host = case.state.addresses.next_free(prefixes).ok_or_else(|| refused(JoinRefusal::NoAddress))?;
    let (address_v4, address_v6) = prefixes.addresses(host);
    let subject = match &key.owner {
        NodeOwner::User(user) => Subject::User(user.clone()),
        NodeOwner::Tags(_) => Subject::Node(node.clone()),
    };
    let joined = NodeJoined {
        v: Version,
        node: node.clone(),
        identity_key: request.identity_key,
        wireguard_key: request.wireguard_key,
        key_signature: request.key_signature,
        owner: key.owner.clone(),
        name: Sealed::new(subject, Retention::Identity, request.name.clone()),
        address_v4,
        address_v6,
        enrolment_key: key.id.clone(),
    };
    Ok(vec![case.draft_by(Actor::Node(node), joined)])
}

fn check_key(case: &Case<'_>, key: &EnrolmentKey) -> Result<(), JoinRefusal> {
    let has_left = match &key.owner {
        NodeOwner::User(user) => case.state.user(user).is_none_or(|user| user.is_disabled),
        NodeOwner::Tags(_) => false,
    };
    if has_left {
        return Err(JoinRefusal::OwnerDisabled);
    }
    if key.is_revoked {
        return Err(JoinRefusal::RevokedKey);
    }
    if key.expires_at <= case.context.now {
        return Err(JoinRefusal::ExpiredKey);
    }
    if key.uses >= key.max_uses {
        return Err(JoinRefusal::UsedKey);
    }
    Ok(())
}

/// The identity key must have signed that it joins this network with this secret and this WireGuard key.
fn check_proofs(case: &Case<'_>, request: &JoinRequest, secret_hash: &SecretHash) -> Result<(), JoinRefusal> {
    let (network, wireguard_key) = (&case.network.created.network, &request.wireguard_key);
    let join = Statement::Join { network, secret_hash, wireguard_key };
    let first_key = Statement::Rotation { network, generation: 0, wireguard_key };
    let identity = &request.identity_key;
    let verdict = identity
        .verify(&join, &request.join_signature)
        .and_then(|()| identity.verify(&first_key, &request.key_signature));
    verdict.map_err(|_| JoinRefusal::BadProof)
}

fn check_names(case: &Case<'_>, request: &JoinRequest, node: &NodeId) -> Result<(), JoinRefusal> {
    let is_known = case.state.node_ever(node).is_some();
    if is_known || case.state.nodes.by_wireguard_key(&request.wireguard_key).is_some() {
        return Err(JoinRefusal::KeyInUse);
    }
    if !is_dns_label(&request.name) {
        return Err(JoinRefusal::BadName);
    }
    if case.state.nodes.by_name(&request.name).is_some() {
        return Err(JoinRefusal::NameInUse);
    }
    Ok(())
}
