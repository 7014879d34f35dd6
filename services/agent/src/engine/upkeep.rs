//! What happens by time alone.

use std::time::{Duration, Instant};

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
        let is_tick = self.next_tick <= now.instant;
        if is_tick {
            self.next_tick = after(now.instant, TICK);
        }
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for bytes in peers {
            let Some(peer) = self.peers.get_mut(&bytes) else { continue };
            let mut sealed = peer.tunnels.retries(now.instant, &mut self.random);
            if is_tick {
                sealed.extend(peer.tunnels.all_mut().filter_map(|tunnel| tunnel.tick()));
            }
            for message in sealed {
                self.send_sealed(bytes, message);
            }
            self.probe(now, bytes);
            self.exchange(now, bytes);
        }
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
        let tick = (!self.peers.is_empty()).then_some((self.next_tick, "WireGuard's timers"));
        let retries = self.peers.values().filter_map(|peer| peer.tunnels.retry_at());
        let probes = self.peers.values().filter_map(|peer| peer.paths.deadline());
        let says =
            self.testimony.as_ref().map(|_| self.peers.values().filter_map(|it| it.exchange.deadline()));
        let early = [self.early_handshakes.deadline(), self.early_packets.deadline()].into_iter().flatten();
        [(self.next_second, "authorizations, flows and keys")]
            .into_iter()
            .chain(servers)
            .chain(relay)
            .chain(pending)
            .chain(early.map(|at| (at, "what came too early has waited long enough")))
            .chain(tick)
            .chain(retries.map(|at| (at, "a handshake is not answered")))
            .chain(probes.map(|at| (at, "a path is probed")))
            .chain(says.into_iter().flatten().map(|at| (at, "a checkpoint is told to a peer")))
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
        self.tend_authorizations(now);
        self.filter.sweep(now.instant);
        self.announce_candidates();
        let key_expired = self.keys.expire(now.instant);
        for peer in self.peers.values_mut() {
            let freed = [
                // A tunnel with a key that is gone cannot go on; the next one has to.
                if key_expired { peer.tunnels.promote(now.instant, true) } else { None },
                peer.tunnels.expire(now.instant),
            ];
            for index in freed.into_iter().flatten() {
                self.by_index.remove(&index);
            }
        }
        self.report_closing();
    }
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}
