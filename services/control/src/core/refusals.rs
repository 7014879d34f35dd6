//! Refusals: facts too, but repeats within a window become one record with a count.
//!
//! The first refusal of its kind is recorded at once and opens a window; repeats are only counted, and when the window
//! ends the count becomes a record of its own. Counts are not part of the [state](super::State), which holds what is
//! recorded and nothing else; a control plane that is stopped by force loses those of one window.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{
    AdminActDenied, ConnectionDenied, DenialReason, JoinRefusal, LoginFailed, LoginFailure, NodeJoinRefused,
    Role, SessionFrameRejected,
};
use writ_schema::net::Protocol;
use writ_schema::seal::DestroyedKeys;
use writ_schema::{Actor, AdminId, EnrolmentKeyId, Event, NodeId, Seq};

/// How long repeats are counted.
pub const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Most windows of one source node: a scan of every port becomes this many records a minute, and then is turned away.
const MAX_PER_SOURCE: u32 = 256;

/// Most windows of all that comes from outside without proof of who it is.
const MAX_UNPROVEN: u32 = 1024;

/// Most windows altogether.
const MAX_WINDOWS: usize = 65_536;

/// A refusal that is to be recorded, with a count of 1.
#[derive(Debug, Clone, PartialEq)]
pub enum RefusalFact {
    /// `connection.denied`
    Connection {
        /// Who asked, as it also stands sealed in the event.
        source: NodeId,
        /// The event.
        denied: Box<ConnectionDenied>,
    },
    /// `session.frame_rejected`
    Frame {
        /// Whose agent, as it also stands sealed in the event.
        node: NodeId,
        /// Why, likewise.
        reason: String,
        /// The event.
        rejected: Box<SessionFrameRejected>,
    },
    /// `node.join_refused`
    Join(NodeJoinRefused),
    /// `login.failed`
    LogIn(LoginFailed),
    /// `admin.act_denied`
    Act(AdminActDenied),
}

/// What makes two refusals the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Connection(NodeId, IpAddr, Protocol, u16, DenialReason),
    Frame(NodeId, String),
    Join(NodeId, Option<EnrolmentKeyId>, JoinRefusal),
    LogIn(Option<AdminId>, LoginFailure),
    Act(AdminId, String, Role),
}

/// Whose windows are bounded together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Source(NodeId),
    Unproven,
    Admin(AdminId),
}

#[derive(Debug, Clone)]
struct Window {
    ends_at: Timestamp,
    first: Seq,
    repeats: u32,
    fact: RefusalFact,
}

/// What is to be done about a refusal.
#[derive(Debug, Clone, PartialEq)]
pub enum Noted {
    /// It is the first of its window: this is to be recorded.
    Record(Box<Event>, Actor),
    /// It was counted; the first of its window is this record.
    Repeat(Seq),
    /// Too much was refused lately.
    Full,
}

/// The windows that are open.
#[derive(Debug, Default)]
pub struct Refusals {
    windows: BTreeMap<Key, Window>,
    by_group: BTreeMap<Group, u32>,
    /// Windows that ended with the commit that is being made, to come back if it fails.
    ended: Vec<(Key, Window)>,
}

impl Refusals {
    /// Notes a refusal; if it is to be recorded, as this record.
    pub fn note(&mut self, fact: RefusalFact, now: Timestamp, record: Seq) -> Noted {
        let key = fact.key();
        if let Some(window) = self.windows.get_mut(&key) {
            window.repeats = window.repeats.saturating_add(1);
            return Noted::Repeat(window.first);
        }
        let count = self.by_group.entry(key.group()).or_default();
        if *count >= key.group().max_windows() || self.windows.len() >= MAX_WINDOWS {
            return Noted::Full;
        }
        *count += 1;
        let ends_at = now.checked_add(WINDOW).unwrap_or(Timestamp::MAX);
        let (event, actor) = (fact.event(1), fact.actor());
        self.windows.insert(key, Window { ends_at, first: record, repeats: 0, fact });
        Noted::Record(Box::new(event), actor)
    }

    /// Ends the windows that are over; what was counted in them is to be recorded.
    pub fn end_due(&mut self, now: Timestamp) -> Vec<(Event, Actor)> {
        self.end(|window| window.ends_at <= now)
    }

    /// Ends every window, as before a stop.
    pub fn end_all(&mut self) -> Vec<(Event, Actor)> {
        self.end(|_| true)
    }

