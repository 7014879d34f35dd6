//! What the hub holds of one node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use writ_schema::event::SessionEnd;
use writ_schema::protocol::{Candidate, Netmap};

use super::outbox::Outbox;
use super::pushes::Push;

/// Frames that may wait for one socket. A reader slower than this gets everything anew instead.
pub const QUEUE_FRAMES: usize = 64;

/// Why the hub ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// For one of the reasons that are recorded.
    End(SessionEnd),
    /// A frame could not be made: the agent comes back and gets everything anew.
    Resync,
}

/// The hub's side of a session that is connected.
#[derive(Debug)]
pub struct Live {
    /// Which session of the process.
    pub number: u64,
    /// Frames on their way to the socket.
    pub queue: mpsc::Sender<Arc<str>>,
    /// Set while the socket is too slow: nothing is queued until it has caught up.
    pub behind: Arc<AtomicBool>,
    /// Ends the session.
    pub stop: Option<oneshot::Sender<Stop>>,
}

impl Live {
    /// Whether the socket's queue has room. If not, the reader is marked as too slow until it has caught up.
    pub fn has_room(&self) -> bool {
        if self.behind.load(Ordering::SeqCst) {
            return false;
        }
        if self.queue.capacity() > 0 {
            return true;
        }
        self.behind.store(true, Ordering::SeqCst);
        // The queue may have been emptied before the mark was set: then nobody would look at it any more.
        let has_room = self.queue.capacity() > 0;
        self.behind.store(!has_room, Ordering::SeqCst);
        has_room
    }

    /// Queues a frame, for which there is room.
    pub fn queue(&self, text: Arc<str>) {
        // The hub alone puts frames in, so this fails only when the session is gone; the frame is kept for the next one.
        let _ = self.queue.try_send(text);
    }

    /// Ends the session; only the first reason counts.
    pub fn stop(&mut self, stop: Stop) {
        if let Some(sender) = self.stop.take() {
            // A session that is gone already needs no reason.
            let _ = sender.send(stop);
        }
    }
}

/// A node that is, or lately was, connected.
#[derive(Debug)]
pub struct Entry {
    /// Its frames.
    pub outbox: Outbox,
    /// Its session.
    pub live: Option<Live>,
    /// When its last session ended.
    pub away_since: Instant,
    /// The netmap that it was told last.
    pub netmap: Option<Netmap>,
    /// Where it can be tried.
    pub candidates: Vec<Candidate>,
    /// Withdrawals that it has yet to acknowledge and is told of one by one, as it acknowledges those before.
    pub later_withdrawals: VecDeque<Push>,
    /// Records before this one are in the last snapshot.
    pub known: u64,
}

impl Entry {
    /// The entry of a node that was not here before.
    pub fn new(outbox: Outbox, now: Instant) -> Self {
        Self {
            outbox,
            live: None,
            away_since: now,
            netmap: None,
            candidates: Vec::new(),
            later_withdrawals: VecDeque::new(),
            known: 0,
        }
    }

    /// Whether frames are made for the node now: not while it is too slow, for then it will get everything anew.
    pub fn takes_frames(&self) -> bool {
        self.live.as_ref().is_none_or(Live::has_room)
    }
}
