//! Guesses at the port that a peer's NAT has drawn for the way to this node.
//!
//! A NAT whose mapping depends on the destination sends what is for this node from another port than what is for a STUN
//! server, and a NAT in front of this node lets nothing in from a port that was not sent to. Where the servers saw ports near
//! each other, the unknown one lies near them as well: it is drawn from the same few, or in sequence. So a probe goes to each
//! port around them, from the one port that the peer sends to. The right one is let in at the other end, because the peer
//! probes all the while, and opens this end for what the peer sends.
//!
//! That needs no socket besides, and costs 127 small datagrams a volley. There are few volleys, ever farther apart, and only
//! while packets pass and none of the usual probes is answered.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use writ_relay::wire::NodeBytes;

use super::Engine;
use super::data::is_outside;
use super::nat::{NEAR, NatKind, window};
use super::probe::Probe;
use super::relay::RelayTransport;
use super::time::Now;

/// After the first packet that comes over the relay: by then the usual probes have had their time.
const FIRST_AFTER: Duration = Duration::from_millis(600);
/// Waits between volleys.
const WAITS: [Duration; 8] = [
    Duration::from_millis(1_500),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
];
/// The volley at which those begin that find the peer after a longer change only.
const SELDOM: usize = 2;
/// Volleys to all peers together, and how long each takes to be forgiven.
pub(super) const VOLLEYS_AT_ONCE: u32 = 8;
pub(super) const VOLLEY_FORGIVEN_AFTER: Duration = Duration::from_secs(2);
/// Ports below are no NAT's to draw, unless it was seen to.
const FIRST_PORT: u16 = 1_024;

/// Ports of an address, the lowest and the highest that were seen.
type Window = (IpAddr, [u16; 2]);

/// The guesses at one peer's port.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// Around what is guessed; nothing where it need not be, or cannot.
    window: Option<Window>,
    /// The same before it was lost sight of.
    before: Option<Window>,
    next: Option<Instant>,
    last: Option<Instant>,
    volleys: usize,
}

impl Guesses {
    /// Where servers see the peer. Elsewhere than before, there is new hope.
    pub fn aim(&mut self, seen: &[SocketAddr]) {
        self.window = draws(seen);
        if let Some(window) = self.window {
            if !self.before.is_some_and(|before| overlap(before, window)) {
                self.begin_anew();
            }
            self.before = Some(window);
        }
    }

    /// Whether the peer's port depends on the destination and can be guessed.
    pub fn can_be_made(&self) -> bool {
        self.window.is_some()
    }

    /// What failed before may succeed now, or has succeeded.
    pub fn begin_anew(&mut self) {
        (self.next, self.last, self.volleys) = (None, None, 0);
    }

    /// Packets pass over the relay, and no other path is known.
    pub fn wanted(&mut self, now: Instant) {
        if self.window.is_none() || self.next.is_some() {
            return;
        }
        let wait = WAITS.get(self.volleys.saturating_sub(1)).or(WAITS.last()).copied().unwrap_or_default();
        let again = self.last.and_then(|last| last.checked_add(wait));
        self.next = now.checked_add(FIRST_AFTER).max(again);
    }

    /// There is another path, or nothing to send: until [`Self::wanted`].
    pub fn rest(&mut self) {
        self.next = None;
    }

    /// When there is something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Where to send probes now, if it is time and they `may` succeed.
    pub fn poll(&mut self, now: Instant, may: impl FnOnce() -> bool) -> Vec<SocketAddr> {
        let is_due = self.next.is_some_and(|at| at <= now);
        let window = self.window.filter(|_| is_due);
        if is_due {
            self.next = None;
        }
        let window = window.filter(|_| {
            self.last = Some(now);
            let may = may();
            self.volleys = if may { self.volleys.saturating_add(1) } else { self.volleys.max(SELDOM) };
            may
        });
        if is_due {
            self.wanted(now);
        }
        let Some((ip, [low, high])) = window else { return Vec::new() };
        let (first, last) = (high.saturating_sub(NEAR - 1), low.saturating_add(NEAR - 1));
        (first.max(FIRST_PORT.min(low))..=last).map(|port| SocketAddr::new(ip, port)).collect()
    }
}

/// The first IPv4 address at which several ports were seen that lie near each other.
fn draws(seen: &[SocketAddr]) -> Option<Window> {
    let addresses = seen.iter().filter(|address| address.is_ipv4()).map(SocketAddr::ip);
    addresses
        .filter_map(|ip| window(seen, ip).map(|(ports, _)| (ip, ports)))
        .find(|(_, [low, high])| low != high)
}

