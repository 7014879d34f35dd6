//! Acknowledged appends through Kafka, beside the same appends to files, in one run.
//!
//! ```sh
//! cargo bench -p writ-ledger --features kafka --bench kafka
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails, fails")]

use std::time::{Duration, Instant};

use writ_ledger::store::kafka::{KafkaLog, KafkaOptions};
use writ_ledger::{FileLog, Log, Signer, SigningKey};
use writ_test_kafka::Broker;

/// How long one size of commit is measured on one store.
const LENGTH: Duration = Duration::from_secs(2);

/// A record like those of a network: a connection's authorization has about this many bytes.
const RECORD_BYTES: usize = 300;

fn main() {
    // `cargo test` runs benchmarks too: then there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let broker = Broker::start().unwrap();
    let options = KafkaOptions::new(vec![broker.address()], "bench");
    let folder = tempfile::tempdir().unwrap();
    let mut files = FileLog::create(&folder.path().join("files"), signer()).unwrap();
    let mut kafka = KafkaLog::create(&folder.path().join("kafka"), signer(), &options).unwrap();
    for batch in [1, 64, 256, 1024] {
        let beside = measure(&mut files, batch);
        let measured = measure(&mut kafka, batch);
        println!("figure files_records_{batch} {:.0} records/s", beside.records_per_second);
        println!("figure kafka_records_{batch} {:.0} records/s", measured.records_per_second);
        println!("figure kafka_commit_{batch}_p50 {:.2} ms", measured.p50_ms);
        println!("figure kafka_commit_{batch}_p99 {:.2} ms", measured.p99_ms);
        let ratio = measured.records_per_second / beside.records_per_second;
        println!("figure kafka_vs_files_{batch} {ratio:.2} x");
    }
    drop(kafka);
    let started = Instant::now();
    let follower = KafkaLog::follow(&folder.path().join("follower"), signer(), &options).unwrap();
    let rate = follower.size() as f64 / started.elapsed().as_secs_f64();
    println!("figure kafka_fold_from_the_beginning {rate:.0} records/s");
    let size = follower.size();
    drop(follower);
    let started = Instant::now();
    let follower = KafkaLog::follow(&folder.path().join("follower"), signer(), &options).unwrap();
    println!("figure kafka_open_of_{size}_records {:.2} s", started.elapsed().as_secs_f64());
    drop(follower);
}

fn signer() -> Box<dyn Signer> {
    Box::new(SigningKey::from_seed("writ.example/log", [7; 32]).unwrap())
}

struct Measured {
    records_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn measure(log: &mut Log, batch: usize) -> Measured {
    let filler = "x".repeat(RECORD_BYTES - 20);
    let records: Vec<String> = (0..batch).map(|n| format!("{{\"n\":{n},\"x\":\"{filler}\"}}")).collect();
    log.append(&records).unwrap();
    let (mut times, started) = (Vec::new(), Instant::now());
    while started.elapsed() < LENGTH {
        let before = Instant::now();
        log.append(&records).unwrap();
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    let records_per_second = (times.len() * batch) as f64 / started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Measured { records_per_second, p50_ms: at(0.5), p99_ms: at(0.99) }
}
