//! What came before its permission: the control plane tells both ends at once, but a peer's first packet may be faster.
//!
//! Each sender has a bound of its own, and each thing waits until a deadline of its own. When all places are taken, whoever
//! takes most gives one up, so that no sender and no few of them together can push out what others wait for.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How much is held, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Things of one sender.
    pub of_one: usize,
    /// Things of all of them.
    pub of_all: usize,
    /// How long each is held.
    pub held_for: Duration,
}

/// Things that wait, by sender, each sender's in the order in which they came.
#[derive(Debug)]
pub(super) struct Early<S, T> {
    bounds: Bounds,
    waiting: BTreeMap<S, VecDeque<(Instant, T)>>,
    count: usize,
}

impl<S: Ord + Copy, T> Early<S, T> {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: BTreeMap::new(), count: 0 }
    }

    /// Holds a thing, if its sender has room.
    pub fn hold(&mut self, now: Instant, from: S, thing: T) {
        self.expire(now);
        let held = self.waiting.get(&from).map_or(0, VecDeque::len);
        if held >= self.bounds.of_one || (self.count >= self.bounds.of_all && !self.make_room(held)) {
            return;
        }
        let Some(until) = now.checked_add(self.bounds.held_for) else { return };
        self.waiting.entry(from).or_default().push_back((until, thing));
        self.count += 1;
    }

    /// Drops the newest thing of whoever holds most, if that is more than somebody with `held` would hold then.
    fn make_room(&mut self, held: usize) -> bool {
        let greediest = self.waiting.values_mut().max_by_key(|queue| queue.len());
        let dropped = greediest.filter(|queue| queue.len() > held + 1).and_then(VecDeque::pop_back);
        self.count -= usize::from(dropped.is_some());
        dropped.is_some()
    }

    /// Drops what has waited for too long.
    pub fn expire(&mut self, now: Instant) {
        for queue in self.waiting.values_mut() {
            while queue.front().is_some_and(|(until, _)| *until <= now) {
                queue.pop_front();
                self.count -= 1;
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
    }

    /// When the next thing has waited for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|queue| queue.front()).map(|(until, _)| *until).min()
    }

    /// Forgets what a sender sent.
    pub fn forget(&mut self, from: S) {
        self.count -= self.waiting.remove(&from).map_or(0, |queue| queue.len());
    }

    /// Takes out everything that may still be used. What is to go on waiting is given [`back`](Self::give_back).
    pub fn take(&mut self, now: Instant) -> Vec<Waiting<S, T>> {
        self.expire(now);
        self.count = 0;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting
            .flat_map(|(from, queue)| {
                queue.into_iter().map(move |(until, thing)| Waiting { from, until, thing })
            })
            .collect()
    }

    /// Puts a thing that was taken out behind those of its sender, with the deadline that it had.
    pub fn give_back(&mut self, waiting: Waiting<S, T>) {
        self.waiting.entry(waiting.from).or_default().push_back((waiting.until, waiting.thing));
        self.count += 1;
    }
}

/// A thing that waits.
#[derive(Debug)]
pub(super) struct Waiting<S, T> {
    pub from: S,
    until: Instant,
    pub thing: T,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { of_one: 4, of_all: 12, held_for: Duration::from_secs(1) };

    fn of(early: &Early<u8, u32>, sender: u8) -> Vec<u32> {
        early.waiting.get(&sender).into_iter().flatten().map(|(_, thing)| *thing).collect()
    }

    #[test]
    fn each_thing_has_a_deadline_of_its_own() {
        let (mut early, now) = (Early::new(BOUNDS), Instant::now());
        early.hold(now, 1, 10);
        early.hold(now + BOUNDS.held_for / 2, 1, 11);
        assert_eq!(early.deadline(), Some(now + BOUNDS.held_for));
        early.expire(now + BOUNDS.held_for);
        assert_eq!(of(&early, 1), [11]);
        for waiting in early.take(now + BOUNDS.held_for) {
            early.give_back(waiting);
        }
        assert_eq!(
            early.deadline(),
            Some(now + BOUNDS.held_for * 3 / 2),
            "what is given back keeps its deadline"
        );
        early.expire(now + 2 * BOUNDS.held_for);
        assert_eq!((early.deadline(), early.count), (None, 0));
    }

    #[test]
    fn many_greedy_senders_leave_room_for_one_that_comes_late() {
        let (mut early, now) = (Early::new(BOUNDS), Instant::now());
        for thing in 0..100 {
            (1..=3).for_each(|greedy| early.hold(now, greedy, thing));
        }
        assert_eq!(early.count, BOUNDS.of_all);
        (0..4).for_each(|thing| early.hold(now, 9, thing));
        assert_eq!(of(&early, 9), [0, 1, 2], "a fair share of twelve places among four");
        assert_eq!(early.count, BOUNDS.of_all);
    }

    proptest! {
        /// Whatever a greedy sender does, a sender that keeps within a fair share loses nothing before its deadline.
        #[test]
        fn who_keeps_within_a_fair_share_loses_nothing(
            greedy in proptest::collection::vec((0_u8..3, 0_u64..100), 0..200),
            modest in proptest::collection::vec(0_u64..100, 0..3),
        ) {
            let (mut early, start) = (Early::new(BOUNDS), Instant::now());
            let modest = modest.into_iter().map(|at| (9, at));
            let mut sent: Vec<_> = greedy.into_iter().chain(modest).collect();
            sent.sort_by_key(|(_, at)| *at);
            let mut expected = Vec::new();
            for (number, (sender, at)) in (0..).zip(sent) {
                early.hold(start + Duration::from_millis(at), sender, number);
                if sender == 9 {
                    expected.push(number);
                }
                prop_assert_eq!(of(&early, 9), expected.clone());
                prop_assert!(early.count <= BOUNDS.of_all);
                prop_assert!(early.waiting.values().all(|queue| queue.len() <= BOUNDS.of_one));
                prop_assert_eq!(early.count, early.waiting.values().map(VecDeque::len).sum::<usize>());
            }
            prop_assert!(early.deadline().is_none_or(|at| at <= start + Duration::from_secs(2)));
        }
    }
}
