//! How packets go to one peer.
//!
//! States: *relayed*, from the first packet on; *direct* to one address. A direct path is only ever taken because a probe
//! inside the tunnel came back over it, so WireGuard has authenticated both directions. Probes run in rounds: to every
//! candidate at once, quickly at first and then ever more seldom, but never more than half a minute apart; what is new (a
//! candidate, a network, a lost path, a peer heard directly) begins a new series. Where that finds nothing, ports may be guessed
//! (`guess`). On a direct path probes go on: three unanswered in a row and the
//! peer is reached over the relay again, while the probing begins anew.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::Rng;
use serde::Serialize;
use writ_schema::event::PathKind;
use writ_schema::protocol::{Candidate, CandidateKind, MAX_CANDIDATES};

use super::guess::Guesses;
use super::time::Now;

/// Waits between rounds of probes while there is no direct path.
const ROUNDS_MILLISECONDS: [u64; 10] = [100, 200, 300, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000];
/// How often a direct path is probed while it carries packets, and while it does not (so that NATs keep it open).
const CHECK_ACTIVE: Duration = Duration::from_secs(3);
const CHECK_IDLE: Duration = Duration::from_secs(20);
/// How long a probe of the path in use may take before it is sent again, and how many in a row may be lost.
const CHECK_TIMEOUT: Duration = Duration::from_millis(700);
const MAX_LOST: u32 = 3;
/// From this many on, any other path that answers is taken.
const SUSPECT: u32 = 2;
/// Who is sent to and says nothing for so long is asked whether the path still holds.
const QUIET: Duration = Duration::from_secs(1);
/// Packets within this time make a path active.
const ACTIVE_FOR: Duration = Duration::from_secs(15);
/// Probes that may still be answered.
const MAX_PROBES: usize = 128;
/// How long an answer is waited for.
const PROBE_LIFETIME: Duration = Duration::from_secs(5);
/// Addresses that a peer was seen at, beside those it announced.
const MAX_REFLEXIVE: usize = 8;
/// How often in so long a packet from a peer begins a series of probes: where both NATs draw a port for each destination,
/// every probe is seen from a new one, and two peers could set each other on for ever.
const MAX_SIGHTINGS: u32 = 4;
const SIGHTINGS_WITHIN: Duration = Duration::from_secs(10);
/// From this round on without a direct path, this node may be seen at another address than it was.
const UNFOUND: usize = 4;
/// What a path through a NAT is behind one without, in round-trip time.
const NAT_HANDICAP: Duration = Duration::from_millis(10);
/// Changes of path that are remembered.
const MAX_HISTORY: usize = 16;

/// The way to a peer and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathChange {
    /// Direct or over the relay.
    pub kind: PathKind,
    /// The peer's address, or the relay's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// When it was taken.
    pub at: Timestamp,
}

/// A probe on its way.
#[derive(Debug, Clone, Copy)]
struct Probe {
    id: u64,
    /// Nothing where it went to every port that the peer may have.
    to: Option<SocketAddr>,
    sent: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Remote {
    address: SocketAddr,
    kind: CandidateKind,
}

#[derive(Debug, Clone, Copy)]
struct Direct {
    address: SocketAddr,
    kind: CandidateKind,
    rtt: Duration,
    check_at: Instant,
    /// The check that is not answered yet, and how many before it were not.
    unanswered: u32,
}

/// The paths to one peer.
#[derive(Debug)]
pub(super) struct Paths {
    announced: Vec<Remote>,
    reflexive: Vec<SocketAddr>,
    /// Where an authentic packet came from last, if not over the relay.
    heard: Option<SocketAddr>,
    direct: Option<Direct>,
    probes: VecDeque<Probe>,
    /// The next round, and its number in the series; none before the tunnel stands.
    round: Option<(Instant, usize)>,
    active_at: Option<Instant>,
    /// When the peer was heard last, by whatever path.
    heard_at: Option<Instant>,
    /// Series of probes that packets of the peer began, since then.
    sightings: (Option<Instant>, u32),
    guesses: Guesses,
    /// Rounds go by and no direct path is found.
    is_unfound: bool,
    history: VecDeque<PathChange>,
}

impl Paths {
    pub fn new(now: Now, candidates: &[Candidate]) -> Self {
        let mut paths = Self {
            announced: Vec::new(),
            reflexive: Vec::new(),
            heard: None,
            direct: None,
            probes: VecDeque::new(),
            round: None,
            active_at: None,
            heard_at: None,
            sightings: (None, 0),
            guesses: Guesses::default(),
            is_unfound: false,
            history: VecDeque::new(),
        };
        paths.set_announced(candidates);
        paths.note(now.wall, PathKind::Relayed, None);
        paths
    }

