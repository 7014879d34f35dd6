//! This node as a witness: what its peers say about the log, compared with what it has verified itself.
//!
//! A peer's checkpoint counts only if the log's key has signed it: the one that signs for its size, so that a peer which has not
//! heard of a change of the key yet is compared all the same, and a stolen key that was changed stops nobody. Of the size of one that was verified here it must be the same.
//! Of another size the control plane is asked to prove that its log goes on from it. A proof that shows something else is a split
//! view, and so is one that does not hold; no proof at all is suspicious, and shown. Nothing that a peer says without the log's
//! signature has any effect.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use writ_ledger::{ConsistencyProof, Hash, SignedCheckpoint, SplitView};
use writ_schema::{NodeId, RequestId};

use super::Chain;

/// Checkpoints of peers whose proof is awaited.
const MAX_OPEN: usize = 64;
/// Own checkpoints that peers' are compared with, so that not each costs a question.
const MAX_HISTORY: usize = 64;
/// An unanswered question is asked again after this.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// One that was refused, after this: the log may have grown.
const REFUSED_PATIENCE: SignedDuration = SignedDuration::from_secs(20);
/// A checkpoint that is not proven for this long is suspicious.
const SUSPICIOUS_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Two histories of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundSplitView {
    /// When it was found.
    pub at: Timestamp,
    /// The peer that held the other checkpoint, or had found it before; none if it was the control plane itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<NodeId>,
    /// What was found, for people.
    pub what: String,
    /// Whether the evidence convinces anybody who has the log's key.
    pub is_proven: bool,
    /// Both checkpoints: a file of the format `writ-split-view/v1`.
    pub evidence: Arc<str>,
}

/// What became of something that a peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is what was verified here.
    Agrees,
    /// The control plane has to prove it.
    Open,
    /// The log's key has not signed it, it proves nothing, or it was decided about: no concern of this node.
    Nothing,
    /// It shows, or has shown before, that the log was split.
    SplitView,
}

/// A peer's checkpoint that the control plane has not proven to be of its log.
#[derive(Debug, Clone)]
struct Open {
    theirs: SignedCheckpoint,
    since: Timestamp,
    asked: Option<(RequestId, Timestamp)>,
    refused: Option<String>,
}

impl Open {
    fn is_due(&self, now: Timestamp) -> bool {
        let patience = if self.refused.is_some() { REFUSED_PATIENCE } else { PATIENCE };
        self.asked.as_ref().is_none_or(|(_, at)| now.duration_since(*at).abs() >= patience)
    }
}

/// An open question, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnprovenCheckpoint {
    /// Who holds it.
    pub peer: NodeId,
    /// How many records it covers.
    pub size: u64,
    /// Since when the control plane has not proven it.
    pub since: Timestamp,
    /// Why not, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Whether that takes too long to be nothing.
    pub is_suspicious: bool,
}

/// The witness.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness {
    open: BTreeMap<NodeId, Open>,
    /// Verified checkpoints of different sizes, the newest last.
    history: VecDeque<SignedCheckpoint>,
    found: Option<FoundSplitView>,
    /// Evidence that begins at this size or below was decided about.
    forgiven: u64,
}

impl Witness {
    pub fn found(&self) -> Option<&FoundSplitView> {
        self.found.as_ref()
    }

    pub fn forgiven(&self) -> u64 {
        self.forgiven
    }

    /// Goes on from what was known before this process began.
    pub fn resume(&mut self, found: Option<FoundSplitView>, forgiven: u64) {
        (self.found, self.forgiven) = (found, forgiven);
    }

    /// An administrator has decided. What peers have proof of from before is not held against the log again; but who holds
    /// the other history still will be found to.
    pub fn forgive(&mut self, chain: &Chain) {
        let Some(found) = self.found.take() else { return };
        let evidence = SplitView::parse(found.evidence.as_bytes()).ok();
        let proven = evidence.and_then(|evidence| chain.judge(&evidence)).map(|report| report.newer.size);
        self.forgiven = self.forgiven.max(proven.unwrap_or(0)).max(chain.size());
        self.open.clear();
    }

    /// A checkpoint of the own chain was verified.
    pub fn verified(&mut self, held: &SignedCheckpoint) {
        self.history.retain(|it| it.checkpoint().size != held.checkpoint().size);
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(held.clone());
    }

    pub fn forget_history(&mut self) {
        self.history.clear();
    }

    /// A peer says that this is the newest checkpoint it has verified.
    pub fn hear_checkpoint(&mut self, now: Timestamp, chain: &Chain, peer: &NodeId, note: &str) -> Heard {
        let (Some(held), Ok(theirs)) = (chain.held(), chain.open(note)) else {
            return Heard::Nothing;
        };
        let size = theirs.checkpoint().size;
        let same_size = [held].into_iter().chain(&self.history).find(|it| it.checkpoint().size == size);
        if let Some(ours) = same_size.cloned() {
            self.open.remove(peer);
            if ours.checkpoint() == theirs.checkpoint() {
                return Heard::Agrees;
            }
            let what =
                format!("{peer} holds another checkpoint of {size} records than the control plane gave here");
            self.find(now, Some(peer), what, &chain.evidence(&ours, &theirs, None), chain);
            return Heard::SplitView;
        }
        if self.found.is_some() {
            return Heard::SplitView;
        }
        // One question a peer: what it says next waits until this one is answered.
        if self.open.len() < MAX_OPEN {
            let open = Open { theirs, since: now, asked: None, refused: None };
            self.open.entry(peer.clone()).or_insert(open);
        }
        Heard::Open
    }

