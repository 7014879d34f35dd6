//! Checkpoints of the log, exchanged with peers inside the tunnels: every node is a witness for every other.
//!
//! What is said is a text: the newest checkpoint that this node has verified and kept or, once it has found one, the proof that
//! the log has shown two histories. A text travels in parts, each a small IPv4 packet of protocol 253 between the overlay
//! addresses, as probes do; it never leaves the tunnel. It is said when a tunnel stands, a few times more soon afterwards in case
//! it was lost, and then every minute, or sooner when there is something newer.
//!
//! A peer is believed nothing: [`crate::trust`] looks at what it said. Here is only held down how much one peer can make this
//! node hold (one text), take in (parts a second) and look at (texts a minute).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use writ_relay::wire::NodeBytes;
use writ_schema::NodeId;

use super::Engine;
use super::allowance::Allowance;
use super::answer::wrap_v4;
use super::packet::number;
use super::time::Now;

const MAGIC: [u8; 4] = *b"WRC1";
/// With the headers well within the tunnel's MTU.
const PART_BYTES: usize = 1024;
/// Two notes with sixteen signatures each and a proof of 64 hashes take twelve.
const MAX_PARTS: u8 = 16;

/// When a text is said again after the first time, and then over and over by the last.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
/// What is newer is said this long after what was said before, at the soonest.
const NEWS_AFTER: Duration = Duration::from_secs(15);

/// Parts that one peer may send at once, and how long each takes to be forgiven.
const PARTS_AT_ONCE: u32 = 64;
const PART_FORGIVEN_AFTER: Duration = Duration::from_millis(500);
/// The same for whole texts, each of which may cost a look at two signatures.
const TEXTS_AT_ONCE: u32 = 4;
const TEXT_FORGIVEN_AFTER: Duration = Duration::from_secs(5);
/// Texts that wait to be looked at.
const MAX_HEARD: usize = 64;

/// Something that a node says about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Testimony {
    /// The newest checkpoint that it has verified: a signed note.
    Checkpoint(Arc<str>),
    /// Proof that the log has shown two histories ([`writ_ledger::SplitView`]).
    SplitView(Arc<str>),
}

impl Testimony {
    fn kind(&self) -> u8 {
        match self {
            Self::Checkpoint(_) => 1,
            Self::SplitView(_) => 2,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Checkpoint(text) | Self::SplitView(text) => text,
        }
    }

    fn of(kind: u8, text: &str) -> Option<Self> {
        match kind {
            1 => Some(Self::Checkpoint(text.into())),
            2 => Some(Self::SplitView(text.into())),
            _ => None,
        }
    }
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    kind: u8,
    index: u8,
    count: u8,
    /// The same in all parts of one text.
    id: u32,
    bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// The parts of a text; none if it is too long to be said.
    fn all_of(testimony: &'a Testimony, id: u32) -> impl Iterator<Item = Self> {
        let chunks = testimony.text().as_bytes().chunks(PART_BYTES);
        let count = u8::try_from(chunks.len()).ok().filter(|count| *count <= MAX_PARTS).unwrap_or(0);
        (0..count).zip(chunks).map(move |(index, bytes)| Part {
            kind: testimony.kind(),
            index,
            count,
            id,
            bytes,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let head = [self.kind, self.index, self.count, 0];
        [&MAGIC[..], &head, &self.id.to_be_bytes(), self.bytes].concat()
    }

    /// Reads what follows the IP header.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let (magic, rest) = message.split_first_chunk::<4>()?;
        let ([kind, index, count, _], rest) = rest.split_first_chunk::<4>()?;
        let (id, bytes) = rest.split_first_chunk::<4>()?;
        let (kind, index, count, id) = (*kind, *index, *count, u32::from_be_bytes(*id));
        let is_whole = *magic == MAGIC && index < count && count <= MAX_PARTS && bytes.len() <= PART_BYTES;
        is_whole.then_some(Self { kind, index, count, id, bytes })
    }
}

/// A text of which not all parts have come.
#[derive(Debug)]
struct Incoming {
    kind: u8,
    id: u32,
    parts: Vec<Option<Vec<u8>>>,
}

impl Incoming {
    fn of(part: &Part<'_>) -> Self {
        Self { kind: part.kind, id: part.id, parts: vec![None; usize::from(part.count)] }
    }