fn overlap((ip, [low, high]): Window, (other, [other_low, other_high]): Window) -> bool {
    ip == other && low <= other_high && other_low <= high
}

impl Engine {
    /// Probes the ports that a peer's NAT may have drawn for this node, where that is needed and this node's own port is known.
    pub(super) fn guess(&mut self, now: Now, to: NodeBytes) {
        let is_known = matches!(self.nat_kind(), NatKind::None | NatKind::EndpointIndependent);
        let is_udp = self.relay.as_ref().is_some_and(|relay| relay.transport() == RelayTransport::Udp);
        let (accepted, hosts) = (self.filter.accepted(), self.candidates.hosts());
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let own = self.own.membership.address_v4;
        let may = || is_known && is_udp && self.volleys.take(now.instant);
        let (id, guesses) = peer.paths.poll_guesses(now.instant, &mut self.random, may);
        let Some(ping) = Probe::Ping(id).encode(own, peer.address_v4) else { return };
        for address in guesses.into_iter().filter(|address| is_outside(accepted, hosts, address.ip())) {
            match peer.tunnels.active_mut().seal(now.instant, &ping) {
                Some(bytes) if bytes.first() != Some(&1) => self.transmits.copy(address, &bytes),
                // The session has run out: the first of them waits for a new one.
                Some(initiation) => return self.send_sealed(to, initiation),
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([203, 0, 113, 9], *port))).collect()
    }

    fn volley(guesses: &mut Guesses, now: Instant) -> Vec<u16> {
        guesses.poll(now, || true).iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn every_port_that_the_nat_may_draw_is_tried_and_few_others() {
        let (now, mut guesses) = (Instant::now(), Guesses::default());
        guesses.aim(&seen(&[40_010, 40_050, 40_020]));
        guesses.wanted(now);
        assert_eq!(volley(&mut guesses, now).len(), 0, "the usual probes come first");
        let ports = volley(&mut guesses, now + FIRST_AFTER);
        assert_eq!((ports[0], ports[ports.len() - 1]), (39_987, 40_073));
        assert!((40_000..40_064).all(|port| ports.contains(&port)));
        for ports in [[1, 2], [u16::MAX - 1, u16::MAX], [1_024, 1_025]] {
            let mut guesses = Guesses::default();
            guesses.aim(&seen(&ports));
            guesses.wanted(now);
            let tried = volley(&mut guesses, now + FIRST_AFTER);
            assert!(tried.len() < 128 && !tried.contains(&0) && tried.contains(&ports[0]), "{tried:?}");
        }
    }

    #[test]
    fn nothing_is_guessed_where_one_port_is_seen_or_ports_are_far_apart() {
        for ports in [&[][..], &[40_000], &[40_000, 40_000], &[40_000, 40_064]] {
            let mut guesses = Guesses::default();
            guesses.aim(&seen(ports));
            assert!(!guesses.can_be_made(), "{ports:?}");
        }
    }

    #[test]
    fn volleys_become_seldom_until_there_is_new_hope() {
        let (start, mut guesses) = (Instant::now(), Guesses::default());
        guesses.aim(&seen(&[40_000, 40_001]));
        let mut fired = 0;
        let mut fire = |guesses: &mut Guesses, from: u64, seconds: u64| {
            for second in from..from + seconds {
                let now = start + Duration::from_secs(second);
                guesses.wanted(now);
                fired += usize::from(!volley(guesses, now).is_empty());
            }
            std::mem::take(&mut fired)
        };
        assert_eq!(fire(&mut guesses, 0, 3_600), 9);
        guesses.aim(&seen(&[40_001, 40_003]));
        assert_eq!(fire(&mut guesses, 3_600, 60), 0, "the same ports, a few later");
        guesses.aim(&[]);
        guesses.aim(&seen(&[50_001, 50_003]));
        assert!(fire(&mut guesses, 3_660, 60) > 2);
    }

    #[test]
    fn what_may_not_succeed_is_not_sent_and_asked_for_seldom() {
        let (now, mut guesses) = (Instant::now(), Guesses::default());
        guesses.aim(&seen(&[40_000, 40_001]));
        guesses.wanted(now);
        assert_eq!(guesses.poll(now + FIRST_AFTER, || false), []);
        guesses.wanted(now + FIRST_AFTER);
        assert_eq!(guesses.deadline(), Some(now + FIRST_AFTER + WAITS[SELDOM - 1]));
    }
}
