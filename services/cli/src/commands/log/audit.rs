//! Checking a log tile by tile against its signed checkpoint, without trusting whoever serves the tiles.

use std::fmt;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use serde::Serialize;
use writ_ledger::tile::{TILE_WIDTH, TileKind, TilePath, decode_entries};
use writ_ledger::tree::{Frontier, HASH_BYTES};
use writ_ledger::{Checkpoint, Hash, VerifierKey, leaf_hash};
use writ_schema::{DecodeError, Event, Record};

/// The most findings that are listed one by one.
const MAX_FINDINGS: usize = 100;

/// Where tiles come from.
pub trait Tiles {
    /// The bytes of a tile; `None` if there is none, or if its reader may not see it.
    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>>;
}

/// One thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The record that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// The tile or other part that it is about.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Some(record) => write!(f, "record {record} ({}): {}", self.place, self.problem),
            None => write!(f, "{}: {}", self.place, self.problem),
        }
    }
}

/// What was checked and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Records whose text was read.
    pub records_read: u64,
    /// Records of which only the hash was checked, because their text may not be read.
    pub hashes_only: u64,
    /// Records of kinds that came later than this program: proven, but not understood.
    pub unknown_kinds: u64,
    /// What is wrong, at most a hundred.
    pub findings: Vec<Finding>,
    /// Findings beyond that number.
    pub findings_omitted: u64,
}

impl Audit {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, record: Option<u64>, place: impl Into<String>, problem: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { record, place: place.into(), problem: problem.into() });
        } else {
            self.findings_omitted = self.findings_omitted.saturating_add(1);
        }
    }
}

/// Checks everything that a checkpoint covers, and that it continues an older one.
pub fn audit(
    tiles: &dyn Tiles,
    key: &VerifierKey,
    checkpoint: &Checkpoint,
    older: Option<&Checkpoint>,
) -> Result<Audit> {
    let mut walk = Walk {
        tiles,
        key,
        audit: Audit::default(),
        frontier: Frontier::new(),
        rows: Vec::new(),
        last_time: None,
        older,
        root_at_older: older.filter(|old| old.size == 0).map(|_| Frontier::new().root()),
    };
    for index in 0..checkpoint.size.div_ceil(TILE_WIDTH) {
        let width = (checkpoint.size - index * TILE_WIDTH).min(TILE_WIDTH);
        walk.chunk(index, u16::try_from(width)?)?;
    }
    walk.finish(checkpoint)
}

/// One pass over the log.
struct Walk<'a> {
    tiles: &'a dyn Tiles,
    key: &'a VerifierKey,
    audit: Audit,
    frontier: Frontier,
    /// The unfinished tile of each level above the leaves.
    rows: Vec<Row>,
    last_time: Option<Timestamp>,
    older: Option<&'a Checkpoint>,
    root_at_older: Option<Hash>,
}

#[derive(Default)]
struct Row {
    index: u64,
    hashes: Vec<Hash>,
}