    /// A peer says that it can prove a split view.
    pub fn hear_split_view(&mut self, now: Timestamp, chain: &Chain, peer: &NodeId, text: &str) -> Heard {
        let Ok(evidence) = SplitView::parse(text.as_bytes()) else { return Heard::Nothing };
        match chain.judge(&evidence) {
            Some(report) if report.older.size > self.forgiven => {
                self.find(now, Some(peer), format!("{peer} has proof: {report}"), &evidence, chain);
                Heard::SplitView
            }
            Some(_) | None => Heard::Nothing,
        }
    }

    /// The next question to the control plane, if one is due: about the checkpoint of which size.
    pub fn ask(&mut self, now: Timestamp, name: impl FnOnce() -> RequestId) -> Option<(RequestId, u64)> {
        let open = self.open.values_mut().find(|open| open.is_due(now))?;
        let request = name();
        open.asked = Some((request.clone(), now));
        Some((request, open.theirs.checkpoint().size))
    }

    /// The session is gone, and with it the answers that were due. Nobody is suspicious for being away.
    pub fn session_lost(&mut self) {
        for open in self.open.values_mut() {
            open.asked = None;
            open.since = Timestamp::MAX;
        }
    }

    /// The session stands again.
    pub fn session_began(&mut self, now: Timestamp) {
        for open in self.open.values_mut() {
            open.since = open.since.min(now);
        }
    }

    /// The control plane says what its log begins with. What the chain holds is what its proof leads to.
    pub fn answered(
        &mut self,
        now: Timestamp,
        chain: &Chain,
        request: &RequestId,
        answer: (u64, Option<Hash>, Option<Vec<Hash>>),
    ) {
        let Some(peer) = self.asked_by(request) else { return };
        let (Some(open), Some(held)) = (self.open.remove(&peer), chain.held()) else { return };
        let theirs = &open.theirs;
        let (old_size, new_size) = (theirs.checkpoint().size, held.checkpoint().size);
        if old_size == new_size {
            // By now it is a checkpoint of this node's own: no proof is needed any more.
            self.hear_checkpoint(now, chain, &peer, theirs.text());
            return;
        }
        let (size, Some(root), Some(hashes)) = answer else {
            return self.find_unproven(now, chain, &peer, theirs);
        };
        let proof = ConsistencyProof { old_size, new_size, hashes };
        let holds = size == old_size && proof.verify(&root, &held.checkpoint().root).is_ok();
        if !holds {
            return self.find_unproven(now, chain, &peer, theirs);
        }
        if root != theirs.checkpoint().root {
            let what = format!(
                "{peer} holds a checkpoint of {old_size} records that the control plane's log does not begin with"
            );
            let evidence = chain.evidence(theirs, held, Some((root, &proof)));
            self.find(now, Some(&peer), what, &evidence, chain);
        }
    }

    fn find_unproven(&mut self, now: Timestamp, chain: &Chain, peer: &NodeId, theirs: &SignedCheckpoint) {
        let Some(held) = chain.held() else { return };
        let what = format!(
            "the control plane's proof that its log begins with the {} records of {peer}'s checkpoint does not hold",
            theirs.checkpoint().size
        );
        self.find(now, Some(peer), what, &chain.evidence(theirs, held, None), chain);
    }

    /// The control plane refuses to answer, if it was one of these questions that it was asked.
    pub fn refused(&mut self, request: &RequestId, why: &str) {
        if let Some(open) = self.asked_by(request).and_then(|peer| self.open.get_mut(&peer)) {
            open.refused = Some(why.to_owned());
        }
    }

    fn asked_by(&self, request: &RequestId) -> Option<NodeId> {
        let asked = |open: &Open| open.asked.as_ref().is_some_and(|(name, _)| name == request);
        self.open.iter().find(|(_, open)| asked(open)).map(|(peer, _)| peer.clone())
    }

    /// Two checkpoints contradict each other. What can be proven takes the place of what cannot; otherwise the first stays.
    pub fn find(
        &mut self,
        at: Timestamp,
        peer: Option<&NodeId>,
        what: String,
        evidence: &SplitView,
        chain: &Chain,
    ) {
        let is_proven = chain.judge(evidence).is_some();
        if self.found.as_ref().is_some_and(|found| found.is_proven || !is_proven) {
            return;
        }
        let evidence = evidence.to_json().into();
        self.found = Some(FoundSplitView { at, peer: peer.cloned(), what, is_proven, evidence });
        self.open.clear();
    }

    pub fn unproven(&self, now: Timestamp) -> Vec<UnprovenCheckpoint> {
        let shown = self.open.iter().map(|(peer, open)| UnprovenCheckpoint {
            peer: peer.clone(),
            size: open.theirs.checkpoint().size,
            since: open.since.min(now),
            refusal: open.refused.clone(),
            is_suspicious: open.since <= now && now.duration_since(open.since) >= SUSPICIOUS_AFTER,
        });
        shown.collect()
    }
}
