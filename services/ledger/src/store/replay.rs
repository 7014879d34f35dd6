//! Reading a whole log back: hashed, held to the tree and decoded in several threads, delivered in order.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::error::ReadError;
use super::reader::Reader;
use crate::tree::{Frontier, LeafRun, NodeHashes, leaf_hash};

/// How many pieces of up to 256 KiB each thread may be ahead of what was delivered.
const AHEAD: usize = 2;

/// Records that were read, checked and decoded together.
struct Piece<T> {
    items: Vec<T>,
    run: LeafRun,
}

impl Reader {
    /// Reads records in order. Each is hashed and held to its hash in the tree and given to `decode`, with its sequence number,
    /// on one of so many threads (at least one); `each` gets what comes out, in order, on this thread. A range that begins with
    /// the first record is held to the root as well: to the signed one, if it ends where the newest checkpoint does.
    ///
    /// What `each` was given counts as verified only when this returns `Ok`. The range is cut to what is committed now.
    ///
    /// # Errors
    /// The first error of reading or of `each`; nothing more is delivered then.
    pub fn replay<T, E>(
        &self,
        range: Range<u64>,
        threads: usize,
        decode: impl Fn(u64, &[u8]) -> T + Sync,
        mut each: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E>
    where
        T: Send,
        E: From<ReadError>,
    {
        let signed = self.checkpoint();
        let (size, signed_root) = (signed.checkpoint().size, signed.checkpoint().root);
        let range = range.start..range.end.min(size);
        if range.is_empty() {
            return Ok(());
        }
        let mut frontier = (range.start == 0).then(Frontier::new);
        let mut deliver = |piece: Result<Piece<T>, ReadError>| -> Result<(), E> {
            let Piece { items, run } = piece?;
            if let Some(frontier) = &mut frontier {
                frontier.append(&run);
            }
            items.into_iter().try_for_each(&mut each)
        };
        let pieces = self.0.index.pieces(range.clone());
        if threads <= 1 {
            pieces.into_iter().try_for_each(|piece| deliver(self.piece(piece, &decode)))?;
        } else {
            std::thread::scope(|scope| {
                let start = |number: usize| {
                    let (sender, receiver) = sync_channel(AHEAD);
                    let (pieces, decode) = (&pieces, &decode);
                    scope.spawn(move || {
                        self.work(pieces.iter().skip(number).step_by(threads), decode, &sender)
                    });
                    receiver
                };
                let receivers: Vec<Receiver<_>> = (0..threads).map(start).collect();
                // Piece by piece from the thread whose turn it is. An error drops the receivers, and that ends the threads.
                receivers.iter().cycle().take(pieces.len()).try_for_each(|receiver| match receiver.recv() {
                    Ok(piece) => deliver(piece),
                    Err(_) => Err(ReadError::NotThere { seq: range.start }.into()),
                })
            })?;
        }
        let Some(frontier) = frontier else { return Ok(()) };
        let expected = if range.end == size { signed_root } else { self.root(range.end)? };
        if frontier.size() == range.end && frontier.root() == expected {
            Ok(())
        } else {
            Err(ReadError::OtherRoot { size: range.end }.into())
        }
    }

    fn work<'a, T: Send>(
        &self,
        pieces: impl Iterator<Item = &'a Range<u64>>,
        decode: &(impl Fn(u64, &[u8]) -> T + Sync),
        sender: &SyncSender<Result<Piece<T>, ReadError>>,
    ) {
        for piece in pieces {
            if sender.send(self.piece(piece.clone(), decode)).is_err() {
                break;
            }
        }
    }

    fn piece<T>(&self, range: Range<u64>, decode: &impl Fn(u64, &[u8]) -> T) -> Result<Piece<T>, ReadError> {
        let count = usize::try_from(range.end - range.start).unwrap_or_default();
        let (mut items, mut run) = (Vec::with_capacity(count), LeafRun::new(range.start));
        // One chunk, unless a segment was sealed since the pieces were cut.
        while run.next() < range.end {
            let chunk = self.0.index.chunk(run.next()..range.end)?;
            let leaves = self.hashes(0, chunk.first, chunk.len())?;
            for (record, stored) in chunk.records().zip(leaves) {
                let (seq, leaf) = (run.next(), leaf_hash(record));
                if leaf != stored {
                    return Err(ReadError::Changed { path: self.0.folder.clone(), seq });
                }
                items.push(decode(seq, record));
                run.push_with(leaf, |_, _, _| ());
            }
        }
        Ok(Piece { items, run })
    }
}
