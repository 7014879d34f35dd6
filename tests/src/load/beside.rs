//! What the same disk does with nothing of ours on it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::figure::Figure;

/// About what the record of a join takes.
const RECORD_BYTES: usize = 1024;

const TIME: Duration = Duration::from_millis(700);

/// Appends to a plain file, each made durable before the next: what a log that does one thing at a time can at most do.
pub(super) fn durable_appends(directory: &Path) -> anyhow::Result<Figure> {
    let path = directory.join("plain");
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let record = [b'.'; RECORD_BYTES];
    let start = Instant::now();
    let mut count = 0_usize;
    while start.elapsed() < TIME {
        file.write_all(&record).and_then(|()| file.sync_data()).context("the disk does not take appends")?;
        count = count.saturating_add(1);
    }
    let took = start.elapsed();
    std::fs::remove_file(&path).context("the plain file cannot be removed")?;
    Ok(Figure::rate("plain_durable_appends_per_second", count, took))
}
