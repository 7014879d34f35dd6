//! What this node's own trust policy demands: that witnesses whom its owner trusts have seen the log.
//!
//! Cosignatures trail the log by the way to the witnesses and back, and an authorization that waited for them would keep packets
//! waiting with it, for ever while a witness is away. So a new authorization is believed if a quorum has cosigned *this* history a
//! short while ago: the control plane is asked now and then for the newest cosigned checkpoint, with the proof that what is
//! verified here goes on from it. Who holds the log's key can show this node another history for [`MAX_AGE`] at most: no witness
//! cosigns a second one. What is live goes on to its end, as when the control plane is away.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use writ_ledger::trust_policy::Standing;
use writ_ledger::{ConsistencyProof, Hash, TrustPolicy};
use writ_schema::RequestId;

use super::Chain;

/// How old the newest cosignature of a quorum may be. A control plane has a quiet log cosigned every ten minutes.
pub const MAX_AGE: SignedDuration = SignedDuration::from_mins(30);

/// How far the witnesses' clocks may be ahead of this host's.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// How often the newest cosigned checkpoint is asked for, and how often while there is none that counts.
const INTERVAL: SignedDuration = SignedDuration::from_mins(5);
const IMPATIENT_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// A policy that this node cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// It is of another log.
    #[error(
        "the policy trusts other logs than the one that this node has joined, {0}: give it a line `log {0}`, or none"
    )]
    OtherLog(String),
    /// It demands nothing.
    #[error(
        "the policy has no quorum of witnesses to demand: give it one (c2sp.org/tlog-policy), or leave --policy out"
    )]
    NoQuorum,
}

/// A checkpoint of this node's log that satisfies the policy.
#[derive(Debug, Clone)]
struct Witnessed {
    note: String,
    standing: Standing,
    /// By when a quorum had cosigned it.
    at: Timestamp,
}

/// The policy, and how far it is met.
#[derive(Debug, Clone)]
pub(super) struct Quorum {
    policy: TrustPolicy,
    newest: Option<Witnessed>,
    asked: Option<(RequestId, Timestamp)>,
    problem: Option<String>,
    /// Something was not believed for want of witnesses.
    has_refused: bool,
}

/// How the policy is met, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuorumStatus {
    /// Whether new authorizations are believed.
    pub is_met: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// How many records the newest checkpoint covers that a quorum has cosigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When, by the witnesses' clocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosigned_at: Option<Timestamp>,
    /// The witnesses that have, as the policy names them.
    pub cosigned_by: Vec<String>,
    /// Those that have not.
    pub absent: Vec<String>,
}

impl Quorum {
    /// Demands a policy of a log from here on. `before` is what satisfied it when this process began.
    pub fn new(policy: TrustPolicy, chain: &Chain, before: Option<&str>) -> Result<Self, PolicyRefusal> {
        let is_of_log = policy.logs().is_empty() || policy.logs().iter().any(|log| chain.has_key(&log.key));
        if !is_of_log {
            return Err(PolicyRefusal::OtherLog(chain.key().to_string()));
        }
        if !policy.demands_cosignatures() {
            return Err(PolicyRefusal::NoQuorum);
        }
        let mut quorum = Self { policy, newest: None, asked: None, problem: None, has_refused: false };
        // That the chain goes on from it was proven before it was kept, under this policy or another.
        quorum.newest = before.and_then(|note| quorum.judge(chain, note).ok());
        Ok(quorum)
    }

    /// What is kept for the next start.
    pub fn note(&self) -> Option<&str> {
        self.newest.as_ref().map(|newest| newest.note.as_str())
    }

    /// Why a new authorization is not to be believed now, if it is not.
    pub fn unmet(&self, now: Timestamp) -> Option<String> {
        let trouble = || self.problem.as_ref().map_or_else(String::new, |problem| format!(" ({problem})"));
        match &self.newest {
            None => Some(format!(
                "no checkpoint that the policy's quorum of witnesses has cosigned has come yet{}",
                trouble()
            )),
            Some(newest) if now.duration_since(newest.at) > MAX_AGE => Some(format!(
                "the policy's quorum of witnesses has cosigned nothing newer than {}, more than {} minutes ago{}",
                newest.at,
                MAX_AGE.as_mins(),
                trouble()
            )),
            // A clock that was set back would make what is old look new for as long.
            Some(newest) if newest.at.duration_since(now) > CLOCK_TOLERANCE => Some(format!(
                "the policy's quorum of witnesses has cosigned at {}, which is in the future: set this host's clock",
                newest.at
            )),
            Some(_) => None,
        }
    }

