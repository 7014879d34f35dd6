//! The store: a topic that is folded into a folder.

use std::time::{Duration, Instant};

use super::copy::Copy;
use super::options::KafkaOptions;
use super::position::Position;
use super::producer::{FencedProducer, SendFailure};
use super::topic::{TopicMessage, TopicReader, TopicSettings};
use crate::store::entry::{BatchHead, Epoch, LogId, MAX_ENTRY_OVERHEAD, Open, WriterId};
use crate::store::error::ReadError;
use crate::store::fold::{CurrentWriter, Fold, Reason, Verdict};
use crate::store::segments::Segments;
use crate::store::{Batch, LogStore, StoreError};
use crate::tree::Hash;

/// How often the position in the topic is written down. What came after it is read again on opening.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What a process writes with, until a newer one writes.
struct Leader {
    epoch: Epoch,
    producer: FencedProducer,
}

/// A log in a topic, with a copy of its records in a folder, which reads are answered from.
pub(super) struct KafkaStore {
    options: KafkaOptions,
    settings: TopicSettings,
    reader: TopicReader,
    fold: Fold,
    copy: Copy,
    leader: Option<Leader>,
    /// As whom this process writes.
    writer: WriterId,
    has_led: bool,
    saved: Instant,
    /// What this process has signed, and the topic has not been seen to hold yet.
    expected: Option<(u64, Hash)>,
    copy_differs: bool,
}

impl KafkaStore {
    pub fn new(
        options: KafkaOptions,
        settings: TopicSettings,
        reader: TopicReader,
        fold: Fold,
        copy: Copy,
    ) -> Result<Self, StoreError> {
        let writer = WriterId(random_id().map_err(|why| options.unavailable(why))?);
        let saved = Instant::now();
        Ok(Self {
            options,
            settings,
            reader,
            fold,
            copy,
            leader: None,
            writer,
            has_led: false,
            saved,
            expected: None,
            copy_differs: false,
        })
    }

