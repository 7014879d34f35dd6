//! What each kind of proven record must say.

use data_encoding::BASE64;
use writ_relay::RelayKey;
use writ_schema::event::{KeyRotated, NodeJoined};
use writ_schema::keys::{IdentityKey, Statement};
use writ_schema::protocol::{Candidate, MAX_CANDIDATES, ProvenRecord, RelayAccess};
use writ_schema::{Event, NetworkId, NodeId, Seq};

use super::chain::{Chain, expect_event};
use super::{Refusal, Relay, VerifiedKey};

/// Most STUN servers that are asked.
const MAX_STUN_SERVERS: usize = 8;

/// Record 0 must be that of the network and log that the enrolment key named. Gives the network's name.
pub(super) fn check_genesis(
    chain: &Chain,
    network: &NetworkId,
    sent: &ProvenRecord,
) -> Result<String, Refusal> {
    let included = chain.included(sent)?;
    let created = expect_event!(included, NetworkCreated, "network.created")?;
    for (differs, what) in [
        (sent.seq != Seq(0), "position"),
        (created.network != *network, "network"),
        (created.origin != chain.key().name(), "log origin"),
        (!chain.began_with(&created.log_key), "log key"),
    ] {
        if differs {
            return Err(Refusal::OtherNetwork(what));
        }
    }
    Ok(created.name.clone())
}

/// A join must be of this node, whose name is the hash of the identity key, which has signed the first WireGuard key.
pub(super) fn check_join(
    chain: &Chain,
    network: &NetworkId,
    node: &NodeId,
    sent: &ProvenRecord,
) -> Result<NodeJoined, Refusal> {
    let included = chain.included(sent)?;
    let joined = expect_event!(included, NodeJoined, "node.joined")?;
    expect_node(sent.seq, &joined.node, node)?;
    if NodeId::of_identity_key(joined.identity_key.as_bytes()) != *node {
        return Err(Refusal::ForeignIdentity(sent.seq));
    }
    let statement = Statement::Rotation { network, generation: 0, wireguard_key: &joined.wireguard_key };
    joined
        .identity_key
        .verify(&statement, &joined.key_signature)
        .map_err(|_| Refusal::UnsignedKey(sent.seq))?;
    Ok(joined.clone())
}

/// A rotation must be of this node and signed by its identity key.
pub(super) fn check_rotation(
    chain: &Chain,
    network: &NetworkId,
    node: &NodeId,
    identity: &IdentityKey,
    sent: &ProvenRecord,
) -> Result<VerifiedKey, Refusal> {
    let included = chain.included(sent)?;
    let rotated = expect_event!(included, KeyRotated, "key.rotated")?;
    expect_node(sent.seq, &rotated.node, node)?;
    let KeyRotated { generation, wireguard_key, .. } = *rotated;
    let statement = Statement::Rotation { network, generation, wireguard_key: &wireguard_key };
    identity.verify(&statement, &rotated.signature).map_err(|_| Refusal::UnsignedKey(sent.seq))?;
    Ok(VerifiedKey { node: node.clone(), generation, key: wireguard_key })
}

pub(super) fn expect_node(seq: Seq, found: &NodeId, expected: &NodeId) -> Result<(), Refusal> {
    if found == expected {
        return Ok(());
    }
    Err(Refusal::OtherNode { seq, found: found.clone(), expected: expected.clone() })
}

pub(super) fn read_relay(access: &RelayAccess) -> Result<Relay, Refusal> {
    let key = BASE64.decode(access.key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let key = RelayKey::from_bytes(key.ok_or(Refusal::RelayKey)?);
    let stun = access.stun.iter().take(MAX_STUN_SERVERS).copied().collect();
    Ok(Relay { address: access.address, key, stun })
}

pub(super) fn bounded(candidates: &[Candidate]) -> Vec<Candidate> {
    candidates.iter().take(MAX_CANDIDATES).copied().collect()
}
