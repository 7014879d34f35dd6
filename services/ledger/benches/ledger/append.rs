//! Durable appends, beside a plain file that gets the same bytes and is synced as often.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use writ_ledger::FileLog;
use writ_ledger::store::{Options, Sealing};

use crate::events::Events;
use crate::{Timing, figure, signer};

/// Records per commit, and the most commits that are made of them.
pub const BATCHES: [(usize, usize); 4] = [(1, 3000), (64, 1500), (256, 800), (1024, 300)];

/// Commits in a row from the log and then as many from the file, in turns, so that a neighbour's load meets both.
const TURNS: usize = 5;

/// Records per second of the log for each batch size, to set others beside.
pub struct Rates(pub Vec<(usize, f64)>);

/// Measures, and prints if asked to.
pub fn run(folder: &Path, is_printed: bool) -> Rates {
    let mut rates = Vec::new();
    for (batch, most) in BATCHES {
        let commits = most / TURNS;
        let mut events = Events::new(batch as u64);
        let (mut log_times, mut file_times) = (Vec::new(), Vec::new());
        let options = Options { sealing: Sealing::Off, ..Options::default() };
        let mut log = FileLog::create_with(&folder.join(format!("log-{batch}")), signer(), options).unwrap();
        let file = File::create(folder.join(format!("file-{batch}"))).unwrap();
        let mut offset = 0;
        for _ in 0..TURNS {
            let batches: Vec<Vec<Vec<u8>>> = (0..commits).map(|_| events.batch(batch)).collect();
            let lines: Vec<Vec<u8>> = batches.iter().map(|records| lines(records)).collect();
            file_times.push(Timing::of(commits, |at| {
                file.write_all_at(&lines[at], offset).unwrap();
                file.sync_data().unwrap();
                offset += lines[at].len() as u64;
            }));
            log_times.push(Timing::of(commits, |at| {
                log.append(&batches[at]).unwrap();
            }));
        }
        let (log, file) = (joined(log_times), joined(file_times));
        rates.push((batch, log.per_second(batch)));
        if is_printed {
            report(batch, &log, &file);
        }
    }
    Rates(rates)
}

fn report(batch: usize, log: &Timing, file: &Timing) {
    let name = |what: &str| format!("append.{batch}.{what}");
    for (who, timing) in [("log", log), ("file", file)] {
        figure(&name(&format!("{who}.rate")), timing.per_second(batch), "records/s");
        figure(&name(&format!("{who}.p50")), timing.percentile(50), "us");
        figure(&name(&format!("{who}.p99")), timing.percentile(99), "us");
    }
    figure(&name("rate_to_file"), log.per_second(batch) / file.per_second(batch), "x");
    figure(&name("p50_to_file"), log.percentile(50) / file.percentile(50), "x");
}

fn joined(parts: Vec<Timing>) -> Timing {
    let total = parts.iter().map(|part| part.total).sum();
    let mut each: Vec<_> = parts.into_iter().flat_map(|part| part.each).collect();
    each.sort();
    Timing { each, total }
}

/// A commit as it stands in a segment.
pub fn lines(records: &[Vec<u8>]) -> Vec<u8> {
    let mut lines = records.join(&b'\n');
    lines.extend(b"\n\n");
    lines
}
