//! What a long history costs: bytes on disk, reading it back, proving, opening.

use std::path::Path;
use std::time::Instant;

use writ_ledger::store::{Options, Sealing, check_record};
use writ_ledger::tree::Frontier;
use writ_ledger::{FileLog, Log, Reader, leaf_hash, verify_log};
use writ_schema::Record;

use crate::events::{Events, Random};
use crate::{Timing, figure, signer};

pub fn run(folder: &Path, records: u64, is_wanted: &dyn Fn(&str) -> bool) {
    let dir = folder.join("history");
    let log = make(&dir, records);
    if is_wanted("sealed") {
        sealed(&dir, log.reader());
    }
    if is_wanted("replay") {
        replay(&dir, log.reader());
    }
    if is_wanted("proofs") {
        proofs(log.reader());
    }
    drop(log);
    if is_wanted("open") {
        open(&dir, records);
    }
}

/// A log whose full segments are sealed.
fn make(dir: &Path, records: u64) -> Log {
    let options = Options {
        sealing: Sealing::WhileAppending,
        checkpoint_interval: std::time::Duration::ZERO,
        ..Options::default()
    };
    let mut log = FileLog::create_with(dir, signer(), options).unwrap();
    let mut events = Events::new(1);
    let started = Instant::now();
    while log.size() < records {
        let batch = events.batch((records - log.size()).min(4096) as usize);
        log.append(&batch).unwrap();
    }
    figure("history.records", records as f64, "records");
    figure("history.made_in", started.elapsed().as_secs_f64(), "s");
    log
}

fn sealed(dir: &Path, reader: &Reader) {
    let (mut stored, mut held, mut records) = (0, 0, 0);
    let mut names: Vec<_> =
        std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let first = |name: &str| name[..20].parse::<u64>().unwrap();
    let firsts: Vec<u64> = names.iter().map(|entry| first(entry.file_name().to_str().unwrap())).collect();
    for entry in &names {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".zst") {
            stored += entry.metadata().unwrap().len();
            let begin = first(&name);
            let end = *firsts.iter().find(|other| **other > begin).unwrap();
            records += end - begin;
            held +=
                reader.read_range(begin..end).map(|record| record.unwrap().1.len() as u64 + 1).sum::<u64>();
        }
    }
    if records == 0 {
        println!("sealed: no segment was full; set WRIT_BENCH_RECORDS higher");
        return;
    }
    figure("sealed.bytes_per_record", stored as f64 / records as f64, "B");
    figure("sealed.plain_bytes_per_record", held as f64 / records as f64, "B");
    figure("sealed.entropy_per_record", entropy(reader), "B");
    figure("tiles.bytes_per_record", 32.0 * 257.0 / 256.0, "B");
    let mut random = Random::new(3);
    let timing = Timing::of(2000, |_| {
        reader.read(random.next() % records).unwrap();
    });
    figure("sealed.read_one.p50", timing.percentile(50), "us");
    figure("sealed.read_one.p99", timing.percentile(99), "us");
    figure("index.bytes_per_record", reader.index_bytes() as f64 / reader.size() as f64, "B");
}

/// What no compression can save: the random bits of each record, as far as they are not a repeat of an earlier one. Times and
/// counters, whose entropy depends on the model of them, are left out.
fn entropy(reader: &Reader) -> f64 {
    use writ_schema::Event::{ConnectionAuthorized, KeyRotated};
    let sample = reader.size().min(100_000);
    let bytes: usize = reader
        .read_range(0..sample)
        .map(|entry| {
            let (_, bytes) = entry.unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            let sealed =
                text.split_once("\"box\":\"").map_or(0, |(_, rest)| rest.split_once('"').unwrap().0.len());
            // The command's id and its digest are in every record, salt and reference to a key in those with a sealed field.
            let of_kind = match Record::decode(&bytes).unwrap().event {
                ConnectionAuthorized(_) => 16,
                KeyRotated(_) => 32 + 64,
                _ => 0,
            };
            let of_seal = if sealed > 0 { 12 + 8 + sealed * 3 / 4 } else { 0 };
            16 + 8 + of_kind + of_seal
        })
        .sum();
    bytes as f64 / sample as f64
}

