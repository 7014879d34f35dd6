//! When each peer has something to do, so that a thousand idle peers cost nothing until one of them has.
//!
//! A peer stands in the schedule with a moment that is never later than its deadline. It may be earlier, for deadlines also
//! move away: then nothing is found to do, and the peer is put where it belongs. Whatever may bring a deadline forward ends
//! with [`Engine::schedule`] or [`Engine::schedule_all`].

use std::collections::BTreeSet;
use std::time::Instant;

use writ_relay::wire::NodeBytes;

use super::Engine;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeSet<(Instant, NodeBytes)>,
}

impl Schedule {
    /// The next moment and whose it is.
    pub fn first(&self) -> Option<(Instant, NodeBytes)> {
        self.due.first().copied()
    }

    fn put(&mut self, peer: NodeBytes, before: Option<Instant>, at: Instant) {
        if let Some(before) = before {
            self.due.remove(&(before, peer));
        }
        self.due.insert((at, peer));
    }
}

impl Engine {
    /// A peer's deadline may have come nearer.
    pub(super) fn schedule(&mut self, bytes: NodeBytes) {
        let Some(peer) = self.peers.get_mut(&bytes) else { return };
        let Some((at, _)) = peer.deadline(self.testimony.is_some()) else { return };
        if peer.due.is_none_or(|due| at < due) {
            self.schedule.put(bytes, peer.due.replace(at), at);
        }
    }

    /// The deadlines of any peers may have come nearer.
    pub(super) fn schedule_all(&mut self) {
        let says = self.testimony.is_some();
        for (bytes, peer) in &mut self.peers {
            let Some((at, _)) = peer.deadline(says) else { continue };
            if peer.due.is_none_or(|due| at < due) {
                self.schedule.put(*bytes, peer.due.replace(at), at);
            }
        }
    }

    /// Takes the peers whose moment has come out of the schedule.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<NodeBytes> {
        let mut due = Vec::new();
        while let Some((at, bytes)) = self.schedule.first().filter(|(at, _)| *at <= now) {
            self.schedule.due.remove(&(at, bytes));
            // One that is gone, or came back since, has no such moment.
            if let Some(peer) = self.peers.get_mut(&bytes).filter(|peer| peer.due == Some(at)) {
                peer.due = None;
                due.push(bytes);
            }
        }
        due
    }
}
