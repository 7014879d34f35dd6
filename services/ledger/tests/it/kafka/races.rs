//! Several processes that all want to write one topic: killed, paused, and disturbed by others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use writ_ledger::store::StoreError;
use writ_ledger::store::fold::{Fold, Verdict};
use writ_ledger::store::kafka::{KafkaLog, KafkaOptions};
use writ_ledger::{AppendError, Log, SignedCheckpoint, leaf_hash, tree::MemoryTree};

use super::broker::{Stranger, all, messages};
use super::{Place, Topic, options};
use crate::{key, signer};

const CHILD: &str = "WRIT_LEDGER_TEST_KAFKA_WRITER";
const SEED: &str = "WRIT_LEDGER_TEST_KAFKA_SEED";

#[test]
fn two_writers_that_are_killed_and_paused_make_one_log() {
    race(2, Duration::from_secs(12));
}

#[test]
fn three_writers_that_are_killed_and_paused_make_one_log() {
    race(3, Duration::from_secs(12));
}

/// Not a test by itself: a process that fights for the topic, and writes down what it was acknowledged.
#[test]
fn child_that_writes_until_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [address, topic, dir, name] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
    let mut options = options(address, topic);
    options.patience = Duration::from_secs(3);
    name.clone_into(&mut options.name);
    let mut log = loop {
        match KafkaLog::follow(Path::new(dir), signer(), &options) {
            Ok(log) => break log,
            Err(error) => eprintln!("{name}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let mut acknowledged = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(Path::new(dir).join("acknowledged"))
        .unwrap();
    let (mut seen, mut next, mut random) = (0, 0, Random(u64::from(std::process::id())));
    loop {
        if let Err(error) = log.lead() {
            eprintln!("{name}: cannot lead: {error}");
            std::thread::sleep(Duration::from_millis(random.below(200)));
            continue;
        }
        // What became of a commit whose outcome was unknown stands in the log.
        (seen, next) = (log.size(), next + own_records(&log, seen, name));
        loop {
            let count = 1 + random.below(5);
            let commit: Vec<String> =
                (next..next + count).map(|n| format!("{{\"by\":\"{name}\",\"n\":{n}}}")).collect();
            match log.append(&commit) {
                Ok(done) => {
                    writeln!(acknowledged, "{name} {} {next} {count}", done.first).unwrap();
                    (seen, next) = (done.size, next + count);
                }
                Err(error) => {
                    eprintln!("{name}: {error}");
                    if matches!(error, AppendError::Store(StoreError::Deposed { .. })) {
                        std::thread::sleep(Duration::from_millis(100 + random.below(400)));
                    }
                    break;
                }
            }
        }
    }
}

/// How many records from `from` on are of this writer.
fn own_records(log: &Log, from: u64, name: &str) -> u64 {
    let by = format!("{{\"by\":\"{name}\"");
    let records = log.reader().read_range(from..log.size()).map(|record| record.unwrap().1);
    records.filter(|record| record.starts_with(by.as_bytes())).count() as u64
}

struct Writer {
    name: String,
    dir: PathBuf,
    child: Child,
}

impl Writer {
    /// A process killed before goes on in its folder, under a new name, since it does not know how far it came.
    fn start(topic: &Topic, slot: usize, life: usize) -> Self {
        let (name, dir) = (format!("writer-{slot}-{life}"), topic.other(&format!("slot-{slot}")));
        std::fs::create_dir_all(&dir).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("stderr")).unwrap();
        let KafkaOptions { brokers, topic, .. } = &topic.options;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kafka::races::child_that_writes_until_killed", "--nocapture"])
            .env(CHILD, format!("{}|{topic}|{}|{name}", brokers[0], dir.display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { name, dir, child }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn race(writers: usize, length: Duration) {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 ^ u64::from(std::process::id())
    });
    println!("{SEED}={seed}");
    let mut random = Random(seed | 1);
    let topic = Topic::new();
    drop(topic.create());
    let mut running: Vec<Writer> = (0..writers).map(|slot| Writer::start(&topic, slot, 0)).collect();
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    let (stranger, end, mut life) = (Stranger::new(&topic.options), Instant::now() + length, 0);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100 + random.below(500)));
        let slot = random.below(writers as u64) as usize;
        match random.below(6) {
            0 => {
                running[slot].kill();
                names.insert(running[slot].name.clone(), running[slot].dir.clone());
                life += 1;
                running[slot] = Writer::start(&topic, slot, life);
            }
            1 | 2 => {
                running[slot].signal(Signal::SIGSTOP);
                std::thread::sleep(Duration::from_millis(random.below(1500)));
                running[slot].signal(Signal::SIGCONT);
            }
            3 => stranger.write(&random.bytes()),
            _ => {
                // Retries that were thought lost, batches of writers that were shut out, openings of old epochs.
                let known = all(&topic.options);
                for _ in 0..random.below(20) {
                    stranger.write(&known[random.below(known.len() as u64) as usize]);
                }
            }
        }
    }
    for mut writer in running {
        writer.kill();
        names.insert(writer.name.clone(), writer.dir.clone());
    }
    judge(&topic, &names);
}