impl Walk<'_> {
    /// A tile of records with the tile of their hashes.
    fn chunk(&mut self, index: u64, width: u16) -> Result<()> {
        let path =
            |kind| TilePath::new(kind, index, width).ok_or_else(|| anyhow!("the log is too large to check"));
        let (entries, hashes) = (path(TileKind::Entries)?, path(TileKind::Hashes { level: 0 })?);
        let published = self.hashes(&hashes)?;
        let leaves = match self.tiles.tile(&entries)? {
            Some(bytes) => self.records(&entries, &bytes, &published),
            None => {
                self.audit.hashes_only += u64::from(width);
                published
            }
        };
        for leaf in leaves {
            self.push(leaf)?;
        }
        Ok(())
    }

    /// The leaf hashes of the records of a tile, each compared with the published one.
    fn records(&mut self, path: &TilePath, bytes: &[u8], published: &[Hash]) -> Vec<Hash> {
        let records = match decode_entries(bytes) {
            Ok(records) => records,
            Err(error) => {
                self.audit.add(None, path.to_string(), error.to_string());
                return published.to_vec();
            }
        };
        if records.len() != usize::from(path.width()) {
            let problem = format!("it holds {} records instead of {}", records.len(), path.width());
            self.audit.add(None, path.to_string(), problem);
        }
        let mut leaves = Vec::with_capacity(records.len());
        for (seq, record) in (path.first()..).zip(&records) {
            let leaf = leaf_hash(record);
            if published.get(leaves.len()).is_some_and(|hash| *hash != leaf) {
                let problem = "the record was altered: its hash is not the one in the tree";
                self.audit.add(Some(seq), path.to_string(), problem);
            }
            self.meaning(seq, path, record);
            leaves.push(leaf);
        }
        self.audit.records_read += records.len() as u64;
        leaves
    }

    /// What a signed tree does not say: that records are numbered, dated and caused in order.
    fn meaning(&mut self, seq: u64, path: &TilePath, bytes: &[u8]) {
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(DecodeError::UnknownKind { .. }) => return self.audit.unknown_kinds += 1,
            Err(error) => return self.audit.add(Some(seq), path.to_string(), error.to_string()),
        };
        for problem in self.disorder(seq, &record) {
            self.audit.add(Some(seq), path.to_string(), problem);
        }
        self.last_time = self.last_time.max(Some(record.time));
    }

    fn disorder(&self, seq: u64, record: &Record) -> Vec<String> {
        let mut problems = Vec::new();
        if record.seq.0 != seq {
            problems.push(format!("it calls itself number {}", record.seq));
        }
        if self.last_time.is_some_and(|last| record.time < last) {
            problems.push(format!("it is dated {}, earlier than a record before it", record.time));
        }
        if record.cause.is_some_and(|cause| cause.0 >= seq) {
            problems.push("it names a later record as its cause".to_owned());
        }
        match &record.event {
            Event::NetworkCreated(created) if created.log_key != self.key.to_string() => {
                problems.push(format!("the network was made with another log key: {}", created.log_key));
            }
            Event::NetworkCreated(_) if seq == 0 => {}
            _ if seq == 0 => problems.push("a log begins with network.created".to_owned()),
            _ => {}
        }
        problems
    }

    fn push(&mut self, leaf: Hash) -> Result<()> {
        let mut full = Vec::new();
        let rows = &mut self.rows;
        self.frontier.push_with(leaf, |level, hash| {
            // Level 0 was compared record by record.
            let Some(at) = usize::from(level).checked_sub(1) else { return };
            if rows.len() <= at {
                rows.resize_with(at + 1, Row::default);
            }
            if let Some(row) = rows.get_mut(at) {
                row.hashes.push(hash);
                if row.hashes.len() as u64 == TILE_WIDTH {
                    full.push((level, row.index, std::mem::take(&mut row.hashes)));
                    row.index += 1;
                }
            }
        });
        for (level, index, hashes) in full {
            self.compare(level, index, &hashes)?;
        }
        if self.older.is_some_and(|old| old.size == self.frontier.size()) {
            self.root_at_older = Some(self.frontier.root());
        }
        Ok(())
    }

    fn compare(&mut self, level: u8, index: u64, hashes: &[Hash]) -> Result<()> {
        let path = TilePath::new(TileKind::Hashes { level }, index, u16::try_from(hashes.len())?)
            .ok_or_else(|| anyhow!("the log is too large to check"))?;
        let published = self.hashes(&path)?;
        if let Some(at) =
            hashes.iter().zip(&published).position(|(computed, published)| computed != published)
        {
            self.audit.add(None, path.to_string(), format!("hash {at} does not follow from the records"));
        }
        Ok(())
    }

    fn hashes(&mut self, path: &TilePath) -> Result<Vec<Hash>> {
        let bytes = self.tiles.tile(path)?.unwrap_or_default();
        if bytes.len() != usize::from(path.width()) * HASH_BYTES {
            self.audit.add(None, path.to_string(), "the tile is missing or does not have the right length");
        }
        Ok(bytes.chunks_exact(HASH_BYTES).filter_map(Hash::from_slice).collect())
    }

    fn finish(mut self, checkpoint: &Checkpoint) -> Result<Audit> {
        for (level, row) in (1_u8..).zip(std::mem::take(&mut self.rows)) {
            if !row.hashes.is_empty() {
                self.compare(level, row.index, &row.hashes)?;
            }
        }
        if self.frontier.size() != checkpoint.size || self.frontier.root() != checkpoint.root {
            let problem = format!(
                "the {} records that are served do not give the signed root of size {}: history was changed",
                self.frontier.size(),
                checkpoint.size
            );
            self.audit.add(None, "checkpoint", problem);
        }
        if let Some(older) = self.older {
            if older.size > checkpoint.size {
                let problem = format!(
                    "the log shrank: {} records were signed before, {} now; it was rolled back",
                    older.size, checkpoint.size
                );
                self.audit.add(None, "checkpoint", problem);
            } else if self.root_at_older != Some(older.root) {
                let problem = format!(
                    "it does not continue the checkpoint of size {} that was verified here before: the log was forked or \
                     rewritten",
                    older.size
                );
                self.audit.add(None, "checkpoint", problem);
            }
        }
        Ok(self.audit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use writ_ledger::{FileLog, Reader, SigningKey};
    use writ_schema::event::{LogClosed, NetworkCreated};
    use writ_schema::{Actor, CommandId, CommandRef, NetworkId, Seq};

    struct Served {
        reader: Reader,
        forged: RefCell<Vec<(String, Vec<u8>)>>,
        entries: bool,
    }

    impl Tiles for Served {
        fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>> {
            if !self.entries && path.kind() == TileKind::Entries {
                return Ok(None);
            }
            let forged = self.forged.borrow().iter().find(|(name, _)| *name == path.to_string()).cloned();
            Ok(forged.map(|(_, bytes)| bytes).or(self.reader.tile(path)?))
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_seed("writ.example/log", [7; 32]).unwrap()
    }

    fn record(seq: u64, seconds: i64) -> String {
        let created = NetworkCreated {
            v: Default::default(),
            network: NetworkId::from_bytes([1; 16]),
            name: "example".to_owned(),
            prefix_v4: "100.64.0.0/10".to_owned(),
            prefix_v6: "fd00::/48".to_owned(),
            origin: "writ.example/log".to_owned(),
            log_key: key().verifier_key().to_string(),
        };
        let closed = LogClosed { v: Default::default() };
        let record = Record {
            seq: Seq(seq),
            time: Timestamp::from_second(1_773_000_000 + seconds).unwrap(),
            actor: Actor::System,
            command: CommandRef { id: CommandId::from_bytes([0; 16]), digest: String::new() },
            cause: None,
            salt: None,
            event: if seq == 0 { created.into() } else { closed.into() },
        };
        record.encode().unwrap()
    }

    fn served(records: &[String]) -> (tempfile::TempDir, Served) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = FileLog::create(dir.path(), Box::new(key())).unwrap();
        records.chunks(100).for_each(|batch| {
            log.append(batch).unwrap();
        });
        let reader = log.reader().clone();
        (dir, Served { reader, forged: RefCell::default(), entries: true })
    }

    fn log(size: u64) -> Vec<String> {
        (0..size).map(|seq| record(seq, seq as i64)).collect()
    }

    fn check(served: &Served, older: Option<&Checkpoint>) -> Audit {
        let signed = served.reader.checkpoint();
        audit(served, signed.key(), signed.checkpoint(), older).unwrap()
    }

    #[test]
    fn a_whole_log_is_sound_and_continues_what_was_seen() {
        let (_dir, served) = served(&log(600));
        for size in [0, 1, 255, 256, 257, 600] {
            let older = Checkpoint { origin: String::new(), size, root: served.reader.root(size).unwrap() };
            let audit = check(&served, Some(&older));
            assert_eq!((audit.is_sound(), audit.records_read), (true, 600), "{audit:?}");
        }
    }

    #[test]
    fn an_altered_record_is_named() {
        let (_dir, served) = served(&log(300));
        let path: TilePath = "tile/entries/000".parse().unwrap();
        let mut bytes = served.reader.tile(&path).unwrap().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let at = text.find("\"seq\":17,").unwrap() + 7;
        bytes[at] = b'8';
        served.forged.borrow_mut().push((path.to_string(), bytes));
        let audit = check(&served, None);
        assert_eq!(audit.findings[0].record, Some(17), "{audit:?}");
        assert!(audit.findings.iter().any(|finding| finding.problem.contains("signed root")));
    }

    #[test]
    fn an_altered_upper_tile_is_named() {
        let (_dir, served) = served(&log(300));
        served.forged.borrow_mut().push(("tile/1/000.p/1".to_owned(), vec![0; 32]));
        let audit = check(&served, None);
        assert_eq!(audit.findings.len(), 1);
        assert_eq!(audit.findings[0].place, "tile/1/000.p/1");
    }

    #[test]
    fn a_log_that_was_rolled_back_or_forked_is_found() {
        let (_dir, longer) = served(&log(20));
        let seen = longer.reader.checkpoint().checkpoint().clone();
        let (_dir, shorter) = served(&log(10));
        assert!(check(&shorter, Some(&seen)).findings[0].problem.contains("rolled back"));
        let mut other = log(30);
        other[15] = record(15, 16);
        let (_dir, forked) = served(&other);
        assert!(check(&forked, Some(&seen)).findings[0].problem.contains("forked"));
    }

    #[test]
    fn back_dated_and_misnumbered_records_are_found_though_they_are_signed() {
        let mut records = log(5);
        records[3] = record(3, 1);
        records[4] = record(9, 9);
        let (_dir, served) = served(&records);
        let found: Vec<_> =
            check(&served, None).findings.iter().map(|f| (f.record, f.problem.clone())).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].0 == Some(3) && found[0].1.contains("earlier"));
        assert!(found[1].0 == Some(4) && found[1].1.contains("number 9"));
    }

    #[test]
    fn without_the_right_to_read_records_their_hashes_are_checked() {
        let (_dir, mut served) = served(&log(300));
        served.entries = false;
        let audit = check(&served, None);
        assert_eq!((audit.is_sound(), audit.hashes_only, audit.records_read), (true, 300, 0));
    }
}