    fn fits(&self, part: &Part<'_>) -> bool {
        (self.kind, self.id, self.parts.len()) == (part.kind, part.id, usize::from(part.count))
    }

    fn put(&mut self, part: &Part<'_>) {
        if let Some(place) = self.parts.get_mut(usize::from(part.index)) {
            *place = Some(part.bytes.to_vec());
        }
    }

    fn whole(&self) -> Option<Testimony> {
        let bytes: Option<Vec<&[u8]>> = self.parts.iter().map(Option::as_deref).collect();
        Testimony::of(self.kind, std::str::from_utf8(&bytes?.concat()).ok()?)
    }
}

/// The exchange with one peer.
#[derive(Debug)]
pub(super) struct Exchange {
    /// When something is said next, and how often it was said already; none before the tunnel stands.
    next: Option<(Instant, usize)>,
    said_at: Option<Instant>,
    incoming: Option<Incoming>,
    parts: Allowance,
    texts: Allowance,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            next: None,
            said_at: None,
            incoming: None,
            parts: Allowance::new(PARTS_AT_ONCE, PART_FORGIVEN_AFTER),
            texts: Allowance::new(TEXTS_AT_ONCE, TEXT_FORGIVEN_AFTER),
        }
    }
}

impl Exchange {
    /// The tunnel stands.
    pub fn tunnel_established(&mut self, now: Instant) {
        if self.next.is_none() {
            self.next = Some((now, 0));
        }
    }

    /// Another tunnel has taken over, perhaps to a peer that was started anew.
    pub fn restart(&mut self, now: Instant) {
        self.next = Some((now, 0));
    }

    /// There is something newer to say.
    fn has_news(&mut self, now: Instant, is_urgent: bool) {
        if is_urgent {
            return self.restart(now);
        }
        let soonest = self.said_at.and_then(|at| at.checked_add(NEWS_AFTER)).unwrap_or(now).max(now);
        self.next = self.next.map(|(at, times)| (at.min(soonest), times));
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Whether something is to be said now.
    fn is_due(&mut self, now: Instant, random: &mut impl Rng) -> bool {
        let Some((_, times)) = self.next.filter(|(at, _)| *at <= now) else { return false };
        let wait = AGAIN_AFTER.get(times).or(AGAIN_AFTER.last()).copied().unwrap_or_default();
        // Peers that met at the same moment need not go on speaking at the same moment.
        let wait = wait.mul_f64(random.random_range(0.9..1.1));
        self.next = now.checked_add(wait).map(|at| (at, times.saturating_add(1)));
        self.said_at = Some(now);
        true
    }

    fn take(&mut self, now: Instant, part: &Part<'_>) -> Option<Testimony> {
        if !self.parts.take(now) {
            return None;
        }
        if !self.incoming.as_ref().is_some_and(|incoming| incoming.fits(part)) {
            self.incoming = Some(Incoming::of(part));
        }
        let incoming = self.incoming.as_mut()?;
        incoming.put(part);
        let whole = incoming.whole()?;
        self.incoming = None;
        self.texts.take(now).then_some(whole)
    }
}

impl Engine {
    /// What this node has to say to its peers about the log from now on.
    pub fn testify(&mut self, now: Now, testimony: Testimony) {
        if self.testimony.as_ref() == Some(&testimony) {
            return;
        }
        let is_urgent = matches!(testimony, Testimony::SplitView(_));
        self.testimony = Some(testimony);
        for peer in self.peers.values_mut().filter(|peer| peer.exchange.next.is_some()) {
            peer.exchange.has_news(now.instant, is_urgent);
        }
        self.schedule_all();
    }

    /// The next thing that a peer said about the log. It is that peer's word, and nothing more.
    pub fn poll_heard(&mut self) -> Option<(NodeId, Testimony)> {
        self.heard.pop_front()
    }

    /// Says what is to be said to a peer now.
    pub(super) fn exchange(&mut self, now: Now, to: NodeBytes) {
        let Some(testimony) = &self.testimony else { return };
        let Some(peer) = self.peers.get_mut(&to) else { return };
        if !peer.exchange.is_due(now.instant, &mut self.random) {
            return;
        }
        let (own, id) = (self.own.membership.address_v4, self.random.random());
        let packets = Part::all_of(testimony, id)
            .filter_map(|part| wrap_v4(own, peer.address_v4, number::PROBE, &part.encode()));
        let sealed: Vec<_> =
            packets.filter_map(|packet| peer.tunnels.active_mut().seal(now.instant, &packet)).collect();
        for message in sealed {
            self.send_sealed(to, message);
        }
    }

