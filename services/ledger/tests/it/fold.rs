//! The rule by which a topic is folded, over thousands of generated histories.

use proptest::collection::vec;
use proptest::prelude::*;
use writ_ledger::store::Batch;
use writ_ledger::store::entry::{BatchHead, Epoch, LogId, Open, WriterId};
use writ_ledger::store::fold::{Fold, Reason, UnknownVersion, Verdict};
use writ_ledger::tree::MemoryTree;
use writ_ledger::{Hash, leaf_hash};

use super::ORIGIN;

const LOG: LogId = LogId([1; 16]);

fn open(epoch: u64, writer: u8) -> Vec<u8> {
    open_of(LOG, epoch, writer)
}

fn open_of(log: LogId, epoch: u64, writer: u8) -> Vec<u8> {
    let (origin, root) = (ORIGIN.to_owned(), MemoryTree::new().root());
    let (writer, name) = (WriterId([writer; 16]), format!("writer {writer}"));
    Open { log, epoch: Epoch(epoch), writer, name, origin, size: 0, root }.encode()
}

fn batch(epoch: u64, first: u64, previous_root: Hash, records: &[String]) -> Vec<u8> {
    let records: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
    let batch = Batch { first, previous_root, records: &records };
    BatchHead::of(&batch, LOG, Epoch(epoch)).encode(&records)
}

/// The entries of a topic.
type Topic = Vec<Vec<u8>>;

