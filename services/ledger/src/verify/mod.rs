//! Checking a whole log offline, with nothing but its public key.
//!
//! Whether it is sound, all processors find out together, each reading whole segments. If it is not, it is read once more in order.
//!
//! The signed checkpoint decides who is right. If the records give its root, any hash in the tiles that differs is damage to the
//! tiles; if they do not, the tiles (as far as *they* give the root) name the records that were altered.

mod parallel;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::key::VerifierKey;
use crate::rotation::LogKeys;
use crate::store::scan::{SegmentFile, scan_segment};
use crate::store::tiles::{Difference, TileComparison, TileFiles, level_path, stored_hashes};
use crate::store::{Damage, OpenError, Problem, TILES, load};
use crate::tree::{Frontier, HASH_BYTES, Hash};

/// The most findings that are listed one by one.
pub const MAX_FINDINGS: usize = 100;

/// One thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A record, or the segment around it.
    Record(Damage),
    /// A stored hash.
    Tile {
        /// The tile level, which is the file's name in `tiles`.
        level: u8,
        /// The hash's position in its level.
        hash: u64,
        /// Whether it is missing rather than different.
        missing: bool,
    },
    /// The checkpoint file.
    Checkpoint(String),
    /// Records that the checkpoint covers are not there.
    Truncated {
        /// The size that was signed.
        signed: u64,
        /// The records that are there.
        found: u64,
    },
    /// The records are not those that a former key of the log has committed to.
    FormerTree {
        /// The size that it committed to.
        size: u64,
    },
    /// The records do not give the signed root.
    RootMismatch {
        /// The size that was signed.
        signed: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(damage) => damage.fmt(f),
            Self::Tile { level, hash, missing } => {
                let what = if *missing { "is missing" } else { "was altered" };
                write!(
                    f,
                    "tiles/{level}, hash {hash}, byte {}: {what}; tiles are made again when their folder is removed and the log opened",
                    hash.saturating_mul(HASH_BYTES as u64)
                )
            }
            Self::Checkpoint(problem) => f.write_str(problem),
            Self::Truncated { signed, found } => {
                write!(f, "the signed checkpoint covers {signed} records, but the segments hold only {found}")
            }
            Self::FormerTree { size } => write!(
                f,
                "the first {size} records are not those that the log's former key committed to: history was changed"
            ),
            Self::RootMismatch { signed } => {
                write!(
                    f,
                    "the records do not give the root of the signed checkpoint of size {signed}: history was changed"
                )
            }
        }
    }
}

/// What was checked and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint, if its signature holds.
    pub checkpoint: Option<Checkpoint>,
    /// Records that were read.
    pub records: u64,
    /// Segment files that were read.
    pub segments: usize,
    /// Bytes of a commit that was never finished; harmless, the next opening cuts it off.
    pub unfinished_bytes: u64,
    /// What is wrong, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Findings beyond that number.
    pub findings_omitted: u64,
}

impl Report {
    /// Whether the checkpoint holds and everything agrees with it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.checkpoint.is_some()
    }

    /// Records that no checkpoint covers yet: committed in the moment in which this copy was made.
    #[must_use]
    pub fn unsigned_records(&self) -> u64 {
        self.records.saturating_sub(self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size))
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_omitted += 1;
        }
    }
}