    /// The direct address, if there is one.
    pub fn direct(&self) -> Option<SocketAddr> {
        self.direct.map(|direct| direct.address)
    }

    /// Where the peer was heard last, if not over the relay.
    pub fn heard_from(&self) -> Option<SocketAddr> {
        self.heard
    }

    /// Every address that the peer may have.
    pub fn everywhere(&self) -> BTreeSet<SocketAddr> {
        self.announced
            .iter()
            .map(|remote| remote.address)
            .chain(self.reflexive.iter().copied())
            .chain(self.heard)
            .collect()
    }

    /// When the next round of probes is due.
    pub fn next_round(&self) -> Option<Instant> {
        self.round.map(|(at, _)| at)
    }

    /// Round-trip time of the direct path.
    pub fn rtt(&self) -> Option<Duration> {
        self.direct.map(|direct| direct.rtt)
    }

    /// How packets go.
    pub fn kind(&self) -> PathKind {
        if self.direct.is_some() { PathKind::Direct } else { PathKind::Relayed }
    }

    /// Past ways, the present one last.
    pub fn history(&self) -> impl Iterator<Item = &PathChange> {
        self.history.iter()
    }

    /// A packet came from the peer. Tells whether it is the first packet after a while.
    pub fn received(&mut self, now: Instant) -> bool {
        self.heard_at = Some(now);
        if self.direct.is_none() {
            self.guesses.wanted(now);
        }
        self.touch(now)
    }

    /// A packet goes to the peer. Tells whether it is the first packet after a while.
    pub fn sent(&mut self, now: Instant) -> bool {
        let was_idle = self.touch(now);
        let is_quiet = self.heard_at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        if let Some(direct) = &mut self.direct
            && is_quiet
            && direct.unanswered == 0
        {
            direct.check_at = direct.check_at.min(now);
        }
        was_idle
    }

    /// Whether the direct path may have died: what goes over it goes over the relay as well, and comes once all the same, since
    /// WireGuard drops what it has seen.
    pub fn is_doubtful(&self) -> bool {
        self.direct.is_some_and(|direct| direct.unanswered >= SUSPECT)
    }

    fn touch(&mut self, now: Instant) -> bool {
        let was_idle = !self.is_active(now);
        self.active_at = Some(now);
        if was_idle
            && let Some(direct) = &mut self.direct
            && let Some(soon) = now.checked_add(CHECK_TIMEOUT)
        {
            // The path may have died while nobody looked: find out soon.
            direct.check_at = direct.check_at.min(soon);
        }
        was_idle
    }

    /// Whether packets have passed of late.
    pub fn is_active(&self, now: Instant) -> bool {
        self.active_at.is_some_and(|at| now.saturating_duration_since(at) < ACTIVE_FOR)
    }

    /// The peer announced where it can be tried.
    pub fn announce(&mut self, now: Instant, candidates: &[Candidate]) {
        let before: Vec<_> = self.announced.iter().map(|remote| remote.address).collect();
        self.set_announced(candidates);
        let is_gone = |address| before.contains(&address) && self.kind_announced(address).is_none();
        if self.direct().is_some_and(is_gone) {
            self.suspect(now);
        }
        if self.announced.iter().any(|remote| !before.contains(&remote.address)) {
            self.restart(now);
        }
    }

    fn set_announced(&mut self, candidates: &[Candidate]) {
        let usable = candidates.iter().filter(|candidate| is_usable(candidate.address)).take(MAX_CANDIDATES);
        self.announced = usable.map(|c| Remote { address: c.address, kind: c.kind }).collect();
        let seen = self.announced.iter().filter(|remote| remote.kind == CandidateKind::ServerReflexive);
        self.guesses.aim(&seen.map(|remote| remote.address).collect::<Vec<_>>());
    }

    /// An authentic packet came directly from this address. Where there is no direct path, or the address is new, it is worth
    /// a probe at once.
    pub fn seen_from(&mut self, now: Instant, address: SocketAddr) {
        self.heard = Some(address).filter(|address| is_usable(*address));
        let is_known = self.kind_announced(address).is_some() || self.reflexive.contains(&address);
        if !is_usable(address) || (is_known && self.direct.is_some()) {
            return;
        }
        if !is_known {
            if self.reflexive.len() >= MAX_REFLEXIVE {
                self.reflexive.remove(0);
            }
            self.reflexive.push(address);
        }
        if self.count_sighting(now) <= MAX_SIGHTINGS {
            self.restart(now);
        }
    }

