//! Packets that wait for an authorization, and the wishes that were just denied.
//!
//! Everything here is bounded: a program that sends to many addresses, or much to one, loses packets, not memory.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use writ_schema::RequestId;

use super::filter::Wish;

/// Packets held for one wish.
const MAX_PACKETS: usize = 16;
/// Bytes held for one wish.
const MAX_BYTES: usize = 64 * 1024;
/// Wishes at a time.
const MAX_WISHES: usize = 256;
/// How long packets are held: a program that is not answered by then has sent again or given up.
const HELD_FOR: Duration = Duration::from_secs(5);
/// How long a denial answers for the control plane, so that a program that tries again does not flood it.
const DENIED_FOR: Duration = Duration::from_secs(5);
/// Denials remembered at a time.
const MAX_DENIED: usize = 1024;

#[derive(Debug)]
struct Waiting {
    wish: Wish,
    since: Instant,
    /// When to ask (again); `None` while an answer is due.
    ask_at: Option<Instant>,
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// What becomes of a packet without an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It waits.
    Waits,
    /// The wish was denied a moment ago.
    Denied,
    /// There is no room.
    Dropped,
}

/// The wishes of this node that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: HashMap<RequestId, Waiting>,
    by_wish: HashMap<Wish, RequestId>,
    denied: HashMap<Wish, Instant>,
}

impl Pending {
    /// Holds a packet until its wish is answered. `name` is used if the wish is new.
    pub fn hold(
        &mut self,
        now: Instant,
        wish: Wish,
        packet: &[u8],
        name: impl FnOnce() -> RequestId,
    ) -> Held {
        if self.denied.get(&wish).is_some_and(|until| now < *until) {
            return Held::Denied;
        }
        if let Some(waiting) = self.by_wish.get(&wish).and_then(|request| self.waiting.get_mut(request)) {
            return waiting.push(packet);
        }
        if self.waiting.len() >= MAX_WISHES {
            return Held::Dropped;
        }
        let mut waiting = Waiting { wish, since: now, ask_at: Some(now), packets: VecDeque::new(), bytes: 0 };
        let held = waiting.push(packet);
        let request = name();
        self.by_wish.insert(wish, request.clone());
        self.waiting.insert(request, waiting);
        held
    }

    /// The wishes that are to be asked for now; they then wait for their answers.
    pub fn take_due(&mut self, now: Instant) -> Vec<(RequestId, Wish)> {
        let due = self.waiting.iter_mut().filter(|(_, waiting)| waiting.ask_at.is_some_and(|at| at <= now));
        due.map(|(request, waiting)| {
            waiting.ask_at = None;
            (request.clone(), waiting.wish)
        })
        .collect()
    }

    /// Asks everything again: the session is new, and answers to what was asked before may be lost.
    pub fn ask_again(&mut self, now: Instant) {
        for waiting in self.waiting.values_mut() {
            waiting.ask_at = Some(now);
        }
    }

    /// Asks one wish again after a while.
    pub fn retry(&mut self, now: Instant, request: &RequestId, after: Duration) {
        if let Some(waiting) = self.waiting.get_mut(request) {
            waiting.ask_at = now.checked_add(after);
        }
    }

    /// The wish was granted: gives up its packets, oldest first.
    pub fn grant(&mut self, request: &RequestId) -> VecDeque<Vec<u8>> {
        self.remove(request).map(|waiting| waiting.packets).unwrap_or_default()
    }

    /// Every wish that this covers, whatever request it waits under: two ports of one range are one authorization.
    pub fn grant_covered(&mut self, covered: impl Fn(&Wish) -> bool) -> VecDeque<Vec<u8>> {
        let requests: Vec<_> = self
            .by_wish
            .iter()
            .filter(|(wish, _)| covered(wish))
            .map(|(_, request)| request.clone())
            .collect();
        requests.iter().flat_map(|request| self.grant(request)).collect()
    }

    /// The wish was denied: gives back what it was and its packets.
    pub fn deny(&mut self, now: Instant, request: &RequestId) -> Option<(Wish, VecDeque<Vec<u8>>)> {
        let waiting = self.remove(request)?;
        self.denied.retain(|_, until| now < *until);
        if self.denied.len() < MAX_DENIED
            && let Some(until) = now.checked_add(DENIED_FOR)
        {
            self.denied.insert(waiting.wish, until);
        }
        Some((waiting.wish, waiting.packets))
    }

