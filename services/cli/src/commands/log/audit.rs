//! What a log's tiles say: the bytes, checked by the ledger, and the records of Writ in them.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use writ_ledger::tile::{TilePath, TileSource};
use writ_ledger::{Checkpoint, Hash, LogKeys, SignedCheckpoint, TileFinding, VerifierKey, audit_tiles};
use writ_schema::{DecodeError, Event, Record};

use super::seen::Sights;

/// The most findings that are listed one by one.
const MAX_FINDINGS: usize = 100;

/// How far two clocks that are both right may be apart.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

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

impl From<&TileFinding> for Finding {
    fn from(finding: &TileFinding) -> Self {
        let place = finding.tile().map_or("checkpoint".to_owned(), |tile| tile.to_string());
        Self { record: finding.record(), place, problem: finding.to_string() }
    }
}

/// Whose records a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// A network's: what they say is checked as well.
    Writ,
    /// Anybody's: Writ's if the first one is, and otherwise opaque bytes.
    Any,
}

/// What was checked and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Records whose bytes were read.
    pub records_read: u64,
    /// Records of which only the hash was checked, because their text may not be read.
    pub hashes_only: u64,
    /// Records of kinds that came later than this program: proven, but not understood.
    pub unknown_kinds: u64,
    /// Whether the records are another program's, so that only their bytes were checked.
    pub is_opaque: bool,
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

    /// Takes up that the checkpoint does not hold, so that nothing else can be checked.
    pub fn refuse(&mut self, problem: String) {
        self.add(Finding { record: None, place: "checkpoint".to_owned(), problem });
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_omitted = self.findings_omitted.saturating_add(1);
        }
    }
}

/// Checks everything that a checkpoint covers, and that it continues an older one, what former keys have committed to and what
/// witnesses have seen.
pub fn audit<S: TileSource + ?Sized>(
    source: &S,
    contents: Contents,
    keys: &LogKeys,
    signed: &SignedCheckpoint,
    older: Option<&Checkpoint>,
    sights: &Sights,
) -> Result<Audit, S::Error> {
    let latest = Timestamp::now().checked_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX);
    let checkpoint = signed.checkpoint();
    let (last_time, signing, said) = Default::default();
    let size = checkpoint.size;
    let mut meaning = Meaning { contents, size, latest, last_time, signing, sights, audit: said };
    let former: Vec<(u64, Hash)> = keys.commitments().chain(sights.trees()).collect();
    let report = audit_tiles(source, checkpoint, older, &former, |seq, tile, record| {
        meaning.record(seq, tile, record);
    })?;
    meaning.finish(signed.key());
    let said = std::mem::take(&mut meaning.audit);
    let mut audit = Audit {
        records_read: report.records_read,
        hashes_only: report.hashes_only,
        unknown_kinds: said.unknown_kinds,
        is_opaque: said.is_opaque,
        findings: Vec::new(),
        findings_omitted: report.findings_omitted.saturating_add(said.findings_omitted),
    };
    // The bytes before what they say: a record that was altered often says nonsense as well.
    report.findings.iter().map(Finding::from).chain(said.findings).for_each(|finding| audit.add(finding));
    Ok(audit)
}

/// What a signed tree does not say: that records are numbered, dated and caused in order.
struct Meaning<'a> {
    contents: Contents,
    size: u64,
    /// No record can be from later than this, by this machine's clock.
    latest: Timestamp,
    /// The keys that may sign the log's newest checkpoint, as the records say: at the size of a change, both do.
    signing: Vec<String>,
    last_time: Option<Timestamp>,
    sights: &'a Sights,
    audit: Audit,
}

impl Meaning<'_> {
    fn record(&mut self, seq: u64, tile: &TilePath, bytes: &[u8]) {
        if self.audit.is_opaque {
            return;
        }
        match Record::decode(bytes) {
            Ok(record) => {
                for problem in self.disorder(seq, &record) {
                    self.add(seq, tile, problem);
                }
                self.last_time = self.last_time.max(Some(record.time));
                match record.event {
                    Event::NetworkCreated(created) => self.signing = vec![created.log_key],
                    Event::LogKeyRotated(rotated) if seq + 1 == self.size => {
                        self.signing = vec![rotated.old_key, rotated.new_key];
                    }
                    Event::LogKeyRotated(rotated) => self.signing = vec![rotated.new_key],
                    _ => {}
                }
            }
            Err(DecodeError::UnknownKind { .. }) => self.audit.unknown_kinds += 1,
            Err(_) if seq == 0 && self.contents == Contents::Any => self.audit.is_opaque = true,
            Err(error) => self.add(seq, tile, error.to_string()),
        }
    }

    /// The checkpoint has to be signed by the key that the records make the log's.
    fn finish(&mut self, key: &VerifierKey) {
        let key = key.to_string();
        if let Some(signing) = self.signing.last().filter(|_| !self.signing.contains(&key)) {
            let problem = format!("it is signed by {key}, but the records make {signing} the log's key");
            self.audit.refuse(problem);
        }
    }

    fn add(&mut self, seq: u64, tile: &TilePath, problem: String) {
        self.audit.add(Finding { record: Some(seq), place: tile.to_string(), problem });
    }

    fn disorder(&self, seq: u64, record: &Record) -> Vec<String> {
        let mut problems = Vec::new();
        if record.seq.0 != seq {
            problems.push(format!("it calls itself number {}", record.seq));
        }
        if self.last_time.is_some_and(|last| record.time < last) {
            problems.push(format!("it is dated {}, earlier than a record before it", record.time));
        }
        if record.time > self.latest && self.last_time.is_none_or(|last| last <= self.latest) {
            problems.push(format!(
                "it is dated {}, later than this machine's clock: the server's clock jumped ahead, or this one is wrong",
                record.time
            ));
        }
        problems.extend(self.sights.contradict(seq, record.time));
        if record.cause.is_some_and(|cause| cause.0 >= seq) {
            problems.push("it names a later record as its cause".to_owned());
        }
        match &record.event {
            Event::LogKeyRotated(rotated)
                if self.signing.last().is_some_and(|key| *key != rotated.old_key) =>
            {
                problems.push(format!(
                    "it changes the log's key from {}, which is not the log's",
                    rotated.old_key
                ));
            }
            Event::NetworkCreated(_) if seq == 0 => {}
            _ if seq == 0 => problems.push("a log begins with network.created".to_owned()),
            _ => {}
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use writ_ledger::store::ReadError;
    use writ_ledger::tile::{Tile, TileKind};
    use writ_ledger::{FileLog, Reader, SigningKey};
    use writ_schema::event::{LogClosed, NetworkCreated};
    use writ_schema::{Actor, CommandId, CommandRef, NetworkId, Seq};

    struct Served {
        reader: Reader,
        forged: RefCell<Vec<(String, Vec<u8>)>>,
        entries: bool,
    }

    impl TileSource for Served {
        type Error = ReadError;

        fn tile(&self, path: &TilePath) -> Result<Tile, ReadError> {
            if !self.entries && path.kind() == TileKind::Entries {
                return Ok(Tile::Withheld);
            }
            let forged = self.forged.borrow().iter().find(|(name, _)| *name == path.to_string()).cloned();
            forged.map_or_else(|| TileSource::tile(&self.reader, path), |(_, bytes)| Ok(Tile::Bytes(bytes)))
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
        audit(served, Contents::Writ, &LogKeys::of(signed.key().clone()), &signed, older, &Sights::default())
            .unwrap()
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
