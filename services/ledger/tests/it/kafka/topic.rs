//! What a topic may be, and what is done when it is something else.

use std::time::{Duration, Instant};

use writ_ledger::store::entry::{BatchHead, Epoch};
use writ_ledger::store::fold::{Fold, Verdict};
use writ_ledger::store::kafka::KafkaLog;
use writ_ledger::store::{Batch, StoreError};
use writ_ledger::{AppendError, OpenError, SigningKey};
use zeroize::Zeroizing;

use super::broker::{Stranger, all, delete_before, delete_topic, make_topic, messages, write_and_abort};
use super::{Place, Topic, options};
use crate::suite::filled;
use crate::{assert_holds, record, records, signer};

fn refusal<T: std::fmt::Debug>(result: Result<T, OpenError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_follower_sees_what_the_leader_writes_and_takes_over_when_told_to() {
    let topic = Topic::new();
    let mut leader = filled(&topic, 20);
    let mut follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
    assert_holds(&follower, 20);
    assert!(matches!(follower.append(&records(20..21)), Err(AppendError::Store(StoreError::NotLeading))));
    leader.append(&records(20..25)).unwrap();
    assert_eq!(follower.catch_up().unwrap(), 25);
    assert_eq!(follower.reader().checkpoint(), leader.reader().checkpoint());
    assert_eq!(follower.lead().unwrap(), 25);
    let deposed = leader.append(&records(25..26)).unwrap_err();
    assert!(!matches!(deposed, AppendError::Store(StoreError::Foreign { .. })), "{deposed}");
    follower.append(&records(25..30)).unwrap();
    leader.catch_up().unwrap();
    let deposed = leader.append(&records(30..31)).unwrap_err();
    assert!(
        matches!(&deposed, AppendError::Store(StoreError::Deposed { newer }) if newer.contains("a test")),
        "{deposed}"
    );
    assert_holds(&leader, 30);
    assert_holds(&follower, 30);
}

#[test]
fn what_is_not_the_log_s_is_ignored_and_counted() {
    let topic = Topic::new();
    let mut log = filled(&topic, 10);
    let (stranger, old) = (Stranger::new(&topic.options), all(&topic.options));
    for garbage in [&b""[..], b"garbage", b"{\"entry\":\"batch\",\"v\":1}", &[0xff; 100]] {
        stranger.write(garbage);
    }
    old.iter().for_each(|entry| stranger.write(entry));
    log.append(&records(10..12)).unwrap();
    assert_eq!(log.ignored_entries(), 4 + old.len() as u64);
    assert_holds(&log, 12);
    let follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
    assert_holds(&follower, 12);
    assert_eq!(follower.ignored_entries(), log.ignored_entries());
}

#[test]
fn a_batch_counts_by_its_place_whatever_became_of_its_transaction() {
    let topic = Topic::new();
    let mut log = filled(&topic, 10);
    let mut fold = Fold::new();
    for entry in all(&topic.options) {
        fold.apply(&entry).unwrap();
    }
    // The writer's own next batch, as if its transaction had been aborted after the batch was in the topic.
    let (current, next) = (fold.current().unwrap(), record(10));
    let next = [next.as_bytes()];
    let batch = Batch { first: 10, previous_root: fold.frontier().root(), records: &next };
    let entry = BatchHead::of(&batch, current.log, current.epoch).encode(&next);
    write_and_abort(&topic.options, &entry);
    assert!(!messages(&topic.options, 0, "read_committed").into_values().any(|found| found == entry));
    let mut follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
    assert_holds(&follower, 11);
    assert_eq!(log.catch_up().unwrap(), 11);
    log.append(&records(11..13)).unwrap();
    // A second copy of it changes nothing.
    Stranger::new(&topic.options).write(&entry);
    assert_eq!(log.catch_up().unwrap(), 13);
    assert_eq!(follower.catch_up().unwrap(), 13);
    assert_holds(&log, 13);
    assert_holds(&follower, 13);
    assert!(matches!(fold.apply(&entry), Ok(Verdict::Continued(_))));
    assert_eq!(fold.epoch(), Epoch(1));
}

#[test]
fn a_topic_that_would_lose_or_mix_up_records_is_refused_by_the_setting() {
    for (partitions, settings, named) in [
        (2, &[("retention.ms", "-1"), ("retention.bytes", "-1")][..], "2 partitions"),
        (1, &[("retention.ms", "3600000"), ("retention.bytes", "-1")], "retention.ms"),
        (1, &[("retention.ms", "-1"), ("retention.bytes", "1000000")], "retention.bytes"),
        (
            1,
            &[("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "compact")],
            "cleanup.policy",
        ),
    ] {
        let topic = Topic::new();
        make_topic(&topic.options, partitions, settings);
        let refused = refusal(topic.create_with(signer()));
        assert!(refused.contains(named), "{refused}");
    }
}

#[test]
fn a_topic_of_small_messages_takes_small_commits_and_names_the_limit() {
    let topic = Topic::new();
    let small = [("max.message.bytes", "200000"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
    make_topic(&topic.options, 1, &small);
    let mut log = topic.create();
    assert!(log.max_commit_bytes() < 200_000);
    let large = vec![format!("{{\"a\":\"{}\"}}", "x".repeat(60_000)); 3];
    let error = log.append(&large).unwrap_err();
    assert!(matches!(error, AppendError::Store(StoreError::BatchTooLarge { .. })), "{error}");
    log.append(&large[..2]).unwrap();
    assert_eq!(log.size(), 2);
}

#[test]
fn a_large_commit_fits_a_topic_that_was_made_for_it() {
    let topic = Topic::new();
    let mut log = topic.create();
    let large = vec![format!("{{\"a\":\"{}\"}}", "x".repeat(60_000)); 400];
    log.append(&large).unwrap();
    drop(log);
    assert_eq!(topic.open().unwrap().size(), 400);
}

#[test]
fn another_log_s_topic_is_refused() {
    let topic = Topic::new();
    drop(filled(&topic, 3));
    let other = || Box::new(SigningKey::from_seed("other.example/log", [8; 32]).unwrap());
    let refused = refusal(KafkaLog::create(&topic.other("a"), other(), &topic.options));
    assert!(refused.contains("holds a log already (writ.example/log"), "{refused}");
    assert!(!topic.other("a").join("segments").exists(), "nothing of it is left");
    let refused = refusal(KafkaLog::open(&topic.other("b"), other(), &topic.options));
    assert!(refused.contains("writ.example/log"), "{refused}");
    let empty = Topic::new();
    make_topic(&empty.options, 1, &[("retention.ms", "-1"), ("retention.bytes", "-1")]);
    let refused = refusal(empty.open());
    assert!(refused.contains("holds no log"), "{refused}");
}

#[test]
fn a_topic_that_was_made_anew_is_noticed_at_the_start_and_while_running() {
    let topic = Topic::new();
    let mut log = filled(&topic, 12);
    delete_topic(&topic.options);
    std::thread::sleep(Duration::from_secs(1));
    make_topic(&topic.options, 1, &[("retention.ms", "-1"), ("retention.bytes", "-1")]);
    let error = log.append(&records(12..13)).unwrap_err();
    assert!(matches!(error, AppendError::Store(_)), "{error}");
    assert!(log.lead().is_err());
    assert_holds(&log, 12);
    drop(log);
    let refused = refusal(topic.open());
    assert!(refused.contains("made anew"), "{refused}");
    drop(KafkaLog::create(&topic.other("new"), signer(), &topic.options).unwrap());
    let refused = refusal(topic.open());
    assert!(refused.contains("made anew"), "{refused}");
    assert_eq!(
        writ_ledger::FileLog::open_read_only(topic.dir(), &crate::key()).unwrap().size(),
        12,
        "the copy stays"
    );
}

#[test]
fn a_topic_whose_beginning_was_removed_is_refused_where_it_must_be_read() {
    let topic = Topic::new();
    drop(filled(&topic, 12));
    delete_before(&topic.options, 3);
    let refused = refusal(topic.open());
    assert!(refused.contains("begin") || refused.contains("cut"), "{refused}");
    let refused = refusal(KafkaLog::follow(&topic.other("new"), signer(), &topic.options));
    assert!(refused.contains("removed"), "{refused}");
}

#[test]
fn a_copy_that_is_missing_damaged_or_behind_is_made_again() {
    let topic = Topic::new();
    let mut log = filled(&topic, 60);
    let dir = topic.dir().to_owned();
    let checkpoint = log.reader().checkpoint();
    let segment = dir.join("segments/00000000000000000000.jsonl");
    let older = std::fs::read(dir.join("topic.json")).ok();
    log.append(&records(60..61)).unwrap();
    drop(log);
    let newest = std::fs::read(dir.join("topic.json")).unwrap();
    let harm: [&dyn Fn(); 6] = [
        &|| std::fs::remove_file(dir.join("topic.json")).unwrap(),
        &|| std::fs::remove_dir_all(dir.join("segments")).unwrap(),
        &|| std::fs::remove_dir_all(dir.join("tiles")).unwrap(),
        &|| {
            let mut bytes = std::fs::read(&segment).unwrap();
            bytes[40] ^= 1;
            std::fs::write(&segment, bytes).unwrap();
        },
        &|| {
            let bytes = std::fs::read(&segment).unwrap();
            std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
        },
        &|| std::fs::write(dir.join("topic.json"), older.as_ref().unwrap_or(&newest)).unwrap(),
    ];
    for harm in harm {
        harm();
        let log = topic.open().unwrap();
        assert_holds(&log, 61);
        assert_eq!(log.reader().root(60).unwrap(), checkpoint.checkpoint().root);
        assert!(!dir.join("segments.before").exists());
    }
}

#[test]
fn a_broker_that_is_away_is_told_in_time_and_no_secret_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options("127.0.0.1:9", "writ");
    options.patience = Duration::from_secs(1);
    options.secrets.insert("sasl.password".to_owned(), Zeroizing::new("hunter2".to_owned()));
    let started = Instant::now();
    let refused = refusal(KafkaLog::open(dir.path(), signer(), &options));
    assert!(refused.contains("127.0.0.1:9") && !refused.contains("hunter2"), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(20));
    options.secrets.insert("ssl.key.password".to_owned(), Zeroizing::new("hunter2".to_owned()));
    options.properties.insert("security.protocol".to_owned(), "nonsense-hunter2".to_owned());
    let refused = refusal(KafkaLog::open(dir.path(), signer(), &options));
    assert!(refused.contains("security.protocol") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn a_topic_that_was_made_anew_and_holds_more_than_before_is_noticed_while_running() {
    for is_leader in [true, false] {
        let topic = Topic::new();
        let mut log = filled(&topic, 12);
        let mut follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
        delete_topic(&topic.options);
        std::thread::sleep(Duration::from_secs(1));
        let mut anew = KafkaLog::create(&topic.other("new"), signer(), &topic.options).unwrap();
        for seq in 0..40 {
            anew.append(&[record(seq)]).unwrap();
        }
        let noticed = if is_leader {
            // Whoever writes the new one has shut it out: what became of the commit is known once it has looked again.
            log.append(&records(12..13)).unwrap_err();
            log.lead().unwrap_err().to_string()
        } else {
            follower.catch_up().unwrap_err().to_string()
        };
        assert!(noticed.contains("made anew"), "leader {is_leader}: {noticed}");
        assert_holds(&log, 12);
        assert_holds(&follower, 12);
    }
}

#[test]
fn a_topic_is_reached_by_tls_with_a_password_and_never_without() {
    let broker = super::shared();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let authority = broker.authority();
        let mut topic = Topic::at(&broker.secure_address());
        let properties = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", writ_test_kafka::USER),
            ("ssl.ca.location", authority.to_str().unwrap()),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        topic.options.properties.extend(properties);
        let password = |text: &str| ("sasl.password".to_owned(), Zeroizing::new(text.to_owned()));
        topic.options.secrets.extend([password(writ_test_kafka::PASSWORD)]);
        let mut log = filled(&topic, 20);
        log.append(&records(20..25)).unwrap();
        drop(log);
        assert_holds(&topic.open().unwrap(), 25);

        topic.options.patience = Duration::from_secs(2);
        topic.options.secrets.extend([password("hunter2")]);
        let refused = refusal(topic.open());
        assert!(refused.to_lowercase().contains("authentication"), "{mechanism}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
        topic.options.secrets.extend([password(writ_test_kafka::PASSWORD)]);
        // Whoever cannot be recognised gets no password.
        topic.options.properties.remove("ssl.ca.location");
        let refused = refusal(topic.open());
        assert!(refused.to_lowercase().contains("certificate"), "{mechanism}: {refused}");
    }
}