/// Checks everything in a log's folder, and changes nothing. The key may be one that the log had before: the rotations in
/// the folder are followed.
///
/// # Errors
/// When there is no log or a file cannot be read; what is wrong with the log stands in the report.
pub fn verify_log(dir: &Path, key: &VerifierKey) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let keys = LogKeys::load(dir, key.clone())?;
    match load::read_checkpoint(dir, &keys) {
        Ok(Some(signed)) => report.checkpoint = Some(signed.checkpoint().clone()),
        Ok(None) => {
            report.add(Finding::Checkpoint("checkpoint: missing or empty: nothing here is signed".to_owned()))
        }
        Err(OpenError::Checkpoint { source, .. }) => report.add(Finding::Checkpoint(source.to_string())),
        Err(other) => return Err(other),
    }
    let names = load::segment_files(dir)?;
    report.segments = names.len();
    let commitments: Vec<(u64, Hash)> = keys.commitments().collect();
    let signed = report.checkpoint.as_ref();
    if let Some(records) = signed.and_then(|signed| parallel::sound(dir, &names, signed, &commitments)) {
        return Ok(Report { records, ..report });
    }
    // Something is odd: everything is read once more, in order, to say what and where.
    let mut walk = Walk::new(dir, report, commitments);
    for (position, name) in names.iter().enumerate() {
        walk.segment(name, position + 1 == names.len()).map_err(OpenError::io(&name.path))?;
    }
    walk.judge(dir).map_err(OpenError::io(&dir.join(TILES)))
}

/// The state of one pass over the segments.
struct Walk {
    report: Report,
    signed: Option<(u64, Hash)>,
    next: u64,
    /// The tree over the records, as long as none is missing.
    frontier: Frontier,
    contiguous: bool,
    root_at_signed: Option<Hash>,
    /// What former keys have committed to, as size and root.
    commitments: Vec<(u64, Hash)>,
    tiles: TileComparison,
    tile_findings: Vec<Finding>,
    stored_leaves: StoredLeaves,
    altered: Vec<Damage>,
}

impl Walk {
    fn new(dir: &Path, report: Report, commitments: Vec<(u64, Hash)>) -> Self {
        let signed = report.checkpoint.as_ref().map(|checkpoint| (checkpoint.size, checkpoint.root));
        let frontier = Frontier::new();
        Self {
            report,
            signed,
            next: 0,
            root_at_signed: signed.filter(|(size, _)| *size == 0).map(|_| frontier.root()),
            frontier,
            commitments,
            contiguous: true,
            tiles: TileComparison::after(&dir.join(TILES), 0),
            tile_findings: Vec::new(),
            stored_leaves: StoredLeaves::new(dir),
            altered: Vec::new(),
        }
    }

    fn segment(&mut self, name: &SegmentFile, last: bool) -> io::Result<()> {
        if name.first != self.next {
            if self.contiguous {
                let problem = Problem::NotContiguous { expected: self.next, found: name.first };
                self.damage(name, self.next, 0, problem);
            }
            self.contiguous = false;
            self.next = name.first;
        }
        let scan = scan_segment(name, |offset, leaf| self.record(name, offset, leaf))?;
        self.report.records += scan.index.next() - name.first;
        let covered = self.signed.is_some_and(|(size, _)| size > self.next);
        match scan.fault {
            Some(fault) if !last || covered || !fault.in_last_commit => {
                self.contiguous = false;
                self.damage(name, name.first + fault.index, fault.offset, fault.problem);
            }
            None if scan.unfinished_bytes() > 0 && (!last || covered) => {
                self.contiguous = false;
                self.damage(name, self.next, scan.index.end(), Problem::Unfinished);
            }
            Some(_) | None => self.report.unfinished_bytes = scan.unfinished_bytes(),
        }
        Ok(())
    }

    fn record(&mut self, name: &SegmentFile, offset: u64, leaf: Hash) {
        let seq = self.next;
        self.next += 1;
        let other = self.stored_leaves.get(seq).is_some_and(|stored| stored != leaf);
        if other && self.altered.len() < MAX_FINDINGS {
            self.altered.push(Damage { segment: name.name(), seq, offset, problem: Problem::Altered });
        }
        if !self.contiguous {
            return;
        }
        let (tiles, findings) = (&mut self.tiles, &mut self.tile_findings);
        self.frontier.push_with(leaf, |level, hash| compare(tiles, level, &hash, findings));
        if self.signed.is_some_and(|(size, _)| size == self.next) {
            self.root_at_signed = Some(self.frontier.root());
        }
        let (size, frontier) = (self.next, &self.frontier);
        let broken = self.commitments.iter().any(|(at, root)| *at == size && *root != frontier.root());
        if broken {
            self.report.add(Finding::FormerTree { size });
        }
    }

