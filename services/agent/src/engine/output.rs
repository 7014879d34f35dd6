//! What leaves the engine in quantity: datagrams and packets, in buffers that are used again.
//!
//! Datagrams are put together as they can be sent together (UDP GSO): to one destination, of one length, the last perhaps
//! shorter. The order of datagrams to one destination is the order in which they were written.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Most datagrams in one transmit: as many as Linux takes (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_DATAGRAMS: usize = 64;
/// Most bytes in one transmit, headers of IPv6 and UDP left out: what a UDP datagram can hold.
const MAX_TRANSMIT_BYTES: usize = 65_487;
/// Most bytes of datagrams that wait to be polled; the oldest go first.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// How many transmits back one to the same destination is looked for.
const LOOK_BACK: usize = 8;
/// Buffers that are kept for later.
const MAX_SPARE: usize = 32;

/// Most packets that wait to be taken; more are dropped.
const MAX_PACKETS: usize = 4_096;
/// Buffers of packets that are kept for later.
const MAX_SPARE_PACKETS: usize = 1_024;
/// Free bytes before each packet, for what a device wants to put there.
pub const HEADROOM: usize = 16;

/// Datagrams to one destination: one, or several of one length, the last of which may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to: a peer, the relay or a STUN server.
    pub to: SocketAddr,
    /// The datagrams, one behind the other.
    pub bytes: Vec<u8>,
    /// The length of each but the last.
    pub segment: usize,
    /// It is one datagram, and must arrive whole or not at all: it tries what the path carries.
    pub is_whole: bool,
}

impl Transmit {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment.max(1))
    }

    /// Whether another datagram of this length may follow.
    fn takes(&self, length: usize) -> bool {
        let is_open = !self.is_whole && self.segment > 0 && self.bytes.len().is_multiple_of(self.segment);
        is_open
            && length <= self.segment
            && self.bytes.len() / self.segment < MAX_DATAGRAMS
            && self.bytes.len().saturating_add(length) <= MAX_TRANSMIT_BYTES
    }
}

