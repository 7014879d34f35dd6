//! Notices that the network under this host has changed, and that the host has slept.
//!
//! The kernel tells of changes over netlink (rtnetlink(7)). What it says is only a reason to look: what counts is whether the
//! addresses, the default routes or the running interfaces are others than before, or whether something went away, even if
//! it came back at once, or packets are led by other rules (ip-rule(8)), as VPNs set them up.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr as NetlinkAddress, TokioSocket};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::net;

/// The multicast groups of rtnetlink for links, addresses, routes and rules.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;
const RTM_DELADDR: u16 = 21;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const HEADER_BYTES: usize = 16;
/// Changes come in bursts: they are looked at together, after so long.
const SETTLE: Duration = Duration::from_millis(250);
/// Without netlink, and in case a message was lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A clock that is off by less has been set, not slept through.
const SHORTEST_SLEEP: Duration = Duration::from_secs(2);

/// What is known about the network under this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Network {
    /// Where this host can be reached, with the port that is listened on.
    pub addresses: Vec<SocketAddr>,
    running: BTreeSet<String>,
    default_routes: BTreeSet<String>,
}

impl Network {
    /// Looks, leaving the tunnel itself out.
    pub fn look(tun: &str, port: u16) -> Self {
        let mut addresses = net::host_addresses(tun, port);
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses, running: running_interfaces(tun), default_routes: default_routes(tun) }
    }

    /// The interfaces with a way out of this host.
    pub fn uplinks(&self) -> BTreeSet<String> {
        let interfaces = self.default_routes.iter().filter_map(|route| route.split(' ').next());
        interfaces.map(str::to_owned).collect()
    }
}

/// Listens for changes.
pub(super) struct Changes {
    socket: Option<TokioSocket>,
    look_at: Instant,
    /// Since the last look something happened that may have cut a path.
    was_cut: bool,
}

impl Changes {
    /// Begins to listen. Where the kernel forbids it, one looks every few seconds instead.
    pub fn listen() -> Self {
        let socket = subscribe().map_err(|error| {
            tracing::warn!(%error, "the kernel does not tell of changes of the network; looking every few seconds");
        });
        Self { socket: socket.ok(), look_at: Instant::now(), was_cut: false }
    }

    /// Waits until it is time to look. Tells whether something happened meanwhile that may have cut a path. May be dropped and called again.
    pub async fn next(&mut self) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.look_at) => {
                    self.look_at = after(LOOK_INTERVAL);
                    return std::mem::take(&mut self.was_cut);
                }
                cuts = heard(self.socket.as_ref()) => {
                    self.was_cut |= cuts;
                    self.look_at = self.look_at.min(after(SETTLE));
                }
            }
        }
    }
}

/// Tells sleep from waking time: the one clock of the kernel goes on while the host sleeps, the other does not.
#[derive(Debug)]
pub(super) struct Sleep {
    slept: Option<Duration>,
}

impl Sleep {
    /// Begins to watch.
    pub fn watch() -> Self {
        Self { slept: slept_so_far() }
    }

    /// For how long the host has slept since the last call, if it has.
    pub fn since_last_look(&mut self) -> Option<Duration> {
        self.compare(slept_so_far())
    }

    fn compare(&mut self, slept: Option<Duration>) -> Option<Duration> {
        let before = std::mem::replace(&mut self.slept, slept)?;
        slept?.checked_sub(before).filter(|slept| *slept >= SHORTEST_SLEEP)
    }
}

fn slept_so_far() -> Option<Duration> {
    let read = |clock| clock_gettime(clock).ok().map(Duration::from);
    read(ClockId::CLOCK_BOOTTIME)?.checked_sub(read(ClockId::CLOCK_MONOTONIC)?)
}

fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&NetlinkAddress::new(0, GROUPS))?;
    Ok(socket)
}

/// Waits for a message. Tells whether what it tells of may have cut a path.
async fn heard(socket: Option<&TokioSocket>) -> bool {
    let Some(socket) = socket else { return std::future::pending().await };
    match socket.recv_from_full().await {
        Ok((messages, _)) => kinds(&messages).any(may_cut),
        // More has happened than the kernel could tell.
        Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => true,
        // A socket that cannot be read: one looks every few seconds all the same.
        Err(_) => std::future::pending().await,
    }
}

/// The types of the netlink messages in a datagram.
fn kinds(mut messages: &[u8]) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let [l0, l1, l2, l3, t0, t1, ..] = *messages.first_chunk::<HEADER_BYTES>()?;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        messages = messages.get(length.max(HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
        Some(u16::from_ne_bytes([t0, t1]))
    })
}

fn may_cut(kind: u16) -> bool {
    matches!(kind, RTM_DELADDR | RTM_DELROUTE | RTM_NEWRULE | RTM_DELRULE)
}

fn running_interfaces(tun: &str) -> BTreeSet<String> {
    let interfaces = getifaddrs().into_iter().flatten();
    let outside = interfaces.filter(|interface| {
        let address = interface.address.as_ref();
        let has_address =
            address.is_some_and(|it| it.as_sockaddr_in().is_some() || it.as_sockaddr_in6().is_some());
        has_address
            && interface.interface_name != tun
            && interface.flags.contains(InterfaceFlags::IFF_RUNNING)
            && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    outside.map(|interface| interface.interface_name).collect()
}

/// Interface and gateway of each, the tunnel itself apart (proc(5), `/proc/net/route`; the kernel's `ipv6_route`). By way of `self`, which a service
/// that sees processes only (systemd's `ProcSubset=pid`) has as well.
fn default_routes(tun: &str) -> BTreeSet<String> {
    let v4 = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
    let v4 = v4.lines().filter_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
        [interface, "00000000", gateway, ..] => Some(format!("{interface} {gateway}")),
        _ => None,
    });
    let v6 = v6.lines().filter_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
        [to, "00", _, _, gateway, .., interface] if interface != "lo" && to.bytes().all(|it| it == b'0') => {
            Some(format!("{interface} {gateway}"))
        }
        _ => None,
    });
    let is_tunnel = |route: &String| route.split(' ').next() == Some(tun);
    v4.chain(v6).filter(|route| !is_tunnel(route)).collect()
}

fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn every_message_of_a_datagram_is_seen_and_a_length_that_lies_ends_it() {
        let datagram = [message(16, 33), message(RTM_DELROUTE, 16)].concat();
        assert_eq!(kinds(&datagram).collect::<Vec<_>>(), [16, RTM_DELROUTE]);
        assert!(kinds(&datagram).any(may_cut));
        let mut lying = message(24, 16);
        lying[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(kinds(&lying).collect::<Vec<_>>(), [24]);
        assert_eq!(kinds(&[0; 16]).count(), 1, "a length of nothing does not stand still");
        assert_eq!(kinds(&[0; 15]).count(), 0);
    }

    #[test]
    fn only_time_that_one_clock_missed_is_sleep() {
        let mut sleep = Sleep { slept: Some(Duration::from_secs(10)) };
        assert_eq!(sleep.compare(Some(Duration::from_millis(10_400))), None);
        assert_eq!(sleep.compare(Some(Duration::from_millis(70_400))), Some(Duration::from_secs(60)));
        assert_eq!(sleep.compare(Some(Duration::from_millis(70_400))), None);
        assert_eq!(sleep.compare(None), None, "a clock that cannot be read");
        assert_eq!(Sleep::watch().since_last_look(), None);
    }
}
