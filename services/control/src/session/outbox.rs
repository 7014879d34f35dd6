//! What is told to one node, numbered without gaps, and kept long enough to be told again.
//!
//! Numbers are given when a frame is made, never when it is dropped, so a node can see that it has missed nothing.
//! The newest frames are kept for a node that comes back; when they are more than the bounds allow, it gets
//! everything anew instead.

use std::collections::VecDeque;
use std::sync::Arc;

/// Most frames that are kept for a node.
const MAX_KEPT_FRAMES: usize = 256;

/// Most bytes that are kept for a node. A frame with an authorization has about four thousand.
const MAX_KEPT_BYTES: usize = 512 * 1024;

/// Frames of one node.
#[derive(Debug)]
pub struct Outbox {
    next: u64,
    told: u64,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    told_before_kept: u64,
}

#[derive(Debug)]
struct Kept {
    text: Arc<str>,
    told_after: u64,
}

impl Outbox {
    /// An outbox whose next frame follows the last one that the node has seen.
    pub fn new(last_frame: Option<u64>, checkpoint_size: u64) -> Self {
        Self {
            next: last_frame.and_then(|last| last.checked_add(1)).unwrap_or(1),
            told: checkpoint_size,
            kept: VecDeque::new(),
            kept_bytes: 0,
            told_before_kept: checkpoint_size,
        }
    }

    /// Number of the next frame.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Size of the newest checkpoint that the node was told.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Takes the frame with the number [`next`](Self::next), after which the node knows the checkpoint of this size.
    pub fn push(&mut self, text: Arc<str>, told: u64) {
        self.next = self.next.saturating_add(1);
        self.told = told;
        self.kept_bytes += text.len();
        self.kept.push_back(Kept { text, told_after: told });
        while self.kept.len() > MAX_KEPT_FRAMES || (self.kept_bytes > MAX_KEPT_BYTES && self.kept.len() > 1) {
            self.drop_oldest();
        }
    }

    /// The frames that the node has missed, if they are all there and it verified what it was told up to then.
    pub fn missed(&self, last_frame: u64, checkpoint_size: u64) -> Option<Vec<Arc<str>>> {
        let first_missed = last_frame.checked_add(1)?;
        let count = usize::try_from(self.next.checked_sub(first_missed)?).ok()?;
        let skip = self.kept.len().checked_sub(count)?;
        let told_then = match skip.checked_sub(1) {
            Some(before) => self.kept.get(before)?.told_after,
            None => self.told_before_kept,
        };
        (told_then == checkpoint_size)
            .then(|| self.kept.iter().skip(skip).map(|kept| kept.text.clone()).collect())
    }

    /// Forgets what was kept, because the node gets everything anew and has verified the checkpoint of this size.
    pub fn start_anew(&mut self, checkpoint_size: u64) {
        self.kept.clear();
        self.kept_bytes = 0;
        self.told = checkpoint_size;
        self.told_before_kept = checkpoint_size;
    }

    /// Numbers no frame lower than what the node has seen, from whichever server.
    pub fn go_on_after(&mut self, last_frame: Option<u64>) {
        self.next = self.next.max(last_frame.and_then(|last| last.checked_add(1)).unwrap_or(1));
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.kept_bytes = self.kept_bytes.saturating_sub(oldest.text.len());
            self.told_before_kept = oldest.told_after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Arc<str> {
        number.to_string().into()
    }

    fn with_frames(range: std::ops::RangeInclusive<u64>) -> Outbox {
        let mut outbox = Outbox::new(range.start().checked_sub(1), 100);
        for number in range {
            assert_eq!(outbox.next(), number);
            outbox.push(frame(number), 100 + number);
        }
        outbox
    }

    #[test]
    fn a_node_gets_exactly_what_it_missed() {
        let outbox = with_frames(5..=9);
        assert_eq!(outbox.missed(7, 107), Some(vec![frame(8), frame(9)]));
        assert_eq!(outbox.missed(9, 109), Some(vec![]));
        assert_eq!(outbox.missed(4, 100).unwrap().len(), 5);
    }

    #[test]
    fn what_is_not_kept_or_never_was_is_not_resumed() {
        let outbox = with_frames(5..=9);
        assert_eq!(outbox.missed(3, 100), None);
        assert_eq!(outbox.missed(10, 110), None);
        assert_eq!(outbox.missed(u64::MAX, 0), None);
    }

    #[test]
    fn a_node_that_verified_something_else_is_not_resumed() {
        let outbox = with_frames(5..=9);
        assert_eq!(outbox.missed(7, 106), None);
        assert_eq!(outbox.missed(7, 999), None);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let many = with_frames(1..=1000);
        assert_eq!(
            many.missed(1000 - MAX_KEPT_FRAMES as u64, 1100 - MAX_KEPT_FRAMES as u64).unwrap().len(),
            256
        );
        assert_eq!(many.missed(999 - MAX_KEPT_FRAMES as u64, 1099 - MAX_KEPT_FRAMES as u64), None);
        let mut large = Outbox::new(None, 0);
        let text: Arc<str> = "x".repeat(MAX_KEPT_BYTES / 4).into();
        (0..20).for_each(|n| large.push(text.clone(), n));
        assert!(large.kept_bytes <= MAX_KEPT_BYTES && large.kept.len() == 4);
    }

    #[test]
    fn numbers_go_on_after_everything_was_told_anew() {
        let mut outbox = with_frames(1..=3);
        outbox.start_anew(50);
        assert_eq!((outbox.next(), outbox.told()), (4, 50));
        assert_eq!(outbox.missed(2, 102), None);
        outbox.push(frame(4), 60);
        assert_eq!(outbox.missed(3, 50), Some(vec![frame(4)]));
    }
}