/// What one of several writers does next, each believing what it last saw.
#[derive(Debug, Clone)]
enum Act {
    /// It reads all that is in the topic.
    Read { writer: usize },
    /// It announces itself with the epoch after the one that it believes in, plus some.
    Open { writer: usize, step: u64 },
    /// It writes a batch after what it believes the log to be.
    Append { writer: usize, count: usize },
    /// It writes an entry again that is in the topic already: a retry that was thought lost, or an aborted batch that
    /// a broker lets through.
    Repeat { entry: usize },
    /// An entry with a byte changed.
    Spoil { entry: usize, at: usize, bit: u8 },
    /// Something that has nothing to do with the log.
    Garbage { bytes: Vec<u8> },
    /// An entry of another log.
    OtherLog { epoch: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let writer = 0..3_usize;
    prop_oneof![
        3 => writer.clone().prop_map(|writer| Act::Read { writer }),
        2 => (writer.clone(), 0..3_u64).prop_map(|(writer, step)| Act::Open { writer, step }),
        6 => (writer, 1..4_usize).prop_map(|(writer, count)| Act::Append { writer, count }),
        2 => any::<usize>().prop_map(|entry| Act::Repeat { entry }),
        1 => any::<(usize, usize, u8)>().prop_map(|(entry, at, bit)| Act::Spoil { entry, at, bit: bit % 8 }),
        1 => vec(any::<u8>(), 0..40).prop_map(|bytes| Act::Garbage { bytes }),
        1 => (0..9_u64).prop_map(|epoch| Act::OtherLog { epoch }),
    ]
}

/// What a writer believes.
#[derive(Default, Clone)]
struct Belief {
    read: usize,
    fold: Fold,
    /// The epoch that it opened last.
    epoch: u64,
}

/// Plays the acts. Returns the topic, and the records of every batch that its writer saw accepted, at their place.
fn play(acts: &[Act]) -> (Topic, Vec<(u64, Vec<String>)>) {
    let (mut topic, mut writers): (Topic, _) = (Vec::new(), vec![Belief::default(); 3]);
    let (mut acknowledged, mut named) = (Vec::new(), 0);
    for act in acts {
        match act {
            Act::Read { writer } => read(&mut writers[*writer], &topic),
            Act::Open { writer, step } => {
                let belief = &mut writers[*writer];
                belief.epoch = belief.fold.epoch().0 + step;
                topic.push(open(belief.epoch, *writer as u8));
            }
            Act::Append { writer, count } => {
                let belief = &mut writers[*writer];
                let records: Vec<String> = (0..*count).map(|n| format!("{{\"n\":{}}}", named + n)).collect();
                named += count;
                let first = belief.fold.frontier().size();
                topic.push(batch(belief.epoch, first, belief.fold.frontier().root(), &records));
                // It is acknowledged by reading it back.
                let accepted = read_back(belief, &topic);
                if accepted {
                    acknowledged.push((first, records));
                }
            }
            Act::Repeat { entry } if !topic.is_empty() => topic.push(topic[entry % topic.len()].clone()),
            Act::Spoil { entry, at, bit } if !topic.is_empty() => {
                let mut spoiled = topic[entry % topic.len()].clone();
                if let Some(byte) = at.checked_rem(spoiled.len()).and_then(|at| spoiled.get_mut(at)) {
                    *byte ^= 1 << bit;
                }
                // A version that is not known stops every reader: that has a test of its own.
                if Fold::new().apply(&spoiled).is_ok() {
                    topic.push(spoiled);
                }
            }
            Act::Repeat { .. } | Act::Spoil { .. } => {}
            Act::Garbage { bytes } => topic.push(bytes.clone()),
            Act::OtherLog { epoch } => topic.push(open_of(LogId([2; 16]), *epoch, 9)),
        }
    }
    (topic, acknowledged)
}

fn read(belief: &mut Belief, topic: &[Vec<u8>]) {
    for entry in &topic[belief.read..] {
        belief.fold.apply(entry).unwrap();
    }
    belief.read = topic.len();
}

fn read_back(belief: &mut Belief, topic: &[Vec<u8>]) -> bool {
    let before = topic.len() - 1;
    for entry in &topic[belief.read..before] {
        belief.fold.apply(entry).unwrap();
    }
    belief.read = topic.len();
    matches!(belief.fold.apply(&topic[before]).unwrap(), Verdict::Continued(_))
}

/// The log of a topic by a second, plainer telling of the rule.
fn by_the_book(topic: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut log, mut epoch, mut of): (Vec<Vec<u8>>, u64, Option<String>) = (Vec::new(), 0, None);
    for entry in topic {
        let Ok(text) = std::str::from_utf8(entry) else { continue };
        let Some(lines) = text.strip_suffix('\n') else { continue };
        let mut lines = lines.split('\n');
        let head: serde_json::Value =
            serde_json::from_str(lines.next().unwrap_or_default()).unwrap_or_default();
        let records: Vec<&str> = lines.collect();
        if head["v"] != 1 {
            continue;
        }
        let (Some(id), Some(its_epoch)) = (head["log"].as_str(), head["epoch"].as_u64()) else { continue };
        match head["entry"].as_str() {
            Some("open")
                if its_epoch > epoch
                    && records.is_empty()
                    && of.as_deref().is_none_or(|of| of == id && head["origin"] == ORIGIN) =>
            {
                (epoch, of) = (its_epoch, Some(id.to_owned()));
            }
            Some("batch") if its_epoch == epoch && of.as_deref() == Some(id) => {
                let mut tree = MemoryTree::new();
                log.iter().for_each(|record| tree.push(leaf_hash(record)));
                let continues =
                    head["first"] == log.len() && head["previous_root"] == tree.root().to_string();
                let whole = head["count"] == records.len()
                    && !records.is_empty()
                    && records
                        .iter()
                        .all(|r| r.starts_with('{') && serde_json::from_str::<serde_json::Value>(r).is_ok());
                if continues && whole {
                    log.extend(records.iter().map(|record| record.as_bytes().to_vec()));
                }
            }
            _ => {}
        }
    }
    log
}

fn folded(topic: &[Vec<u8>]) -> (Fold, Vec<Vec<u8>>) {
    let (mut fold, mut log) = (Fold::new(), Vec::new());
    for entry in topic {
        if let Verdict::Continued(records) = fold.apply(entry).unwrap() {
            log.extend(records.into_iter().map(<[u8]>::to_vec));
        }
    }
    (fold, log)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_arrives_at_one_log_that_holds_what_was_acknowledged_once(acts in vec(act(), 1..60)) {
        let (topic, acknowledged) = play(&acts);
        let (fold, log) = folded(&topic);
        prop_assert_eq!(&log, &by_the_book(&topic));
        let mut tree = MemoryTree::new();
        log.iter().for_each(|record| tree.push(leaf_hash(record)));
        prop_assert_eq!((fold.frontier().size(), fold.frontier().root()), (tree.size(), tree.root()));
        for (first, records) in acknowledged {
            for (at, record) in (first..).zip(records) {
                prop_assert_eq!(log.get(at as usize).map(Vec::as_slice), Some(record.as_bytes()));
                prop_assert_eq!(log.iter().filter(|other| *other == record.as_bytes()).count(), 1);
            }
        }
    }

    #[test]
    fn a_fold_that_is_resumed_anywhere_goes_on_as_if_it_had_not_stopped(acts in vec(act(), 1..60), at in any::<usize>()) {
        let (topic, _) = play(&acts);
        let (before, after) = topic.split_at(at % (topic.len() + 1));
        let (stopped, _) = folded(before);
        let whole = folded(&topic).0;
        let Some(current) = stopped.current().cloned() else { return Ok(()) };
        let mut resumed = Fold::resume(current, stopped.frontier().clone());
        after.iter().for_each(|entry| drop(resumed.apply(entry).unwrap()));
        prop_assert_eq!((resumed.current(), resumed.frontier()), (whole.current(), whole.frontier()));
        let ignored = stopped.ignored_entries() + resumed.ignored_entries();
        prop_assert_eq!(ignored, whole.ignored_entries());
    }
}

