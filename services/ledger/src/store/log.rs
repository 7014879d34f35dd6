//! The one writer of a log, over any store: it keeps the tree and the tiles, signs the checkpoints and shows both to readers.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::blocks::SharedIndex;
use super::checkpoint_file::CheckpointFile;
use super::error::{AppendError, HandOverError, OpenError};
use super::hashing::{Hashing, MEANWHILE_BYTES, write_hashes};
use super::reader::{Reader, Tree};
use super::tiles::TileFiles;
use super::{Batch, CHECKPOINT, LogStore, StoreError, TILES};
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::disk::Disk;
use crate::key::{SignError, Signer, VerifierKey};
use crate::note;
use crate::rotation::{self, ROTATIONS, Rotation};
use crate::tree::Frontier;

/// A commit that is durable, and the checkpoint that covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The sequence number of its first record.
    pub first: u64,
    /// The log's size after it.
    pub size: u64,
    /// The signed note of the checkpoint after it.
    pub checkpoint: String,
}

/// What opening had to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Bytes of a commit that was never finished, and was cut off.
    pub unfinished_bytes: u64,
    /// Whether the tiles were written anew.
    pub tiles_rebuilt: bool,
    /// Records that were stored but not yet covered by the checkpoint file.
    pub newly_signed: u64,
}

/// What a log's folder holds beside the store: where the tree and the checkpoint stand.
pub(super) struct Standing {
    pub dir: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub checkpoint_interval: Duration,
    pub frontier: Frontier,
    pub checkpoint: Option<SignedCheckpoint>,
    pub unfinished_bytes: u64,
    pub tiles_rebuilt: bool,
    pub lock: File,
}

/// The one writer of a log. Opened with [`FileLog`](super::FileLog); readers are made with [`Log::reader`].
pub struct Log {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    checkpoint_file: CheckpointFile,
    signer: Arc<dyn Signer>,
    origin: String,
    store: Box<dyn LogStore>,
    frontier: Frontier,
    /// Begun with the first large commit.
    hashing: Option<Hashing>,
    reader: Reader,
    recovery: Recovery,
    /// The store may hold more than the tree does.
    is_behind: bool,
    _lock: File,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.dir).field("size", &self.frontier.size()).finish()
    }
}

