//! Any sequence of events, against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use writ_relay::wire::BINDING_LIFETIME;

use crate::bench::{Bench, forwarded, node};

const NODES: u8 = 4;

#[derive(Debug, Clone, Copy)]
enum Event {
    Hello(u8),
    Permit(u8, u8, Duration),
    Revoke(u8, u8),
    Drop(u8),
    Data(u8, u8),
    Wait(Duration),
    CleanUp,
}

fn event() -> impl Strategy<Value = Event> {
    let n = || 1..=NODES;
    let time = (1_u64..120).prop_map(Duration::from_secs);
    prop_oneof![
        3 => n().prop_map(Event::Hello),
        3 => (n(), n(), time.clone()).prop_map(|(a, b, time)| Event::Permit(a, b, time)),
        1 => (n(), n()).prop_map(|(a, b)| Event::Revoke(a, b)),
        1 => n().prop_map(Event::Drop),
        6 => (n(), n()).prop_map(|(a, b)| Event::Data(a, b)),
        2 => time.prop_map(Event::Wait),
        1 => Just(Event::CleanUp),
    ]
}

#[derive(Default)]
struct Model {
    hello_at: BTreeMap<u8, Instant>,
    permits: BTreeMap<BTreeSet<u8>, Instant>,
}

impl Model {
    fn is_bound(&self, n: u8, now: Instant) -> bool {
        self.hello_at.get(&n).is_some_and(|at| now < *at + BINDING_LIFETIME)
    }

    fn forwards(&self, from: u8, to: u8, now: Instant) -> bool {
        let permitted = self.permits.get(&BTreeSet::from([from, to])).is_some_and(|until| now < *until);
        permitted && self.is_bound(from, now) && self.is_bound(to, now)
    }

    fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Hello(n) => drop(self.hello_at.insert(n, now)),
            Event::Permit(a, b, time) => {
                let until = self.permits.entry(BTreeSet::from([a, b])).or_insert(now);
                *until = (now + time).max(*until);
            }
            Event::Revoke(a, b) => drop(self.permits.remove(&BTreeSet::from([a, b]))),
            Event::Drop(n) => {
                self.hello_at.remove(&n);
                self.permits.retain(|pair, _| !pair.contains(&n));
            }
            Event::Data(..) | Event::Wait(_) | Event::CleanUp => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn data_passes_exactly_when_the_model_says_so(events in proptest::collection::vec(event(), 1..120)) {
        let (mut bench, mut model, mut passed) = (Bench::new(), Model::default(), 0);
        for event in events {
            model.apply(event, bench.now);
            match event {
                Event::Hello(n) => bench.bind(n),
                Event::Permit(a, b, time) => bench.permit(a, b, time),
                Event::Revoke(a, b) => bench.relay.revoke(&node(a), &node(b)),
                Event::Drop(n) => bench.relay.drop_node(&node(n)),
                Event::Data(from, to) => {
                    let arrived = bench.data(from, to) == forwarded(from, to);
                    prop_assert_eq!(arrived, model.forwards(from, to, bench.now), "{:?}", event);
                    passed += u64::from(arrived);
                }
                Event::Wait(time) => bench.advance(time),
                Event::CleanUp => bench.relay.handle_timeout(bench.now),
            }
        }
        prop_assert_eq!(bench.relay.counters().forwarded_packets, passed);
    }
}
