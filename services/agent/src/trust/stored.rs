//! What outlives the process: what is written, and what of it is believed by the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use writ_ledger::{Rotation, VerifierKey};
use writ_schema::keys::IdentityKey;
use writ_schema::protocol::RelayAccess;
use writ_schema::{AuthorizationId, NodeId};

use super::checks::read_relay;
use super::quorum::Quorum;
use super::{
    Anchors, Chain, Ended, FoundSplitView, KeptAuthorization, KeptLive, MAX_KEPT, Membership, Refusal, Relay,
    SeenKey, Trust, VerifiedAuthorization,
};

/// A clock that shows a time this much before the newest known one has gone back; less is correction.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// How often what is kept on disk has changed, so that nothing is written twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changes of [`StoredTrust`].
    pub trust: u64,
    /// Changes of [`StoredLive`].
    pub live: u64,
}

/// What has to be on disk before it is acted upon.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTrust {
    /// The newest verified checkpoint, a signed note.
    pub checkpoint: String,
    /// The changes of the log's key that were followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<Rotation>,
    /// What ended before its time.
    #[serde(default)]
    pub ended: Ended,
    /// That the log has shown two histories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_view: Option<FoundSplitView>,
    /// The newest checkpoint that satisfied this node's own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<String>,
    /// Proof of a split view that begins at this size or below was decided about by an administrator.
    #[serde(default)]
    pub forgiven: u64,
}

/// What may be on disk a moment later.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredLive {
    /// When it was written.
    pub saved_at: Timestamp,
    /// The newest key that was seen of each node.
    pub seen: Arc<BTreeMap<NodeId, SeenKey>>,
    /// What is live.
    pub live: KeptLive,
    /// Where the relay is. Its key is as secret as this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayAccess>,
    /// The UDP port, which peers know.
    #[serde(default)]
    pub port: u16,
}

/// What was live before this process began and verifies still.
#[derive(Debug, Default)]
pub struct Restored {
    /// The authorizations.
    pub authorizations: Vec<VerifiedAuthorization>,
    /// Those that are not taken up again, and why.
    pub refused: Vec<Refusal>,
    /// The relay.
    pub relay: Option<Relay>,
}

impl Trust {
    /// Goes on from what was verified before this process began. It is verified again.
    pub fn resume(
        membership: &Membership,
        identity: IdentityKey,
        log_key: VerifierKey,
        stored: StoredTrust,
    ) -> Result<Self, Refusal> {
        let chain = match stored.checkpoint.as_str() {
            // An administrator has had it forgotten.
            "" => Chain::begin(log_key, &stored.rotations)?,
            note => Chain::resume(log_key, &stored.rotations, note)?,
        };
        let mut trust = Self::begin(membership, identity, chain);
        trust.live.ended = stored.ended;
        trust.witness.resume(stored.split_view, stored.forgiven);
        trust.cosigned_before = stored.cosigned;
        trust.note_checkpoint();
        Ok(trust)
    }

    /// Takes up what was live before this process began, as far as it verifies and has not ended.
    pub fn restore(&mut self, now: Timestamp, stored: StoredLive) -> Restored {
        self.seen = stored.seen;
        let mut restored = Restored {
            relay: stored.relay.as_ref().and_then(|it| read_relay(it).ok()),
            ..Default::default()
        };
        if now.saturating_add(CLOCK_TOLERANCE).is_ok_and(|now| now < stored.saved_at) {
            restored.refused.push(Refusal::ClockWentBack(stored.saved_at));
            return restored;
        }
        for (id, kept) in stored.live.authorizations.iter().take(MAX_KEPT) {
            match self.restore_one(now, id, kept, &stored.live) {
                Ok(verified) => restored.authorizations.push(verified),
                // It has run to its end: nothing is wrong.
                Err(Refusal::Expired(_)) => {}
                Err(refusal) => restored.refused.push(refusal),
            }
        }
        restored
    }

    fn restore_one(
        &mut self,
        now: Timestamp,
        id: &AuthorizationId,
        kept: &KeptAuthorization,
        all: &KeptLive,
    ) -> Result<VerifiedAuthorization, Refusal> {
        let (sent, [record, join, rotation]) =
            all.authorized(kept).ok_or_else(|| Refusal::Incomplete(kept.peer.clone()))?;
        let record_at = self.chain.at(&record.checkpoint)?;
        let (join_at, rotation_at) = (self.chain.at(&join.checkpoint)?, self.chain.at(&rotation.checkpoint)?);
        let at = Anchors { record: &record_at, join: &join_at, rotation: &rotation_at };
        let (verified, key) = self.check_authorized(now, &at, &sent)?;
        if verified.authorization() != id {
            return Err(Refusal::OtherAuthorization(verified.record()));
        }
        if self.live.ended.covers(id, verified.record()) {
            return Err(Refusal::Ended(verified.record()));
        }
        self.remember(key.record, key.identity, &verified.peer().key)?;
        if let Some(peer) = all.peers.get(&kept.peer) {
            self.live.add_kept(&verified, kept.record.clone(), peer.clone());
        }
        Ok(verified)
    }

    /// How often what is to be stored has changed.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// What has to be on disk before what was verified is acted upon.
    pub fn stored(&self) -> StoredTrust {
        let checkpoint = self.chain.note().unwrap_or_default().to_owned();
        let split_view = self.witness.found().cloned();
        let forgiven = self.witness.forgiven();
        let rotations = self.chain.rotations().to_vec();
        let cosigned = self.quorum.as_ref().and_then(Quorum::note).map(str::to_owned);
        StoredTrust { checkpoint, rotations, ended: self.live.ended.clone(), split_view, cosigned, forgiven }
    }

    /// What is to be on disk beside it. Cheap: the records are shared.
    pub fn stored_live(&self, now: Timestamp, relay: Option<RelayAccess>, port: u16) -> StoredLive {
        StoredLive { saved_at: now, seen: self.seen.clone(), live: self.live.kept.clone(), relay, port }
    }
}