    fn count_sighting(&mut self, now: Instant) -> u32 {
        let (since, count) = self.sightings;
        let is_same = since.is_some_and(|since| now.saturating_duration_since(since) < SIGHTINGS_WITHIN);
        self.sightings = if is_same { (since, count.saturating_add(1)) } else { (Some(now), 1) };
        self.sightings.1
    }

    /// The peer may not be there any more: it has forgotten its sessions, or no longer names the address. The first path
    /// that answers is taken, this one included.
    pub fn suspect(&mut self, now: Instant) {
        if let Some(direct) = &mut self.direct {
            direct.unanswered = direct.unanswered.max(SUSPECT);
            direct.check_at = now;
            self.restart(now);
        }
    }

    /// Begins a new series of probes, if the tunnel stands.
    pub fn restart(&mut self, now: Instant) {
        if self.round.is_some() {
            self.round = Some((now, 0));
        }
    }

    /// The tunnel stands: probing can begin.
    pub fn tunnel_established(&mut self, now: Instant) {
        if self.round.is_none() {
            self.round = Some((now, 0));
        }
    }

    /// The network under this node has changed: what was direct may not be so any more.
    pub fn network_changed(&mut self, now: Instant) {
        self.restart(now);
        self.guesses.begin_anew();
        if let Some(direct) = &mut self.direct {
            direct.check_at = now;
        }
    }

    /// The probes to send now: their numbers and where to.
    pub fn poll(&mut self, now: Now, random: &mut impl Rng) -> Vec<(u64, SocketAddr)> {
        let mut due = Vec::new();
        self.poll_check(now, &mut due);
        self.poll_round(now.instant, &mut due);
        due.into_iter().map(|to| (self.remember_probe(now.instant, Some(to), random), to)).collect()
    }

    /// The probes to send now to ports that are guessed, if they `may` succeed: their one number and where to.
    pub fn poll_guesses(
        &mut self,
        now: Instant,
        random: &mut impl Rng,
        may: impl FnOnce() -> bool,
    ) -> (u64, Vec<SocketAddr>) {
        if self.direct.is_some() || !self.is_active(now) {
            self.guesses.rest();
        }
        let mut guesses = self.guesses.poll(now, may);
        guesses.retain(|address| is_usable(*address));
        let id = if guesses.is_empty() { 0 } else { self.remember_probe(now, None, random) };
        (id, guesses)
    }

    /// Whether it is time for [`Self::poll_guesses`].
    pub fn is_guess_due(&self, now: Instant) -> bool {
        self.guesses.deadline().is_some_and(|at| at <= now)
    }

    /// Whether the peer's NAT draws ports that can be guessed.
    pub fn can_be_guessed(&self) -> bool {
        self.guesses.can_be_made()
    }

    fn poll_check(&mut self, now: Now, due: &mut Vec<SocketAddr>) {
        let Some(mut direct) = self.direct.filter(|direct| direct.check_at <= now.instant) else { return };
        if direct.unanswered >= MAX_LOST {
            self.direct = None;
            self.note(now.wall, PathKind::Relayed, None);
            self.restart(now.instant);
            return;
        }
        direct.unanswered += 1;
        direct.check_at = now.instant.checked_add(CHECK_TIMEOUT).unwrap_or(now.instant);
        self.direct = Some(direct);
        due.push(direct.address);
    }

    fn poll_round(&mut self, now: Instant, due: &mut Vec<SocketAddr>) {
        let Some((_, number)) = self.round.filter(|(at, _)| *at <= now) else { return };
        let wait = ROUNDS_MILLISECONDS.get(number).or(ROUNDS_MILLISECONDS.last()).copied().unwrap_or(30_000);
        let next = now.checked_add(Duration::from_millis(wait)).unwrap_or(now);
        self.round = Some((next, number.saturating_add(1)));
        self.is_unfound |= self.direct.is_none() && number >= UNFOUND;
        // On a direct path that answers, others are compared with it while it is in use; else only a better kind is looked for.
        let answers = self.direct.filter(|direct| direct.unanswered < SUSPECT);
        let any = answers.is_none() || self.is_active(now);
        let is_other = |address| answers.is_none_or(|direct| direct.address != address);
        let is_better = |remote: &Remote| any || answers.is_none_or(|direct| remote.kind < direct.kind);
        let announced = self.announced.iter().filter(|remote| is_other(remote.address) && is_better(remote));
        due.extend(announced.map(|remote| remote.address));
        if any {
            due.extend(self.reflexive.iter().copied().filter(|address| is_other(*address)));
        }
    }