    /// Lets everything be asked anew: the control plane may decide otherwise now.
    pub fn forget_denials(&mut self) {
        self.denied.clear();
    }

    /// Drops what has waited for too long, and tells whose.
    pub fn expire(&mut self, now: Instant) -> Vec<Wish> {
        let late = |waiting: &Waiting| now.saturating_duration_since(waiting.since) >= HELD_FOR;
        let requests: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| late(waiting))
            .map(|(request, _)| request.clone())
            .collect();
        requests.iter().filter_map(|request| self.remove(request)).map(|waiting| waiting.wish).collect()
    }

    /// When something is to be asked (if there is anybody to ask) or dropped next.
    pub fn deadline(&self, can_ask: bool) -> Option<Instant> {
        let deadline = |waiting: &Waiting| {
            let dropped_at = waiting.since.checked_add(HELD_FOR);
            waiting.ask_at.filter(|_| can_ask).into_iter().chain(dropped_at).min()
        };
        self.waiting.values().filter_map(deadline).min()
    }

    fn remove(&mut self, request: &RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(request)?;
        self.by_wish.remove(&waiting.wish);
        Some(waiting)
    }
}

impl Waiting {
    fn push(&mut self, packet: &[u8]) -> Held {
        let bytes = self.bytes.saturating_add(packet.len());
        if self.packets.len() >= MAX_PACKETS || bytes > MAX_BYTES {
            return Held::Dropped;
        }
        self.bytes = bytes;
        self.packets.push_back(packet.to_vec());
        Held::Waits
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use writ_schema::net::Protocol;

    use super::*;

    fn wish(port: u16) -> Wish {
        Wish { address: Ipv4Addr::new(100, 64, 0, 2).into(), protocol: Protocol::Tcp, port, by_exit: false }
    }

    fn name(number: u16) -> RequestId {
        let [high, low] = number.to_be_bytes();
        RequestId::from_bytes([high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn a_wish_is_asked_for_once_and_its_packets_come_out_in_order() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        for packet in [b"a", b"b"] {
            assert_eq!(pending.hold(now, wish(80), packet, || name(1)), Held::Waits);
        }
        assert_eq!(pending.take_due(now), [(name(1), wish(80))]);
        assert_eq!(pending.take_due(now), []);
        pending.ask_again(now);
        assert_eq!(pending.take_due(now).len(), 1);
        assert_eq!(pending.grant(&name(1)), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(pending.deadline(true), None);
    }

    #[test]
    fn packets_bytes_and_wishes_are_bounded_and_wait_for_a_while_only() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        for _ in 0..MAX_PACKETS {
            assert_eq!(pending.hold(now, wish(80), b"x", || name(1)), Held::Waits);
        }
        assert_eq!(pending.hold(now, wish(80), b"x", || name(1)), Held::Dropped);
        assert_eq!(pending.hold(now, wish(81), &[0; MAX_BYTES + 1], || name(2)), Held::Dropped);
        for port in 1_000..2_000 {
            pending.hold(now, wish(port), b"x", || name(port));
        }
        assert_eq!(pending.waiting.len(), MAX_WISHES);
        assert_eq!(pending.expire(now + HELD_FOR).len(), MAX_WISHES);
        assert_eq!(pending.hold(now, wish(80), b"x", || name(1)), Held::Waits);
    }

    #[test]
    fn a_denial_answers_for_a_while() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        pending.hold(now, wish(80), b"x", || name(1));
        assert_eq!(pending.deny(now, &name(1)).unwrap().0, wish(80));
        assert_eq!(pending.hold(now, wish(80), b"x", || name(2)), Held::Denied);
        assert_eq!(pending.hold(now, wish(81), b"x", || name(3)), Held::Waits);
        assert_eq!(pending.hold(now + DENIED_FOR, wish(80), b"x", || name(4)), Held::Waits);
    }

    #[test]
    fn a_denial_is_forgotten_when_what_may_be_reached_has_changed() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        pending.hold(now, wish(80), b"x", || name(1));
        pending.deny(now, &name(1)).unwrap();
        pending.forget_denials();
        assert_eq!(pending.hold(now, wish(80), b"x", || name(2)), Held::Waits);
    }
}
