//! What happens by time alone.

use std::time::{Duration, Instant};

use writ_relay::wire::NodeBytes;

use super::Engine;
use super::relay::RelayClient;
use super::time::Now;
use super::wireguard::TICK;

const SECOND: Duration = Duration::from_secs(1);

impl Engine {
    /// Does what is due. Call it when [`Self::poll_timeout`] says, or at any other time.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.is_removed {
            return;
        }
        self.tend_servers(now);
        self.tend_pending(now);
        self.early_handshakes.expire(now.instant);
        self.early_packets.expire(now.instant);
        if self.next_second <= now.instant {
            self.next_second = after(now.instant, SECOND);
            self.tend_every_second(now);
        }
        for bytes in self.take_due(now.instant) {
            self.tend_peer(now, bytes);
            self.schedule(bytes);
        }
    }

    fn tend_peer(&mut self, now: Now, bytes: NodeBytes) {
        let Some(peer) = self.peers.get_mut(&bytes) else { return };
        if let Some(freed) = peer.tunnels.expire(now.instant) {
            self.by_index.remove(&freed);
        }
        let mut sealed = peer.tunnels.retries(now.instant, &mut self.random);
        if peer.tick_at <= now.instant {
            sealed.extend(peer.tunnels.all_mut().filter_map(|tunnel| tunnel.tick(now.instant)));
            // Idle peers are looked at all together, and seldom.
            let is_busy = peer.is_busy(now.instant);
            peer.tick_at = if is_busy { after(now.instant, TICK) } else { self.next_second };
        }
        for message in sealed {
            self.send_sealed(bytes, message);
        }
        self.probe(now, bytes);
        if self.peers.get(&bytes).is_some_and(|peer| peer.paths.is_guess_due(now.instant)) {
            self.guess(now, bytes);
        }
        self.probe_length(now, bytes);
        self.exchange(now, bytes);
    }

    /// When [`Self::handle_timeout`] has something to do next, and what.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.is_removed {
            return None;
        }
        let servers = self.stun.iter().map(|client| (client.deadline(), "a STUN server is asked"));
        let relay = self.relay.as_ref().map(|relay| (relay.deadline(), "hello to the relay"));
        let pending =
            self.pending.deadline(self.session_is_up).map(|at| (at, "a packet waits for an answer"));
        let peers = self.schedule.first().map(|(at, bytes)| {
            let peer = self.peers.get(&bytes);
            let deadline = peer.and_then(|peer| peer.deadline(self.testimony.is_some()));
            (at, deadline.map_or("a peer is gone, or has nothing to do any more", |(_, what)| what))
        });
        let early = [self.early_handshakes.deadline(), self.early_packets.deadline()].into_iter().flatten();
        [(self.next_second, "authorizations, flows and keys")]
            .into_iter()
            .chain(servers)
            .chain(relay)
            .chain(pending)
            .chain(early.map(|at| (at, "what came too early has waited long enough")))
            .chain(peers)
            .min_by_key(|(at, _)| *at)
    }

    fn tend_servers(&mut self, now: Now) {
        if let Some((to, hello)) =
            self.relay.as_mut().and_then(|relay| Some((relay.address(), RelayClient::poll(relay, now)?)))
        {
            self.transmits.copy(to, &hello);
            // Nobody answers: find out soon whether that is the relay or UDP.
            if self.relay.as_ref().is_some_and(RelayClient::falls_silent) {
                self.stun.iter_mut().for_each(|client| client.hasten(now.instant));
            }
        }
        let random = &mut self.random;
        let requests: Vec<_> = self
            .stun
            .iter_mut()
            .filter_map(|client| Some((client.server(), client.poll(now.instant, random)?)))
            .collect();
        for (server, request) in requests {
            self.transmits.copy(server, &request);
        }
    }

    fn tend_pending(&mut self, now: Now) {
        self.counters.unanswered += self.pending.expire(now.instant).len() as u64;
        self.ask(now);
    }

    fn tend_every_second(&mut self, now: Now) {
        self.keys.reset_limiters();
        self.tend_flood(now);
        self.tend_authorizations(now);
        self.filter.sweep(now.instant);
        self.announce_candidates();
        if self.keys.expire(now.instant) {
            // A tunnel with a key that is gone cannot go on; the next one has to.
            let freed = self.peers.values_mut().filter_map(|peer| peer.tunnels.promote(now.instant, true));
            for index in freed {
                self.by_index.remove(&index);
            }
            self.schedule_all();
        }
        self.report_closing();
    }

    fn tend_flood(&mut self, now: Now) {
        if self.limiter.is_flooded(now.instant) {
            let peers = self.peers.values().filter_map(|peer| peer.paths.direct());
            self.limiter.set_peers(peers.map(|address| address.ip()));
        } else {
            self.flood_since = None;
        }
    }
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}
