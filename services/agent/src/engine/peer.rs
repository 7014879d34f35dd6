//! One peer: its keys, its tunnels, its paths.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use boringtun::x25519::PublicKey;
use rand::Rng;
use writ_relay::wire::NodeBytes;
use writ_schema::NodeId;

use super::exchange::Exchange;
use super::mtu::{PathMtu, Way};
use super::paths::Paths;
use super::wireguard::{SESSION_LIFETIME, TICK, Tunnel};

/// How long packets of a tunnel are still taken after another took its place.
pub(super) const OLD_TUNNEL_LIFETIME: Duration = SESSION_LIFETIME;

/// A peer exists while an authorization with it is live.
pub(super) struct Peer {
    pub node: NodeId,
    pub bytes: NodeBytes,
    pub name: Option<String>,
    pub address_v4: Ipv4Addr,
    pub addresses: [IpAddr; 2],
    pub generation: u64,
    pub key: PublicKey,
    pub tunnels: Tunnels,
    pub paths: Paths,
    pub mtu: PathMtu,
    pub exchange: Exchange,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// When WireGuard's timers run next, if a tunnel is awake.
    pub tick_at: Instant,
    /// The moment at which the peer stands in the schedule.
    pub due: Option<Instant>,
}

impl Peer {
    /// A packet goes to the peer.
    pub fn sent(&mut self, now: Instant) {
        let was_idle = self.paths.sent(now);
        self.wake(now, was_idle);
    }

    /// A packet came from the peer.
    pub fn received(&mut self, now: Instant) {
        let was_idle = self.paths.received(now);
        self.wake(now, was_idle);
    }

    fn wake(&mut self, now: Instant, was_idle: bool) {
        if was_idle {
            self.tick_at = now.checked_add(TICK).map_or(self.tick_at, |soon| self.tick_at.min(soon));
            self.mtu.wake(now);
        }
    }

    /// The way that packets go.
    pub fn way(&self) -> Way {
        self.paths.direct().map_or(Way::Relay, Way::Direct)
    }

    /// Whether WireGuard's timers have to be exact: packets pass, or a handshake is under way.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.paths.is_active(now) || self.tunnels.retry_at().is_some()
    }

    /// When there is something to do next, and what. Never, while there was nothing to say to the peer.
    pub fn deadline(&self, says: bool) -> Option<(Instant, &'static str)> {
        let retry = self.tunnels.retry_at().map(|at| (at, "a handshake is not answered"));
        let probe = self.paths.deadline().map(|at| (at, "a path is probed"));
        let says = self.exchange.deadline().filter(|_| says);
        let says = says.map(|at| (at, "a checkpoint is told to a peer"));
        let stands = self.tunnels.active().established().is_some();
        let mtu = stands.then(|| (self.mtu.deadline(), "the length of packets is looked for"));
        let tick = self.tunnels.is_awake().then_some((self.tick_at, "WireGuard's timers"));
        let old = self.tunnels.expires_at().map(|at| (at, "the time of an old tunnel is over"));
        [tick, retry, probe, mtu, says, old].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// The tunnels with a peer. While a key changes there are two: packets flow through the old one until the handshake of
/// the new one is done, and what is still on its way through the old one is taken for a while longer.
pub(super) struct Tunnels {
    active: Tunnel,
    next: Option<Tunnel>,
    old: Option<(Tunnel, Instant)>,
}

impl Tunnels {
    pub fn new(active: Tunnel) -> Self {
        Self { active, next: None, old: None }
    }

    /// The tunnel that packets are sent through.
    pub fn active(&self) -> &Tunnel {
        &self.active
    }

    pub fn active_mut(&mut self) -> &mut Tunnel {
        &mut self.active
    }

    /// Puts a tunnel with a new key beside the active one, or in its place while that sleeps. Gives the indices that are free now.
    pub fn prepare(&mut self, now: Instant, next: Tunnel) -> [Option<u32>; 2] {
        let dropped = self.next.replace(next).map(|dropped| dropped.index());
        let is_asleep = !self.active.is_awake();
        [dropped, if is_asleep { self.promote(now, true) } else { None }]
    }

    /// Whether any of them is awake.
    pub fn is_awake(&self) -> bool {
        let old = self.old.as_ref().map(|(tunnel, _)| tunnel);
        [Some(&self.active), self.next.as_ref(), old].into_iter().flatten().any(Tunnel::is_awake)
    }

    /// The tunnel with this index.
    pub fn by_index(&mut self, index: u32) -> Option<&mut Tunnel> {
        self.all_mut().find(|tunnel| tunnel.index() == index)
    }

    /// The tunnel between these keys.
    pub fn by_keys(&mut self, ours: &PublicKey, theirs: &PublicKey) -> Option<&mut Tunnel> {
        self.all_mut().find(|tunnel| tunnel.ours() == ours && tunnel.theirs() == theirs)
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Tunnel> {
        let old = self.old.as_mut().map(|(tunnel, _)| tunnel);
        [Some(&mut self.active), self.next.as_mut(), old].into_iter().flatten()
    }

    /// Lets the next tunnel take over if its handshake is done, or at once if `force`d (its predecessor's key is gone).
    /// Gives the indices that are free now.
    pub fn promote(&mut self, now: Instant, force: bool) -> Option<u32> {
        let next = self.next.take_if(|next| force || next.established().is_some())?;
        let previous = std::mem::replace(&mut self.active, next);
        let until = now.checked_add(OLD_TUNNEL_LIFETIME)?;
        self.old.replace((previous, until)).map(|(dropped, _)| dropped.index())
    }

    /// When [`Self::expire`] has something to do.
    pub fn expires_at(&self) -> Option<Instant> {
        self.old.as_ref().map(|(_, until)| *until)
    }

    /// Drops the old tunnel when its time is over. Gives its index.
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        self.old.take_if(|(_, until)| *until <= now).map(|(dropped, _)| dropped.index())
    }

    pub fn indices(&mut self) -> Vec<u32> {
        self.all_mut().map(|tunnel| tunnel.index()).collect()
    }

    /// First handshakes that are to be sent again. That of a new key is not given up while the one before is in use.
    pub fn retries(&mut self, now: Instant, random: &mut impl Rng) -> Vec<Vec<u8>> {
        self.active.give_up(now);
        [Some(&mut self.active), self.next.as_mut()]
            .into_iter()
            .flatten()
            .filter_map(|tunnel| tunnel.retry(now, random))
            .collect()
    }

    pub fn retry_at(&self) -> Option<Instant> {
        [Some(&self.active), self.next.as_ref()].into_iter().flatten().filter_map(Tunnel::retry_at).min()
    }
}