/// The datagrams that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Transmits {
    waiting: VecDeque<Transmit>,
    waiting_bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Transmits {
    /// Has a datagram of this length written at the end of a buffer. What is written there must be of that length, or
    /// nothing; the writer's answer is passed on.
    pub fn write<T>(&mut self, to: SocketAddr, length: usize, writer: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let recent = self.waiting.iter_mut().rev().take(LOOK_BACK).find(|transmit| transmit.to == to);
        if let Some(transmit) = recent.filter(|transmit| transmit.takes(length)) {
            let before = transmit.bytes.len();
            let answer = writer(&mut transmit.bytes);
            self.waiting_bytes =
                self.waiting_bytes.saturating_add(transmit.bytes.len()).saturating_sub(before);
            return answer;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        let answer = writer(&mut bytes);
        if bytes.is_empty() {
            self.spare.push(bytes);
        } else {
            self.push(Transmit { to, segment: bytes.len(), bytes, is_whole: false });
        }
        answer
    }

    /// A datagram that is written already.
    pub fn copy(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.write(to, datagram.len(), |buffer| buffer.extend_from_slice(datagram));
    }

    /// A datagram that the network may not cut in two.
    pub fn whole(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        self.push(Transmit { to, segment: datagram.len(), bytes: datagram, is_whole: true });
    }

    fn push(&mut self, transmit: Transmit) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(transmit.bytes.len());
        self.waiting.push_back(transmit);
        while self.waiting_bytes > MAX_WAITING_BYTES {
            let Some(oldest) = self.pop() else { return };
            self.reuse(oldest);
        }
    }

    pub fn pop(&mut self) -> Option<Transmit> {
        let first = self.waiting.pop_front()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(first.bytes.len());
        Some(first)
    }

    /// Takes the buffer of a transmit that was sent.
    pub fn reuse(&mut self, transmit: Transmit) {
        if self.spare.len() < MAX_SPARE {
            let mut bytes = transmit.bytes;
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

/// The packets that wait for the TUN device, each behind [`HEADROOM`] bytes in a buffer of its own.
#[derive(Debug, Default)]
pub(super) struct Packets {
    buffers: Vec<Vec<u8>>,
    waiting: usize,
}

impl Packets {
    /// The buffer of the next packet, for [`Self::keep`] if it becomes one.
    pub fn next(&mut self) -> &mut Vec<u8> {
        if self.waiting >= self.buffers.len() {
            self.buffers.push(Vec::new());
        }
        &mut self.buffers[self.waiting]
    }

    /// The packet in the next buffer, headroom left out.
    pub fn written(&self) -> &[u8] {
        self.buffers.get(self.waiting).and_then(|buffer| buffer.get(HEADROOM..)).unwrap_or_default()
    }

    /// What is in the next buffer waits from now on, unless too many do.
    pub fn keep(&mut self) {
        self.waiting = self.waiting.saturating_add(1).min(MAX_PACKETS).min(self.buffers.len());
    }

    /// A packet that is written already.
    pub fn copy(&mut self, packet: &[u8]) {
        let buffer = self.next();
        buffer.clear();
        buffer.extend_from_slice(&[0; HEADROOM]);
        buffer.extend_from_slice(packet);
        self.keep();
    }

    pub fn waiting(&mut self) -> &mut [Vec<u8>] {
        self.buffers.get_mut(..self.waiting).unwrap_or_default()
    }

    pub fn clear(&mut self) {
        self.waiting = 0;
        self.buffers.truncate(MAX_SPARE_PACKETS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(number: u8) -> SocketAddr {
        ([192, 0, 2, number], 4500).into()
    }

    fn drained(transmits: &mut Transmits) -> Vec<Transmit> {
        std::iter::from_fn(|| transmits.pop()).collect()
    }

    #[test]
    fn datagrams_of_one_length_go_together_and_a_shorter_one_ends_them() {
        let mut transmits = Transmits::default();
        for length in [100, 100, 60, 100, 120] {
            transmits.copy(address(1), &vec![1; length]);
        }
        let lengths: Vec<_> = drained(&mut transmits).iter().map(|it| (it.segment, it.bytes.len())).collect();
        assert_eq!(lengths, [(100, 260), (100, 100), (120, 120)]);
    }

    #[test]
    fn a_datagram_that_must_stay_whole_goes_alone() {
        let mut transmits = Transmits::default();
        transmits.copy(address(1), &[1; 100]);
        transmits.whole(address(1), vec![2; 100]);
        transmits.copy(address(1), &[3; 100]);
        let sent: Vec<_> = drained(&mut transmits).iter().map(|it| (it.bytes[0], it.is_whole)).collect();
        assert_eq!(sent, [(1, false), (2, true), (3, false)]);
    }

    #[test]
    fn a_writer_that_writes_nothing_leaves_nothing() {
        let mut transmits = Transmits::default();
        transmits.write(address(1), 10, |_| ());
        transmits.copy(address(1), &[1; 10]);
        transmits.write(address(1), 10, |_| ());
        assert_eq!(
            drained(&mut transmits),
            [Transmit { to: address(1), bytes: vec![1; 10], segment: 10, is_whole: false }]
        );
    }

    #[test]
    fn when_nobody_sends_the_oldest_are_dropped_and_memory_is_bounded() {
        let mut transmits = Transmits::default();
        for number in 0..60_000_u32 {
            transmits.copy(address(1), &number.to_be_bytes().repeat(300));
        }
        let left = drained(&mut transmits);
        let bytes = left.iter().map(|transmit| transmit.bytes.len()).sum::<usize>();
        assert!(bytes <= MAX_WAITING_BYTES && bytes > MAX_WAITING_BYTES / 2, "{bytes}");
        let newest = left.last().and_then(|transmit| transmit.datagrams().last()).unwrap();
        assert_eq!(&newest[..4], 59_999_u32.to_be_bytes());
        assert_eq!(transmits.waiting_bytes, 0);
    }

    proptest! {
        /// Whatever is written to whomever comes out once, whole, and for each destination in order.
        #[test]
        fn each_destination_gets_its_datagrams_in_order(
            written in proptest::collection::vec((0_u8..12, 1_usize..5), 0..500),
        ) {
            let mut transmits = Transmits::default();
            let mut expected = vec![Vec::new(); 12];
            for (number, (to, length)) in (0_u16..).zip(written) {
                let datagram = number.to_be_bytes().repeat(length * 20);
                transmits.copy(address(to), &datagram);
                expected[usize::from(to)].push(datagram);
            }
            let mut got = vec![Vec::new(); 12];
            for transmit in drained(&mut transmits) {
                let SocketAddr::V4(to) = transmit.to else { unreachable!() };
                prop_assert!(transmit.datagrams().count() <= MAX_DATAGRAMS);
                prop_assert!(transmit.bytes.len() <= MAX_TRANSMIT_BYTES);
                let list = &mut got[usize::from(to.ip().octets()[3])];
                list.extend(transmit.datagrams().map(<[u8]>::to_vec));
                transmits.reuse(transmit);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
