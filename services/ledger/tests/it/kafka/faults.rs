//! A broker that goes away under the writer, in order or not, and comes back.

use std::time::{Duration, Instant};

use writ_ledger::store::kafka::KafkaLog;
use writ_ledger::{AppendError, Log};
use writ_test_kafka::Broker;

use super::{Place, Topic};
use crate::{assert_holds, records, signer};

/// Takes a log up again as a server does: until it works.
pub fn lead_again(log: &mut Log) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while let Err(error) = log.lead() {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_broker_that_restarts_or_dies_costs_time_and_no_record() {
    let broker = Broker::start().unwrap();
    let mut topic = Topic::at(&broker.address());
    topic.options.patience = Duration::from_secs(4);
    let mut log = topic.create();
    let (mut acknowledged, mut failures) = (Vec::new(), 0);
    for round in 0..3 {
        for commit in 0..20 {
            if commit == 10 {
                match round {
                    0 => broker.stop().unwrap(),
                    1 => broker.kill().unwrap(),
                    // It is back before anybody asks.
                    _ => {
                        broker.kill().unwrap();
                        broker.restart().unwrap();
                    }
                }
            }
            let first = log.size();
            let started = Instant::now();
            match log.append(&records(first..first + 3)) {
                Ok(commit) => acknowledged.push(commit.size),
                Err(error) => {
                    failures += 1;
                    assert!(started.elapsed() < Duration::from_secs(30), "{error}");
                    assert!(matches!(error, AppendError::Store(_)), "{error}");
                    assert_holds(&log, first);
                    broker.restart().unwrap();
                    lead_again(&mut log);
                    let size = log.size();
                    assert!(
                        size == first || (size == first + 3 && error.is_unknown()),
                        "{size} {first} {error}"
                    );
                }
            }
        }
    }
    assert!(failures >= 2, "the broker was never away");
    let size = log.size();
    assert!(acknowledged.iter().all(|acknowledged| *acknowledged <= size));
    assert_holds(&log, size);
    let follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
    assert_holds(&follower, size);
    assert_eq!(follower.reader().checkpoint(), log.reader().checkpoint());
}