fn replay(dir: &Path, reader: &Reader) {
    let size = reader.size();
    let mut total = 0;
    let rate = |name: &str, per_second: f64| figure(&format!("replay.{name}"), per_second, "records/s");

    let started = Instant::now();
    for entry in std::fs::read_dir(dir.join("segments")).unwrap() {
        total += std::fs::read(entry.unwrap().path()).unwrap().len();
    }
    assert!(total > 0);
    let plain_file = size as f64 / started.elapsed().as_secs_f64();
    rate("plain_file", plain_file);

    let records: Vec<Vec<u8>> =
        reader.read_range(0..size.min(200_000)).map(|entry| entry.unwrap().1).collect();
    let mut frontier = Frontier::new();
    alone("hash_only", &records, |record| frontier.push(leaf_hash(record)));
    alone("check_only", &records, |record| check_record(record).unwrap());
    alone("decode_only", &records, |record| drop(Record::decode(record).unwrap()));

    let root = reader.checkpoint().checkpoint().root;
    let decode = |_: u64, bytes: &[u8]| Record::decode(bytes).map(|record| record.seq.0);
    let mut one_core = 0.0;
    for threads in [1, std::thread::available_parallelism().map_or(1, usize::from)] {
        let (started, started_on_cpu) = (Instant::now(), on_cpu());
        let mut next = 0;
        let counted = reader.replay(0..size, threads, decode, |decoded| {
            assert_eq!(decoded.unwrap(), next);
            next += 1;
            Ok::<(), writ_ledger::ReadError>(())
        });
        counted.unwrap();
        assert_eq!(next, size);
        let per_second = size as f64 / started.elapsed().as_secs_f64();
        rate(&format!("verified.{threads}"), per_second);
        if threads == 1 {
            rate("verified.per_core", size as f64 / (on_cpu() - started_on_cpu));
        }
        figure(&format!("replay.verified.{threads}.to_plain_file"), per_second / plain_file, "x");
        if threads == 1 {
            one_core = per_second;
        } else {
            figure("replay.verified.cores_to_one", per_second / one_core, "x");
        }
    }
    let started = Instant::now();
    let report = verify_log(dir, &signer().verifier_key()).unwrap();
    assert!(report.is_sound() && report.checkpoint.unwrap().root == root);
    rate("verify_log", size as f64 / started.elapsed().as_secs_f64());
}

/// Seconds for which this thread was on a processor: what it needs of one, however busy the machine is.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// One part of what a replay does, on records that are in memory.
fn alone(name: &str, records: &[Vec<u8>], mut action: impl FnMut(&[u8])) {
    let bytes: usize = records.iter().map(Vec::len).sum();
    let started = on_cpu();
    records.iter().for_each(|record| action(record));
    let seconds = on_cpu() - started;
    figure(&format!("replay.{name}.per_core"), records.len() as f64 / seconds, "records/s");
    figure(&format!("replay.{name}.per_core.bytes"), bytes as f64 / seconds / 1e6, "MB/s");
}

fn proofs(reader: &Reader) {
    let size = reader.size();
    let (root, mut random) = (reader.root(size).unwrap(), Random::new(4));
    let wanted: Vec<u64> = (0..2000).map(|_| random.next() % size).collect();
    let mut made = Vec::new();
    let timing = Timing::of(wanted.len(), |at| made.push(reader.inclusion(wanted[at], size).unwrap()));
    figure("proof.inclusion.make.p50", timing.percentile(50), "us");
    let leaves: Vec<_> = wanted.iter().map(|seq| leaf_hash(&reader.read(*seq).unwrap())).collect();
    let timing = Timing::of(made.len(), |at| made[at].verify(&leaves[at], &root).unwrap());
    figure("proof.inclusion.check.p50", timing.percentile(50), "us");
    let timing = Timing::of(wanted.len(), |at| drop(reader.consistency(wanted[at].max(1), size).unwrap()));
    figure("proof.consistency.make.p50", timing.percentile(50), "us");
}

fn open(dir: &Path, records: u64) {
    let timing = Timing::of(5, |_| drop(FileLog::open(dir, signer()).unwrap()));
    figure(&format!("open.{records}.p50"), timing.percentile(50) / 1e3, "ms");
    let key = signer().verifier_key();
    let timing = Timing::of(5, |_| drop(FileLog::open_read_only(dir, &key).unwrap()));
    figure(&format!("open.{records}.read_only.p50"), timing.percentile(50) / 1e3, "ms");
}