/// All readers agree to the byte; what was acknowledged is there, at its place, once; every checkpoint is of the one tree.
fn judge(topic: &Topic, names: &BTreeMap<String, PathBuf>) {
    // What a killed process had sent may still be on its way.
    std::thread::sleep(Duration::from_millis(500));
    let follower = KafkaLog::follow(&topic.other("follower"), signer(), &topic.options).unwrap();
    let log: Vec<Vec<u8>> =
        follower.reader().read_range(0..u64::MAX).map(|record| record.unwrap().1).collect();
    let (mut fold, mut folded) = (Fold::new(), Vec::new());
    let entries = all(&topic.options);
    for entry in &entries {
        if let Verdict::Continued(records) = fold.apply(entry).unwrap() {
            folded.extend(records.into_iter().map(<[u8]>::to_vec));
        }
    }
    assert!(folded == log, "a reader of the bare topic and a follower differ");
    let mut tree = MemoryTree::new();
    log.iter().for_each(|record| tree.push(leaf_hash(record)));
    assert_eq!(follower.reader().root(follower.size()).unwrap(), tree.root());
    assert_eq!(fold.frontier().root(), tree.root());
    assert_eq!(log.iter().collect::<BTreeSet<_>>().len(), log.len(), "a record is there twice");
    let committed = messages(&topic.options, 0, "read_committed").len();
    println!(
        "{} records, {} epochs, {} of {} entries ignored, {} not in a committed transaction",
        log.len(),
        fold.epoch(),
        fold.ignored_entries(),
        entries.len(),
        entries.len() - committed
    );
    assert!(fold.epoch().0 > 3 && log.len() > 20, "nobody fought");
    let mut acknowledgements = 0;
    for dir in names.values().collect::<BTreeSet<_>>() {
        let lines = std::fs::read_to_string(dir.join("acknowledged")).unwrap_or_default();
        acknowledgements += lines.lines().count();
        let copy = KafkaLog::follow(dir, signer(), &topic.options).unwrap();
        let copied: Vec<Vec<u8>> =
            copy.reader().read_range(0..u64::MAX).map(|record| record.unwrap().1).collect();
        assert!(copied == log, "{} differs", dir.display());
        let text = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
        let shown = SignedCheckpoint::open(&text, &key()).unwrap();
        assert_eq!(follower.reader().root(shown.checkpoint().size).unwrap(), shown.checkpoint().root);
        for line in lines.lines() {
            let [name, first, n, count] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let [first, n, count] = [first, n, count].map(|number| number.parse::<u64>().unwrap());
            for at in 0..count {
                let expected = format!("{{\"by\":\"{name}\",\"n\":{}}}", n + at);
                assert_eq!(String::from_utf8_lossy(&log[(first + at) as usize]), expected, "{line}");
            }
        }
    }
    assert!(acknowledgements > 10, "nothing was acknowledged");
    println!("{acknowledgements} commits acknowledged");
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(200)).map(|_| self.next() as u8).collect()
    }
}
