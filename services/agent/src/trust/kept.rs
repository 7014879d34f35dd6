//! Live authorizations with their proofs, so that they can be verified again by an agent that was started anew.
//!
//! What is live stands in one place, what has ended before its time in another, and the second is kept with the newest
//! checkpoint: whoever puts an older list of live authorizations back beside a newer checkpoint brings nothing back to life.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use writ_schema::event::Side;
use writ_schema::protocol::{Authorized, Candidate, Peer, ProvenRecord};
use writ_schema::{AuthorizationId, NodeId, Seq};

use super::VerifiedAuthorization;

/// Most authorizations that are kept for the next start, some five thousand bytes each. Others end with the process.
pub const MAX_KEPT: usize = 1024;
/// Most authorizations whose early end is remembered singly.
const MAX_ENDED: usize = 4096;

/// A record with its proof, and the checkpoint that the proof leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptRecord {
    /// C2SP signed note, whole.
    pub checkpoint: Arc<str>,
    /// The record.
    pub record: ProvenRecord,
}

/// An authorization as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAuthorization {
    /// Which end this node is.
    pub side: Side,
    /// The other end.
    pub peer: NodeId,
    /// The `connection.authorized` record.
    pub record: Arc<KeptRecord>,
}

/// The other end of kept authorizations.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptPeer {
    /// Its `node.joined` record.
    pub join: Arc<KeptRecord>,
    /// Its newest `key.rotated` record, if it has rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Arc<KeptRecord>>,
    /// Where it can be tried.
    pub candidates: Vec<Candidate>,
}

/// Everything that is needed to go on with what is live.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptLive {
    /// The authorizations, at most [`MAX_KEPT`].
    pub authorizations: BTreeMap<AuthorizationId, KeptAuthorization>,
    /// Their other ends.
    pub peers: BTreeMap<NodeId, KeptPeer>,
}

impl KeptLive {
    /// What the control plane sent about an authorization, put together again.
    pub(super) fn authorized<'a>(
        &'a self,
        kept: &'a KeptAuthorization,
    ) -> Option<(Authorized, [&'a KeptRecord; 3])> {
        let peer = self.peers.get(&kept.peer)?;
        let rotation = peer.rotation.as_ref();
        let sent = Authorized {
            request: None,
            side: kept.side,
            record: kept.record.record.clone(),
            peer: Peer {
                node: kept.peer.clone(),
                join: peer.join.record.clone(),
                rotation: rotation.map(|rotation| rotation.record.clone()),
                candidates: peer.candidates.clone(),
            },
        };
        Some((sent, [&kept.record, &peer.join, rotation.unwrap_or(&peer.join)]))
    }
}

/// When and where an authorization was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// Its record.
    pub record: Seq,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Authorizations that ended before their time, each until it would have ended by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    singly: BTreeMap<AuthorizationId, Granted>,
    /// When they were too many: everything that was granted up to this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up_to: Option<Seq>,
}

impl Ended {
    /// Whether an authorization is not to be taken up again.
    pub fn covers(&self, authorization: &AuthorizationId, record: Seq) -> bool {
        self.singly.contains_key(authorization) || self.up_to.is_some_and(|up_to| record <= up_to)
    }

    fn add(&mut self, now: Timestamp, authorization: AuthorizationId, granted: Granted) {
        if granted.expires_at <= now {
            return;
        }
        self.singly.retain(|_, ended| now < ended.expires_at);
        if self.singly.len() >= MAX_ENDED {
            // The newest are remembered singly, the older half by the highest of their numbers.
            let mut records: Vec<_> = self.singly.values().map(|ended| ended.record).collect();
            records.sort_unstable();
            let middle = records.get(MAX_ENDED / 2).copied();
            self.up_to = self.up_to.max(middle);
            self.singly.retain(|_, ended| Some(ended.record) > middle);
        }
        self.singly.insert(authorization, granted);
    }
}

/// What is live now, and what of it is kept for the next start.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    granted: BTreeMap<AuthorizationId, Granted>,
    pub kept: KeptLive,
    pub ended: Ended,
}

impl Live {
    pub fn knows(&self, authorization: &AuthorizationId) -> bool {
        self.granted.contains_key(authorization)
    }

    pub fn add(&mut self, checkpoint: &Arc<str>, verified: &VerifiedAuthorization, sent: &Authorized) {
        let kept = |record: &ProvenRecord| {
            Arc::new(KeptRecord { checkpoint: checkpoint.clone(), record: record.clone() })
        };
        let peer = KeptPeer {
            join: kept(&sent.peer.join),
            rotation: sent.peer.rotation.as_ref().map(kept),
            candidates: verified.peer().candidates().to_vec(),
        };
        self.add_kept(verified, kept(&sent.record), peer);
    }

    pub fn add_kept(&mut self, verified: &VerifiedAuthorization, record: Arc<KeptRecord>, peer: KeptPeer) {
        let id = verified.authorization().clone();
        let granted = Granted { record: verified.record(), expires_at: verified.expires_at() };
        self.granted.insert(id.clone(), granted);
        if self.kept.authorizations.len() >= MAX_KEPT && !self.kept.authorizations.contains_key(&id) {
            return;
        }
        let node = verified.peer().node().clone();
        self.kept.peers.insert(node.clone(), peer);
        let authorization = KeptAuthorization { side: verified.side(), peer: node, record };
        self.kept.authorizations.insert(id, authorization);
    }

    /// Tells whether there was anything to end.
    pub fn end(&mut self, now: Timestamp, authorization: &AuthorizationId) -> bool {
        let Some(granted) = self.granted.remove(authorization) else { return false };
        self.ended.add(now, authorization.clone(), granted);
        let Some(removed) = self.kept.authorizations.remove(authorization) else { return true };
        if !self.kept.authorizations.values().any(|kept| kept.peer == removed.peer) {
            self.kept.peers.remove(&removed.peer);
        }
        true
    }

    /// Ends what a snapshot does not name.
    pub fn end_unless(&mut self, now: Timestamp, named: impl Fn(&AuthorizationId) -> bool) {
        let gone: Vec<_> = self.granted.keys().filter(|id| !named(id)).cloned().collect();
        for id in &gone {
            self.end(now, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_ends_are_remembered_until_they_would_have_come_and_are_bounded() {
        let now = Timestamp::UNIX_EPOCH;
        let expires_at = now + jiff::SignedDuration::from_secs(10);
        let id = |number: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            AuthorizationId::from_bytes(bytes)
        };
        let mut ended = Ended::default();
        ended.add(expires_at, id(0), Granted { record: Seq(0), expires_at });
        assert_eq!(ended, Ended::default(), "what has expired needs no remembering");
        for number in 1..=20_000 {
            ended.add(now, id(number), Granted { record: Seq(number), expires_at });
            assert!(ended.singly.len() <= MAX_ENDED);
        }
        assert!((1..=20_000).all(|number| ended.covers(&id(number), Seq(number))));
        assert!(!ended.covers(&id(20_001), Seq(20_001)));
        ended.add(
            expires_at,
            id(20_002),
            Granted { record: Seq(20_002), expires_at: expires_at + jiff::SignedDuration::from_secs(1) },
        );
        assert_eq!(ended.singly.len(), 1);
    }
}