    /// What the topic holds, as far as it was read.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    fn root(&self) -> Hash {
        self.fold.frontier().root()
    }

    pub fn copied(&self) -> &Segments {
        &self.copy.segments
    }

    /// Demands that the log had this root at this size.
    pub fn expect(&mut self, size: u64, root: Hash) {
        self.expected = Some((size, root)).filter(|(size, _)| *size > 0);
    }

    /// Whether the copy holds other records than the topic.
    pub fn copy_differs(&self) -> bool {
        self.copy_differs
    }

    /// Announces a writer in the topic and reads it back; the log is `log`, or the one that is there.
    pub fn open_epoch(&mut self, log: LogId, origin: &str) -> Result<(), StoreError> {
        // The one that wrote before is shut out only when this one has read nearly all.
        self.catch_up()?;
        let producer = FencedProducer::start(&self.options, self.settings.max_entry_bytes() + 512)?;
        self.catch_up()?;
        let epoch = Epoch(self.fold.epoch().0.saturating_add(1));
        let (size, root) = (self.fold.frontier().size(), self.root());
        let (name, origin) = (self.options.name.clone(), origin.to_owned());
        let open = Open { log, epoch, writer: self.writer, name, origin, size, root }.encode();
        let offset = match producer.send(&open, self.options.patience) {
            Ok(offset) => offset,
            Err(SendFailure::NotSent(why) | SendFailure::Unknown(why)) => {
                return Err(self.options.unavailable(format!("it cannot be written to: {why}")));
            }
        };
        self.read_to(offset)?;
        match self.fold.current() {
            Some(current) if current.writer == self.writer && current.epoch == epoch => {
                self.leader = Some(Leader { epoch, producer });
                self.has_led = true;
                Ok(())
            }
            current => Err(StoreError::Deposed { newer: name_of(current) }),
        }
    }

    /// Takes in everything up to the entry at an offset, and says what that one did.
    fn read_to(&mut self, offset: i64) -> Result<Option<Reason>, StoreError> {
        if offset < self.reader.next_offset() {
            return Err(self.options.foreign(format!(
                "it gave offset {offset} to a new entry, but {} were read before: the topic was made anew",
                self.reader.next_offset()
            )));
        }
        let mut others = false;
        loop {
            let Some(message) = self.reader.next()? else { continue };
            let (at, ignored) = (message.offset, self.take(&message)?);
            if at >= offset {
                return self.still_ours(others).map(|()| ignored);
            }
            others |= ignored.is_some();
        }
    }

    /// Where entries came that are not this log's, that the topic is still the one that was read before: one that was made anew may
    /// hold as many entries.
    fn still_ours(&self, others: bool) -> Result<(), StoreError> {
        match self.fold.current().filter(|_| others) {
            Some(current) => same_log(&self.options, current.log),
            None => Ok(()),
        }
    }

    /// Folds one entry, and copies the records that it adds.
    fn take(&mut self, message: &TopicMessage) -> Result<Option<Reason>, StoreError> {
        let before = self.fold.clone();
        let taken = self.fold_and_copy(message);
        if taken.is_err() {
            // A full disk, for instance: the entry is read and judged again when there is room.
            self.fold = before;
            self.reader.read_again(message.offset)?;
        } else if self.saved.elapsed() >= SAVE_EVERY {
            self.save();
        }
        taken
    }

    fn fold_and_copy(&mut self, message: &TopicMessage) -> Result<Option<Reason>, StoreError> {
        let (first, previous_root) = (self.fold.frontier().size(), self.root());
        let verdict =
            self.fold.apply(&message.payload).map_err(|unknown| self.options.foreign(unknown.to_string()))?;
        match verdict {
            Verdict::Ignored(reason) => return Ok(Some(reason)),
            // Whoever it is, this process is so only once it knows that its own entry came first.
            Verdict::Opened => self.leader = None,
            Verdict::Continued(records) => {
                let batch = Batch { first, previous_root, records: &records };
                if first >= self.copy.segments.size() {
                    self.copy.segments.append(&batch, &mut || Ok(()))?;
                } else if !self.copy.has(first, &records) {
                    self.copy_differs = true;
                    return Err(self.options.foreign("the folder is not a copy of it"));
                }
                self.meet_expectation()?;
            }
        }
        Ok(None)
    }

    fn meet_expectation(&mut self) -> Result<(), StoreError> {
        let (found, root) = (self.size(), self.root());
        match self.expected.filter(|(size, _)| *size <= found) {
            None => Ok(()),
            Some(expected) if expected == (found, root) => {
                self.expected = None;
                Ok(())
            }
            Some((size, _)) => Err(self.options.foreign(format!(
                "its records do not give the root of the checkpoint of size {size} that this server has signed: history \
                 was changed; keep the folder {} as evidence",
                self.copy.dir.display()
            ))),
        }
    }

    /// Writes down how far the topic was read. If that fails, more is read again on opening.
    pub fn save(&mut self) {
        self.saved = Instant::now();
        let position = Position::of(&self.options.topic, self.reader.next_offset(), &self.fold);
        let _ = position.map(|position| position.save(&self.copy.dir));
    }
}

impl LogStore for KafkaStore {
    fn size(&self) -> u64 {
        self.fold.frontier().size()
    }