    /// Decides, by the signed root, whether records or tiles are wrong where they differ.
    fn judge(mut self, dir: &Path) -> io::Result<Report> {
        let Some((signed, root)) = self.signed else {
            self.altered.drain(..).for_each(|damage| self.report.add(Finding::Record(damage)));
            return Ok(self.report);
        };
        if self.root_at_signed == Some(root) {
            // Hashes of records that nobody signed yet may be missing in a copy: opening makes them.
            let is_signed = |finding: &Finding| match finding {
                Finding::Tile { level, hash, .. } => *hash < stored_hashes(signed, usize::from(*level)),
                _ => true,
            };
            self.tile_findings.drain(..).filter(is_signed).for_each(|finding| self.report.add(finding));
            return Ok(self.report);
        }
        // The record that was altered comes before what follows from it.
        self.altered.drain(..).for_each(|damage| self.report.add(Finding::Record(damage)));
        match self.root_at_signed {
            Some(_) => self.report.add(Finding::RootMismatch { signed }),
            None if self.next < signed => self.report.add(Finding::Truncated { signed, found: self.next }),
            None => {}
        }
        for finding in tiles_among_themselves(dir, signed, root)? {
            self.report.add(finding);
        }
        Ok(self.report)
    }

    fn damage(&mut self, name: &SegmentFile, seq: u64, offset: u64, problem: Problem) {
        self.report.add(Finding::Record(Damage { segment: name.name(), seq, offset, problem }));
    }
}

fn compare(tiles: &mut TileComparison, level: u8, hash: &Hash, findings: &mut Vec<Finding>) {
    let (hash, missing) = match tiles.next(level, hash) {
        Some(Difference::Missing(hash)) => (hash, true),
        Some(Difference::Other(hash)) => (hash, false),
        None => return,
    };
    if findings.len() <= MAX_FINDINGS {
        findings.push(Finding::Tile { level, hash, missing });
    }
}

/// Where the stored leaf hashes give the signed root, the upper tiles are checked against them.
fn tiles_among_themselves(dir: &Path, signed: u64, root: Hash) -> io::Result<Vec<Finding>> {
    let Ok(file) = File::open(level_path(&dir.join(TILES), 0)) else { return Ok(Vec::new()) };
    let (mut input, mut stored) = (BufReader::new(file), [0; HASH_BYTES]);
    let (mut tiles, mut findings) = (TileComparison::after(&dir.join(TILES), 0), Vec::new());
    let mut frontier = Frontier::new();
    while frontier.size() < signed {
        match input.read_exact(&mut stored) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        frontier.push_with(Hash(stored), |level, hash| compare(&mut tiles, level, &hash, &mut findings));
    }
    Ok(if frontier.root() == root { findings } else { Vec::new() })
}

/// The leaf hashes that the tiles hold, read a tile at a time.
struct StoredLeaves {
    files: TileFiles,
    first: u64,
    tile: Vec<u8>,
}

impl StoredLeaves {
    fn new(dir: &Path) -> Self {
        Self { files: TileFiles::for_reading(dir.join(TILES)), first: 0, tile: Vec::new() }
    }

    fn get(&mut self, seq: u64) -> Option<Hash> {
        let wanted = seq - seq % 256;
        if self.tile.is_empty() || self.first != wanted {
            self.first = wanted;
            self.tile = self.files.read_up_to(0, wanted, 256).unwrap_or_default();
        }
        let at = usize::try_from(seq - wanted).ok()? * HASH_BYTES;
        self.tile.get(at..at + HASH_BYTES).and_then(Hash::from_slice)
    }
}
