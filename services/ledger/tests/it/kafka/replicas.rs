//! Three brokers that have every record at least twice: what the log is worth when some of them die.

use std::time::{Duration, Instant};

use writ_ledger::store::StoreError;
use writ_ledger::store::kafka::KafkaLog;
use writ_ledger::{AppendError, Hash, Log, SignedCheckpoint};
use writ_test_kafka::{Broker, Cluster};

use super::broker::leader;
use super::faults::lead_again;
use super::{Place, Topic};
use crate::{assert_holds, key, records, signer};

/// How long until others lead what a broker has led, on a machine that does much else.
const FAILOVER_LIMIT: Duration = Duration::from_secs(60);

/// Appends three records and notes what was acknowledged: the size of the log and its root. A commit that fails is not asked again, as
/// its client would: the log is taken up again and must be as it was, or with the whole commit.
fn commit(log: &mut Log, acknowledged: &mut Vec<(u64, Hash)>) {
    let first = log.size();
    match log.append(&records(first..first + 3)) {
        Ok(commit) => {
            let signed = SignedCheckpoint::open(&commit.checkpoint, &key()).unwrap();
            acknowledged.push((signed.checkpoint().size, signed.checkpoint().root));
        }
        Err(error) => {
            assert!(matches!(error, AppendError::Store(_)), "{error}");
            lead_again(log);
            let size = log.size();
            assert!(size == first || (size == first + 3 && error.is_unknown()), "{size} {first} {error}");
        }
    }
}

fn leading<'a>(cluster: &'a Cluster, topic: &Topic) -> &'a Broker {
    let deadline = Instant::now() + FAILOVER_LIMIT;
    loop {
        match leader(&topic.options) {
            Some(node) => return &cluster.brokers()[node - 1],
            None => assert!(Instant::now() < deadline, "nobody leads the topic"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn of_three_brokers_one_may_die_and_without_two_the_log_waits_and_loses_nothing() {
    let cluster = Cluster::start(3).unwrap();
    let mut topic = Topic::across(cluster.brokers().iter().map(Broker::address).collect());
    topic.options.patience = Duration::from_secs(6);
    let mut log = topic.create();
    let settings = KafkaLog::settings(&topic.options).unwrap();
    assert_eq!((settings.replicas, settings.min_in_sync), (3, Some(2)), "what a topic is made with");
    assert!(settings.cautions().is_empty());
    let mut acknowledged = Vec::new();

    // The one that leads dies in the middle of the load: the others go on, with everything that was answered.
    let first = leading(&cluster, &topic);
    std::thread::scope(|scope| {
        let killing = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            first.kill().unwrap();
        });
        while acknowledged.len() < 20 || !killing.is_finished() {
            commit(&mut log, &mut acknowledged);
        }
    });
    let deadline = Instant::now() + FAILOVER_LIMIT;
    let before = acknowledged.len();
    while acknowledged.len() < before + 20 {
        assert!(Instant::now() < deadline, "the log does not go on with two of three brokers");
        commit(&mut log, &mut acknowledged);
    }

    // With one left nothing would be there twice: it is said, and nothing is answered that might be lost.
    let second = leading(&cluster, &topic);
    second.kill().unwrap();
    let size = log.size();
    let error = log.append(&records(size..size + 3)).unwrap_err();
    assert!(
        matches!(&error, AppendError::Store(StoreError::Unavailable { .. } | StoreError::Undecided { .. })),
        "{error}"
    );
    let told = error.to_string();
    assert!(cluster.brokers().iter().all(|broker| told.contains(&broker.address())), "{told}");
    let still = log.lead().unwrap_err().to_string();
    assert!(still.contains("topic "), "{still}");
    assert_holds(&log, size);

    // They come back on the data that they had.
    cluster.restart().unwrap();
    lead_again(&mut log);
    assert!(log.size() == size || (log.size() == size + 3 && error.is_unknown()), "{error}");
    let before = acknowledged.len();
    while acknowledged.len() < before + 20 {
        commit(&mut log, &mut acknowledged);
    }

    let size = log.size();
    assert_holds(&log, size);
    for (size, root) in &acknowledged {
        assert_eq!(log.reader().root(*size).unwrap(), *root, "what was answered at {size} records");
    }
    let follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
    assert_holds(&follower, size);
    assert_eq!(follower.reader().checkpoint().checkpoint(), log.reader().checkpoint().checkpoint());
}