    /// Whether it is time to ask anew where this node is seen, since no direct path is found.
    pub fn take_unfound(&mut self) -> bool {
        std::mem::take(&mut self.is_unfound)
    }

    fn remember_probe(&mut self, now: Instant, to: Option<SocketAddr>, random: &mut impl Rng) -> u64 {
        while self.probes.front().is_some_and(|probe| {
            self.probes.len() >= MAX_PROBES || now.saturating_duration_since(probe.sent) > PROBE_LIFETIME
        }) {
            self.probes.pop_front();
        }
        let id = random.random();
        self.probes.push_back(Probe { id, to, sent: now });
        id
    }

    /// A probe came back. `from` is where the answer came from, if directly.
    pub fn answered(&mut self, now: Now, id: u64, from: Option<SocketAddr>) {
        let Some(at) = self.probes.iter().position(|probe| probe.id == id) else { return };
        let Some(probe) = self.probes.remove(at) else { return };
        // An answer over the relay does not prove that there is a direct way back. One from another address than was probed
        // does: some NATs draw a port for each destination and let everybody in.
        let Some(from) = from else { return };
        let address = probe.to.unwrap_or(from);
        self.heard_at = Some(now.instant);
        let rtt = now.instant.saturating_duration_since(probe.sent);
        let kind = self.kind_of(address);
        let check_at = now.instant.checked_add(self.check_interval(now.instant)).unwrap_or(now.instant);
        let found = Direct { address, kind, rtt, check_at, unanswered: 0 };
        self.guesses.begin_anew();
        match self.direct {
            Some(current) if current.address == found.address => {
                // Smoothed as TCP does (RFC 6298), but quicker: there is a sample every few seconds only.
                let rtt = (current.rtt.saturating_mul(3).saturating_add(rtt)) / 4;
                self.direct = Some(Direct { rtt, ..found });
            }
            Some(current) if current.unanswered < SUSPECT && !is_better(&found, &current) => {}
            Some(_) | None => {
                self.direct = Some(found);
                self.note(now.wall, PathKind::Direct, Some(found.address));
            }
        }
    }

    fn kind_of(&self, address: SocketAddr) -> CandidateKind {
        self.kind_announced(address).unwrap_or(CandidateKind::ServerReflexive)
    }

    fn kind_announced(&self, address: SocketAddr) -> Option<CandidateKind> {
        self.announced.iter().find(|remote| remote.address == address).map(|remote| remote.kind)
    }

    fn check_interval(&self, now: Instant) -> Duration {
        if self.is_active(now) { CHECK_ACTIVE } else { CHECK_IDLE }
    }

    /// When [`Self::poll`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let round = self.round.filter(|_| self.has_targets()).map(|(at, _)| at);
        let guesses = self.guesses.deadline();
        round.into_iter().chain(self.direct.map(|direct| direct.check_at)).chain(guesses).min()
    }

    fn has_targets(&self) -> bool {
        !(self.announced.is_empty() && self.reflexive.is_empty())
    }

    fn note(&mut self, at: Timestamp, kind: PathKind, address: Option<SocketAddr>) {
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(PathChange { kind, address, at });
    }
}

/// Clearly shorter, where a path through a NAT counts as longer than it is: by a fifth and some milliseconds, so that two
/// alike do not take turns.
fn is_better(found: &Direct, current: &Direct) -> bool {
    let cost = |direct: &Direct| match direct.kind {
        CandidateKind::Host => direct.rtt,
        CandidateKind::ServerReflexive => direct.rtt.saturating_add(NAT_HANDICAP),
    };
    let margin = Duration::from_millis(5);
    (cost(found).saturating_mul(6) / 5).saturating_add(margin) < cost(current)
}

/// Whether packets may be sent there. The tunnel must not run through itself, nor leave the hosts it is between.
fn is_usable(address: SocketAddr) -> bool {
    let reachable = match address.ip() {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_link_local())
        }
        IpAddr::V6(ip) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some())
        }
    };
    reachable && address.port() != 0
}