#[test]
fn each_reason_to_ignore_an_entry_is_told_apart() {
    let mut fold = Fold::new();
    let root = |fold: &Fold| fold.frontier().root();
    let empty = root(&fold);
    let one = ["{}".to_owned()];
    let judged = |fold: &mut Fold, entry: &[u8]| match fold.apply(entry).unwrap() {
        Verdict::Ignored(reason) => Some(reason),
        Verdict::Opened | Verdict::Continued(_) => None,
    };
    assert_eq!(
        judged(&mut fold, &batch(1, 0, empty, &one)),
        Some(Reason::OtherLog),
        "nobody has opened the log"
    );
    assert_eq!(judged(&mut fold, &open(0, 1)), Some(Reason::OldEpoch));
    assert_eq!(judged(&mut fold, &open(1 << 33, 1)), Some(Reason::UnopenedEpoch));
    assert_eq!(judged(&mut fold, &open(3, 1)), None);
    assert_eq!(judged(&mut fold, &open(3, 2)), Some(Reason::OldEpoch), "the first to open an epoch has it");
    assert_eq!(judged(&mut fold, &batch(2, 0, empty, &one)), Some(Reason::OldEpoch));
    assert_eq!(judged(&mut fold, &batch(4, 0, empty, &one)), Some(Reason::UnopenedEpoch));
    assert_eq!(judged(&mut fold, &batch(3, 1, empty, &one)), Some(Reason::OtherSize));
    assert_eq!(judged(&mut fold, &batch(3, 0, leaf_hash(b"x"), &one)), Some(Reason::OtherRoot));
    assert_eq!(judged(&mut fold, &open_of(LogId([2; 16]), 4, 1)), Some(Reason::OtherLog));
    let whole = batch(3, 0, empty, &one);
    assert_eq!(judged(&mut fold, &whole[..whole.len() - 1]), Some(Reason::Malformed));
    assert_eq!(judged(&mut fold, &batch(3, 0, empty, &[])), Some(Reason::Malformed));
    assert_eq!(judged(&mut fold, &batch(3, 0, empty, &["[]".to_owned()])), Some(Reason::Malformed));
    assert_eq!(judged(&mut fold, b""), Some(Reason::Malformed));
    assert_eq!(judged(&mut fold, &whole), None);
    assert_eq!(judged(&mut fold, &whole), Some(Reason::OtherSize), "a retry that was thought lost");
    assert_eq!(fold.ignored_entries(), 14);
    assert_eq!(fold.ignored(Reason::Malformed), 4);
    assert_eq!(fold.current().map(|current| current.name.as_str()), Some("writer 1"));
}

#[test]
fn an_entry_of_a_newer_version_stops_a_reader_that_cannot_judge_it() {
    let mut fold = Fold::new();
    fold.apply(&open(1, 1)).unwrap();
    let newer =
        |entry: &[u8]| String::from_utf8(entry.to_vec()).unwrap().replace("\"v\":1", "\"v\":2").into_bytes();
    assert_eq!(fold.apply(&newer(&open(2, 1))), Err(UnknownVersion { version: 2 }));
    assert_eq!(fold.apply(&newer(&open_of(LogId([2; 16]), 2, 1))), Ok(Verdict::Ignored(Reason::OtherLog)));
}