    /// Whether a window is open, so that its end must be looked for.
    pub fn is_counting(&self) -> bool {
        !self.windows.is_empty()
    }

    /// The records of the last notes and ends are durable.
    pub fn commit(&mut self) {
        self.ended.clear();
    }

    /// No record from this one on came about.
    pub fn roll_back(&mut self, from: Seq) {
        let opened: Vec<Key> = self
            .windows
            .iter()
            .filter(|(_, window)| window.first >= from)
            .map(|(key, _)| key.clone())
            .collect();
        for key in opened {
            self.remove(&key);
        }
        for (key, window) in std::mem::take(&mut self.ended) {
            *self.by_group.entry(key.group()).or_default() += 1;
            self.windows.insert(key, window);
        }
    }

    /// Forgets what was counted under keys that are destroyed: it cannot be sealed any more.
    pub fn forget(&mut self, keys: &DestroyedKeys) {
        let is_about = |window: &Window| match &window.fact {
            RefusalFact::Connection { denied, .. } => denied.source.of().is_some_and(|of| keys.contain(of)),
            RefusalFact::Frame { rejected, .. } => rejected.source.of().is_some_and(|of| keys.contain(of)),
            RefusalFact::Join(_) | RefusalFact::LogIn(_) | RefusalFact::Act(_) => false,
        };
        let about: Vec<Key> =
            self.windows.iter().filter(|(_, window)| is_about(window)).map(|(key, _)| key.clone()).collect();
        for key in about {
            self.remove(&key);
        }
    }

    fn end(&mut self, is_over: impl Fn(&Window) -> bool) -> Vec<(Event, Actor)> {
        let keys: Vec<Key> =
            self.windows.iter().filter(|(_, window)| is_over(window)).map(|(key, _)| key.clone()).collect();
        let mut events = Vec::new();
        for key in keys {
            let Some(window) = self.remove(&key) else { continue };
            if window.repeats > 0 {
                events.push((window.fact.event(window.repeats), window.fact.actor()));
                self.ended.push((key, window));
            }
        }
        events
    }

    fn remove(&mut self, key: &Key) -> Option<Window> {
        let window = self.windows.remove(key)?;
        let group = key.group();
        let left = self.by_group.get(&group).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            self.by_group.remove(&group);
        } else {
            self.by_group.insert(group, left);
        }
        Some(window)
    }
}

impl RefusalFact {
    fn key(&self) -> Key {
        match self {
            Self::Connection { source, denied } => {
                Key::Connection(source.clone(), denied.address, denied.protocol, denied.port, denied.reason)
            }
            Self::Frame { node, reason, .. } => Key::Frame(node.clone(), reason.clone()),
            Self::Join(refused) => {
                Key::Join(refused.node.clone(), refused.enrolment_key.clone(), refused.reason)
            }
            Self::LogIn(failed) => Key::LogIn(failed.admin.clone(), failed.reason),
            Self::Act(denied) => Key::Act(denied.admin.clone(), denied.operation.clone(), denied.needs),
        }
    }

    fn event(&self, times: u32) -> Event {
        match self.clone() {
            Self::Connection { denied, .. } => ConnectionDenied { count: times, ..*denied }.into(),
            Self::Frame { rejected, .. } => SessionFrameRejected { count: times, ..*rejected }.into(),
            Self::Join(refused) => NodeJoinRefused { count: times, ..refused }.into(),
            Self::LogIn(failed) => LoginFailed { count: times, ..failed }.into(),
            Self::Act(denied) => AdminActDenied { count: times, ..denied }.into(),
        }
    }

    fn actor(&self) -> Actor {
        match self {
            Self::Connection { .. } | Self::Frame { .. } => Actor::Agent,
            Self::Join(_) | Self::LogIn(_) => Actor::Anonymous,
            Self::Act(denied) => Actor::Admin(denied.admin.clone()),
        }
    }
}

impl Key {
    fn group(&self) -> Group {
        match self {
            Self::Connection(source, ..) | Self::Frame(source, _) => Group::Source(source.clone()),
            Self::Join(..) | Self::LogIn(..) => Group::Unproven,
            Self::Act(admin, ..) => Group::Admin(admin.clone()),
        }
    }
}

impl Group {
    fn max_windows(&self) -> u32 {
        match self {
            Self::Source(_) | Self::Admin(_) => MAX_PER_SOURCE,
            Self::Unproven => MAX_UNPROVEN,
        }
    }
}