    /// A part of something that a peer says.
    pub(super) fn take_part(&mut self, now: Now, from: NodeBytes, part: &Part<'_>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some(testimony) = peer.exchange.take(now.instant, part) else { return };
        if self.heard.len() < MAX_HEARD {
            self.heard.push_back((peer.node.clone(), testimony));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn long(bytes: usize) -> Testimony {
        Testimony::SplitView("abc".repeat(bytes.div_ceil(3))[..bytes].into())
    }

    fn sent(testimony: &Testimony, id: u32) -> Vec<Vec<u8>> {
        Part::all_of(testimony, id).map(|part| part.encode()).collect()
    }

    fn take(exchange: &mut Exchange, now: Instant, message: &[u8]) -> Option<Testimony> {
        Part::decode(message).and_then(|part| exchange.take(now, &part))
    }

    #[test]
    fn a_text_is_put_together_from_its_parts_in_any_order() {
        let now = Instant::now();
        for bytes in [1, PART_BYTES, PART_BYTES + 1, 5000, PART_BYTES * usize::from(MAX_PARTS)] {
            let (text, mut exchange) = (long(bytes), Exchange::default());
            let mut parts = sent(&text, 7);
            parts.reverse();
            let (last, first) = parts.split_last().unwrap();
            assert!(first.iter().all(|part| take(&mut exchange, now, part).is_none()));
            assert_eq!(take(&mut exchange, now, last), Some(text));
            assert!(exchange.incoming.is_none());
        }
        assert_eq!(sent(&long(PART_BYTES * usize::from(MAX_PARTS) + 1), 7).len(), 0, "too long to be said");
    }

    #[test]
    fn a_lost_part_costs_one_text_and_not_the_next() {
        let (now, mut exchange) = (Instant::now(), Exchange::default());
        assert_eq!(take(&mut exchange, now, &sent(&long(2000), 1)[0]), None);
        let next = sent(&long(1500), 2);
        assert_eq!(take(&mut exchange, now, &next[0]), None);
        assert_eq!(take(&mut exchange, now, &next[1]), Some(long(1500)));
    }

    #[test]
    fn it_is_said_soon_again_and_then_every_minute_and_news_sooner() {
        let (start, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut exchange = Exchange::default();
        assert!(!exchange.is_due(start, &mut random), "there is no tunnel yet");
        exchange.tunnel_established(start);
        let mut said = Vec::new();
        for second in 0..180 {
            if exchange.is_due(start + Duration::from_secs(second), &mut random) {
                said.push(second);
            }
        }
        assert!(said.len() == 5 && said[1] <= 3 && said[2] <= 15, "{said:?}");
        let now = start + Duration::from_secs(said[4]);
        exchange.has_news(now + Duration::from_secs(1), false);
        assert_eq!(exchange.deadline(), Some(now + NEWS_AFTER));
        exchange.has_news(now + Duration::from_secs(2), true);
        assert_eq!(exchange.deadline(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn a_flood_is_looked_at_now_and_then_only() {
        let (start, mut exchange) = (Instant::now(), Exchange::default());
        let mut looked_at = 0;
        for number in 0..100_000_u32 {
            let now = start + Duration::from_micros(100) * number;
            let text = Testimony::Checkpoint(number.to_string().into());
            looked_at += sent(&text, number).iter().filter_map(|part| take(&mut exchange, now, part)).count();
        }
        // Ten seconds of flood.
        assert_eq!(looked_at, usize::try_from(TEXTS_AT_ONCE).unwrap() + 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_part_or_none_and_hold_no_more_than_one_text(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..64),
        ) {
            let (now, mut exchange) = (Instant::now(), Exchange::default());
            for mut message in messages {
                message.splice(0..0, MAGIC);
                let _ = take(&mut exchange, now, &message);
                let held = exchange.incoming.iter().flat_map(|it| &it.parts).flatten().map(Vec::len).sum::<usize>();
                prop_assert!(held <= PART_BYTES * usize::from(MAX_PARTS));
            }
        }
    }
}