impl Log {
    /// Takes up a log at the size that its store has: the tree is brought up to it and a checkpoint signed.
    pub(super) fn over(
        store: Box<dyn LogStore>,
        index: SharedIndex,
        standing: Standing,
        signer: Box<dyn Signer>,
    ) -> Result<Self, OpenError> {
        let Standing { dir, disk, checkpoint_interval, frontier, checkpoint, .. } = standing;
        let Standing { unfinished_bytes, tiles_rebuilt, lock, .. } = standing;
        let key = signer.verifier_key();
        let tiles = dir.join(TILES);
        let signed_size = checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size);
        let newly_signed = store.size().saturating_sub(signed_size);
        let is_signed = signed_size == frontier.size() && checkpoint.is_some();
        let shown = match checkpoint.filter(|_| is_signed) {
            Some(signed) => signed,
            None => {
                let (origin, size, root) = (key.name().to_owned(), frontier.size(), frontier.root());
                Checkpoint { origin, size, root }.sign(signer.as_ref())?
            }
        };
        let tree = Tree::Files(TileFiles::for_writing(tiles, disk.clone()));
        let reader = Reader::new(index, tree, shown, dir.join(super::SEGMENTS));
        let recovery = Recovery { unfinished_bytes, tiles_rebuilt, newly_signed };
        let origin = key.name().to_owned();
        let mut log = Self {
            checkpoint_file: CheckpointFile::new(dir.clone(), disk.clone(), checkpoint_interval),
            dir,
            disk,
            signer: Arc::from(signer),
            origin,
            store,
            frontier,
            hashing: None,
            reader,
            recovery,
            is_behind: false,
            _lock: lock,
        };
        log.adopt().map_err(|source| OpenError::CatchUp(Box::new(source)))?;
        if !is_signed {
            // On a full disk the log can be read all the same; the next commit writes the file again, or says why not.
            log.checkpoint_file.publish(log.reader.checkpoint().text());
        }
        Ok(log)
    }

    /// Appends records as one commit: when this returns they are durable, and covered by the returned checkpoint.
    ///
    /// # Errors
    /// When a record is refused or the store fails. Nothing of the commit is visible then. After an error whose outcome
    /// [is unknown](AppendError::is_unknown), the log takes no more commits until [`Log::lead`] succeeds.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<Commit, AppendError> {
        if self.is_behind {
            return Err(StoreError::Poisoned.into());
        }
        let records: Vec<&[u8]> = records.iter().map(AsRef::as_ref).collect();
        let first = self.frontier.size();
        let batch = Batch { first, previous_root: self.frontier.root(), records: &records };
        self.store.check(&batch)?;
        // Readers look only below the published size, so hashes of a commit that fails are never seen.
        let (shared, before) = (&self.reader.0, &self.frontier);
        let frontier = if records.iter().map(|record| record.len()).sum::<usize>() < MEANWHILE_BYTES {
            batch.check_texts()?;
            let frontier = write_hashes(&shared.tree, before, records.iter().copied())?;
            self.store.append(&batch, &mut || Ok(()))?;
            Some(frontier)
        } else {
            let hashing = self.hashing.get_or_insert_with(|| Hashing::start(shared.clone()));
            let (mut running, mut after) = (hashing.begin(&records, before), None);
            self.store.append(&batch, &mut || {
                after = Some(running.finish()?);
                Ok(())
            })?;
            after
        };
        match frontier {
            Some(frontier) => self.show(frontier),
            // A store that does only half of what it is told.
            None => {
                self.is_behind = true;
                Err(StoreError::Poisoned.into())
            }
        }
    }

    /// Shows what others have appended to the store since, and returns the log's size. A follower lives by this.
    ///
    /// # Errors
    /// When the store cannot be read, or the checkpoint not be signed.
    pub fn catch_up(&mut self) -> Result<u64, AppendError> {
        self.store.catch_up()?;
        self.adopt()
    }

    /// Becomes the writer: whoever wrote before is shut out, and everything that is stored is shown, so also a commit whose
    /// outcome was unknown. Returns the log's size.
    ///
    /// # Errors
    /// When the store cannot be written now, or somebody else became the writer in the same moment.
    pub fn lead(&mut self) -> Result<u64, AppendError> {
        self.store.lead()?;
        self.adopt()
    }

    /// The holder of the key that signs this log's checkpoints.
    #[must_use]
    pub fn signer(&self) -> Arc<dyn Signer> {
        self.signer.clone()
    }

    /// What the record that is appended next has to carry, to change the log's key to this one.
    ///
    /// # Errors
    /// When one of the keys cannot sign, or they are the same, or of different logs.
    pub fn rotation_to(&self, next: &dyn Signer) -> Result<Rotation, SignError> {
        Rotation::sign(self.signer.as_ref(), next, self.frontier.size(), &self.frontier.root())
    }

    /// Keeps a rotation beside the checkpoint, for verifiers of this folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_rotation(&self, rotation: &Rotation) -> Result<(), HandOverError> {
        let path = || self.dir.join(ROTATIONS);
        rotation::keep(self.disk.as_ref(), &self.dir, rotation)
            .map_err(|source| HandOverError::Io { path: path(), source })
    }

    /// Hands the log over to another key, as the record at the end of the log says: the newest checkpoint is signed by it as
    /// well, and every later one by it alone. Asked again after a failure, or with a key that has taken over already, it
    /// brings about the same.
    ///
    /// # Errors
    /// When the new key cannot sign or the rotation cannot be kept; the old key goes on then.
    pub fn hand_over(&mut self, signer: Box<dyn Signer>, rotation: &Rotation) -> Result<(), HandOverError> {
        if rotation.next_key()? != signer.verifier_key() {
            return Err(HandOverError::OtherKey(signer.verifier_key().to_string()));
        }
        self.keep_rotation(rotation)?;
        let newest = self.reader.checkpoint();
        if newest.checkpoint().size == rotation.index.saturating_add(1) {
            let signature = note::signature(signer.as_ref(), newest.checkpoint_text())?;
            let signed = newest.with_signatures(&[signature]);
            let signed = SignedCheckpoint::open(signed.text(), &signer.verifier_key())?;
            // Durably: from here on the old key may be gone, and the new one opens only what it has signed.
            let written = self.checkpoint_file.publish_durably(signed.text());
            written.map_err(|source| HandOverError::Io { path: self.dir.join(CHECKPOINT), source })?;
            *self.reader.0.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        }
        self.signer = Arc::from(signer);
        Ok(())
    }

    /// The reading side, for this or (cloned) any other thread.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The number of committed records.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The most bytes of records that one commit takes.
    #[must_use]
    pub fn max_commit_bytes(&self) -> usize {
        self.store.max_batch_bytes()
    }

    /// Whether other processes may write to the log too. Then [`Log::catch_up`] now and then tells whether one does.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Who became the writer after this process was, as far as [`Log::catch_up`] has seen. Then do not [lead](Log::lead) again
    /// unless it was decided elsewhere that this process is to: two that both insist shut each other out for ever.
    #[must_use]
    pub fn deposed_by(&self) -> Option<String> {
        self.store.deposed_by()
    }

    /// What could not be done beside appending, such as sealing a full segment, and will be tried again.
    #[must_use]
    pub fn upkeep_failure(&self) -> Option<String> {
        self.store.upkeep_failure()
    }

    /// How much stands in the store that is no part of the log.
    #[must_use]
    pub fn ignored_entries(&self) -> u64 {
        self.store.ignored_entries()
    }

    /// The public key that verifies this log's checkpoints.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        self.signer.verifier_key()
    }

    /// What opening had to mend.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Brings the tree up to what the store holds.
    fn adopt(&mut self) -> Result<u64, AppendError> {
        self.is_behind = true;
        let mut frontier = self.frontier.clone();
        let size = self.store.size();
        while frontier.size() < size {
            let records = self.store.read(frontier.size()..size)?;
            frontier = write_hashes(&self.reader.0.tree, &frontier, records.iter().map(Vec::as_slice))?;
        }
        if frontier.size() > self.frontier.size() {
            self.show(frontier)?;
        }
        self.is_behind = false;
        Ok(size)
    }

    /// Signs and shows a tree whose records are stored.
    fn show(&mut self, frontier: Frontier) -> Result<Commit, AppendError> {
        let (first, size, root) = (self.frontier.size(), frontier.size(), frontier.root());
        let signed = Checkpoint { origin: self.origin.clone(), size, root }.sign(self.signer.as_ref());
        let signed = signed.inspect_err(|_| self.is_behind = true)?;
        self.frontier = frontier;
        let checkpoint = signed.text().to_owned();
        *self.reader.0.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        // The records are safe and signed; a checkpoint file that cannot be written now does not deny a commit that holds.
        self.checkpoint_file.publish(&checkpoint);
        Ok(Commit { first, size, checkpoint })
    }
}
