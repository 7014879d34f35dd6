//! The addresses under which this node may be reached.

use std::net::SocketAddr;

use writ_schema::protocol::{Candidate, CandidateKind, MAX_CANDIDATES};

/// This node's candidates, and what the control plane was told of them.
#[derive(Debug, Default)]
pub(super) struct OwnCandidates {
    hosts: Vec<SocketAddr>,
    announced: Option<Vec<Candidate>>,
}

impl OwnCandidates {
    /// The addresses of the interfaces, with the port that is listened on. Tells whether they are new.
    pub fn set_hosts(&mut self, mut hosts: Vec<SocketAddr>) -> bool {
        hosts.sort_unstable();
        hosts.dedup();
        if self.hosts == hosts {
            return false;
        }
        self.hosts = hosts;
        true
    }

    /// The addresses of the interfaces.
    pub fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// What was announced last.
    pub fn announced(&self) -> &[Candidate] {
        self.announced.as_deref().unwrap_or_default()
    }

    /// Forgets what was announced: the session is new.
    pub fn forget_announced(&mut self) {
        self.announced = None;
    }

    /// What is to be announced, if it differs from what was.
    pub fn announcement(&mut self, reflexive: impl Iterator<Item = SocketAddr>) -> Option<Vec<Candidate>> {
        let mut candidates: Vec<Candidate> = self
            .hosts
            .iter()
            .map(|address| Candidate { address: *address, kind: CandidateKind::Host })
            .collect();
        let mut seen: Vec<_> = reflexive.filter(|address| !self.hosts.contains(address)).collect();
        seen.sort_unstable();
        seen.dedup();
        // Observed addresses are few and matter most, so they are not what the limit cuts off.
        candidates.truncate(MAX_CANDIDATES.saturating_sub(seen.len()));
        candidates.extend(
            seen.into_iter().map(|address| Candidate { address, kind: CandidateKind::ServerReflexive }),
        );
        candidates.truncate(MAX_CANDIDATES);
        if self.announced.as_ref() == Some(&candidates) || (candidates.is_empty() && self.announced.is_none())
        {
            return None;
        }
        self.announced = Some(candidates.clone());
        Some(candidates)
    }
}