    /// Notes that an authorization was refused for that reason.
    pub fn has_refused(&mut self) {
        self.has_refused = true;
    }

    /// Whether the control plane is to be asked.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let interval = if self.unmet(now).is_none() { INTERVAL } else { IMPATIENT_INTERVAL };
        self.asked.as_ref().is_none_or(|(_, at)| now.duration_since(*at).abs() >= interval)
    }

    /// It is asked now, by this name.
    pub fn ask(&mut self, now: Timestamp, name: RequestId) -> RequestId {
        self.asked = Some((name.clone(), now));
        name
    }

    /// The session is new: what was asked in the one before is not answered any more.
    pub fn session_began(&mut self) {
        self.asked = None;
    }

    /// The control plane sends the newest cosigned checkpoint, and the proof that the chain's goes on from it. Tells whether
    /// that lets something be believed which was refused before.
    pub fn answered(
        &mut self,
        now: Timestamp,
        chain: &Chain,
        request: &RequestId,
        note: &str,
        proof: Option<Vec<Hash>>,
    ) -> bool {
        if !self.is_asked(request) {
            return false;
        }
        let judged = self.judge(chain, note).and_then(|witnessed| {
            let is_continued = continues(chain, &witnessed, proof);
            is_continued.then_some(witnessed).ok_or_else(|| {
                "what the witnesses have cosigned is not what this node's log begins with: it was shown another history"
                    .to_owned()
            })
        });
        match judged {
            Ok(witnessed) => {
                self.problem = None;
                if self.newest.as_ref().is_none_or(|newest| newest.at < witnessed.at) {
                    self.newest = Some(witnessed);
                }
            }
            Err(problem) => self.problem = Some(problem),
        }
        self.unmet(now).is_none() && std::mem::take(&mut self.has_refused)
    }

    /// The control plane refuses to answer, if it was this that it was asked.
    pub fn refused(&mut self, request: &RequestId, why: &str) {
        if self.is_asked(request) {
            self.problem = Some(why.to_owned());
        }
    }

    /// How the policy is met.
    pub fn status(&self, now: Timestamp) -> QuorumStatus {
        let why_not = self.unmet(now);
        let newest = self.newest.as_ref();
        let standing = newest.map(|newest| &newest.standing);
        QuorumStatus {
            is_met: why_not.is_none(),
            why_not,
            size: standing.map(|standing| standing.checkpoint.size),
            cosigned_at: newest.map(|newest| newest.at),
            cosigned_by: standing
                .map_or_else(Vec::new, |it| it.cosigned.iter().map(|by| by.witness.clone()).collect()),
            absent: standing.map_or_else(
                || self.policy.witnesses().iter().map(|witness| witness.name.clone()).collect(),
                |standing| standing.absent.clone(),
            ),
        }
    }

    fn is_asked(&self, request: &RequestId) -> bool {
        self.asked.as_ref().is_some_and(|(asked, _)| asked == request)
    }

    /// A checkpoint of the log that the policy's quorum has cosigned, or why it is none.
    fn judge(&self, chain: &Chain, note: &str) -> Result<Witnessed, String> {
        let signed = chain.open(note).map_err(|error| error.to_string())?;
        let standing = self.policy.check_cosignatures(&signed).map_err(|error| error.to_string())?;
        let seconds = standing.witnessed_by.and_then(|seconds| i64::try_from(seconds).ok());
        let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let at = at.ok_or_else(|| "the cosignatures state no time".to_owned())?;
        Ok(Witnessed { note: note.to_owned(), standing, at })
    }
}

/// Whether what the chain holds goes on from a witnessed checkpoint.
fn continues(chain: &Chain, witnessed: &Witnessed, proof: Option<Vec<Hash>>) -> bool {
    let (Some(held), Some(hashes)) = (chain.held(), proof) else { return false };
    let (old, new) = (&witnessed.standing.checkpoint, held.checkpoint());
    if old.size == new.size {
        return old.root == new.root;
    }
    let proof = ConsistencyProof { old_size: old.size, new_size: new.size, hashes };
    old.size < new.size && proof.verify(&old.root, &new.root).is_ok()
}