    fn max_batch_bytes(&self) -> usize {
        self.settings.max_entry_bytes().saturating_sub(MAX_ENTRY_OVERHEAD)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn ignored_entries(&self) -> u64 {
        self.fold.ignored_entries()
    }

    fn deposed_by(&self) -> Option<String> {
        let newer = self.fold.current().filter(|current| self.has_led && current.writer != self.writer)?;
        Some(name_of(Some(newer)))
    }

    fn lead(&mut self) -> Result<(), StoreError> {
        self.leader = None;
        let Some(CurrentWriter { log, origin, .. }) = self.fold.current().cloned() else {
            return Err(self.options.foreign("it holds no log"));
        };
        same_log(&self.options, log)?;
        self.open_epoch(log, &origin)
    }

    fn catch_up(&mut self) -> Result<(), StoreError> {
        let (_, end) = self.reader.bounds()?;
        if end < self.reader.next_offset() {
            return Err(self.options.foreign(format!(
                "it ends at offset {end}, but {} was read before: the topic was made anew or cut",
                self.reader.next_offset()
            )));
        }
        let (mut is_certain, mut others) = (false, false);
        while self.reader.next_offset() < end {
            match self.reader.next()? {
                Some(message) => others |= self.take(&message)?.is_some(),
                // The last offsets may be markers of transactions, which are not shown; but an end may also be one that has
                // passed. The one that is told after beginning anew is certain.
                None if is_certain => self.reader.skip_to(end),
                None => {
                    is_certain = true;
                    self.reader.begin_anew()?;
                }
            }
        }
        self.still_ours(others)
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        match (self.deposed_by(), &self.leader) {
            (Some(newer), _) => Err(StoreError::Deposed { newer }),
            (None, None) => Err(StoreError::NotLeading),
            (None, Some(_)) => batch.check(self.size(), self.max_batch_bytes()),
        }
    }

    fn append(
        &mut self,
        batch: &Batch<'_>,
        besides: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check(batch)?;
        let (Some(leader), Some(current)) = (&self.leader, self.fold.current()) else {
            return Err(StoreError::NotLeading);
        };
        // What was sent cannot be taken back.
        besides()?;
        let entry = BatchHead::of(batch, current.log, leader.epoch).encode(batch.records);
        let sent = leader.producer.send(&entry, self.options.patience);
        let read = match sent {
            Ok(offset) => self.read_to(offset),
            Err(SendFailure::NotSent(why)) => {
                self.leader = None;
                return Err(self.options.unavailable(why));
            }
            Err(SendFailure::Unknown(problem)) => {
                self.leader = None;
                return Err(StoreError::Undecided { place: self.options.place(), problem });
            }
        };
        match read {
            Ok(None) => Ok(()),
            // Its epoch was over: it is not in the log, and never will be.
            Ok(Some(reason)) => {
                if let Some(newer) = self.deposed_by() {
                    return Err(StoreError::Deposed { newer });
                }
                self.leader = None;
                Err(self.options.foreign(format!("the batch was ignored by the fold ({reason:?})")))
            }
            Err(error @ StoreError::Foreign { .. }) => {
                self.leader = None;
                Err(error)
            }
            Err(error) => {
                self.leader = None;
                Err(StoreError::Undecided { place: self.options.place(), problem: error.to_string() })
            }
        }
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        self.copy.segments.read(range)
    }
}

impl Drop for KafkaStore {
    fn drop(&mut self) {
        self.save();
    }
}

fn name_of(writer: Option<&CurrentWriter>) -> String {
    match writer {
        None => "another process".to_owned(),
        Some(CurrentWriter { name, writer, epoch, .. }) if name.is_empty() => {
            format!("another process ({writer}, epoch {epoch})")
        }
        Some(CurrentWriter { name, writer, epoch, .. }) => format!("{name} ({writer}, epoch {epoch})"),
    }
}

pub(super) fn random_id() -> Result<[u8; 16], String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| format!("the system gave no random bytes: {error}"))?;
    Ok(id)
}

/// Refuses a topic that does not begin with this log: it was made anew, or it is another one's.
pub(super) fn same_log(options: &KafkaOptions, log: LogId) -> Result<(), StoreError> {
    match first_log(options)? {
        Some(found) if found == log => Ok(()),
        Some(found) => Err(options.foreign(format!(
            "it holds log {found}, but this folder is a copy of log {log}: the topic was made anew, or is another one's"
        ))),
        None => Err(options.foreign(format!(
            "it does not begin with log {log} any more: the topic was made anew, or cut by retention or by hand"
        ))),
    }
}

/// Which log the topic's first entry opens.
fn first_log(options: &KafkaOptions) -> Result<Option<LogId>, StoreError> {
    let mut reader = TopicReader::start(options, 0)?;
    let mut fold = Fold::new();
    // What comes before the first entry that opens a log belongs to none.
    while fold.current().is_none() {
        let Some(message) = reader.next()? else { return Ok(None) };
        fold.apply(&message.payload).map_err(|unknown| options.foreign(unknown.to_string()))?;
    }
    Ok(fold.current().map(|current| current.log))
}
