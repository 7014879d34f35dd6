//! What arrives at a host from the network it is plugged into: which UDP datagrams, from where, and when.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

use super::error::LabError;
use super::namespace::Namespace;

/// How often it looks whether it should stop.
const LOOK_MILLISECONDS: i64 = 50;
/// More kinds of datagrams than that are not told apart any more.
const KINDS_LIMIT: usize = 1 << 14;
/// What is read of a packet: the headers of IPv4 and UDP.
const HEAD_BYTES: usize = 128;

const UDP: u8 = 17;
const UDP_BYTES: usize = 8;

/// Watches the datagrams that reach an address, until it is dropped.
#[derive(Debug)]
pub struct Arrivals {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: Ipv4Addr,
    stop: AtomicBool,
    seen: Mutex<HashMap<Datagram, Seen>>,
}

/// What tells datagrams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Who sent it, as the host sees it.
    pub from: Ipv4Addr,
    /// Bytes after the UDP header.
    pub bytes: usize,
}

/// Datagrams of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When the first came.
    pub first: Instant,
    /// How many came.
    pub count: usize,
}

impl Arrivals {
    pub(crate) fn watch(namespace: &Arc<Namespace>, address: Ipv4Addr) -> Result<Self, LabError> {
        let action = format!("watch what arrives in {}", namespace.name());
        let watching = namespace.run(listen)?.map_err(LabError::errno(action))?;
        let shared = Arc::new(Shared { address, stop: AtomicBool::new(false), seen: Mutex::default() });
        let noting = Arc::clone(&shared);
        let thread = namespace.thread("arrivals", move || note(&watching, &noting))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// All that came of the kinds that are wanted, taken together.
    #[must_use]
    pub fn of(&self, wanted: impl Fn(Datagram) -> bool) -> Option<Seen> {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = seen.iter().filter(|(datagram, _)| wanted(**datagram)).map(|(_, seen)| *seen);
        wanted.reduce(|one, other| Seen {
            first: one.first.min(other.first),
            count: one.count.saturating_add(other.count),
        })
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen() -> Result<OwnedFd, Errno> {
    // Without the headers of the link, which not every interface has.
    let kind = SockType::Datagram;
    let socket = socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(LOOK_MILLISECONDS))?;
    Ok(socket)
}

fn note(socket: &OwnedFd, shared: &Shared) {
    let mut head = [0; HEAD_BYTES];
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok(length) = recv(socket.as_raw_fd(), &mut head, MsgFlags::empty()) else { continue };
        let Some((datagram, to)) = head.get(..length).and_then(read) else { continue };
        if to != shared.address || datagram.from == shared.address {
            continue;
        }
        let (mut seen, now) = (shared.seen.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if seen.len() < KINDS_LIMIT || seen.contains_key(&datagram) {
            let seen = seen.entry(datagram).or_insert(Seen { first: now, count: 0 });
            seen.count = seen.count.saturating_add(1);
        }
    }
}

/// Reads the head of a packet: the datagram and where it goes; nothing if it is not UDP over IPv4.
fn read(packet: &[u8]) -> Option<(Datagram, Ipv4Addr)> {
    let first = *packet.first()?;
    if first >> 4 != 4 || *packet.get(9)? != UDP {
        return None;
    }
    let address = |start: usize| -> Option<Ipv4Addr> {
        Some(<[u8; 4]>::try_from(packet.get(start..start.saturating_add(4))?).ok()?.into())
    };
    let udp = packet.get(usize::from(first & 0x0f).saturating_mul(4)..)?;
    let length = u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]);
    let bytes = usize::from(length).checked_sub(UDP_BYTES)?;
    Some((Datagram { from: address(12)?, bytes }, address(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_told_by_its_sender_and_its_length() {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0, 203, 0, 113, 1, 192, 168, 1, 10];
        packet.extend([0, 53, 0, 53, 2, 168, 0, 0]);
        let datagram = Datagram { from: [203, 0, 113, 1].into(), bytes: 672 };
        assert_eq!(read(&packet), Some((datagram, [192, 168, 1, 10].into())));
        assert_eq!(read(&packet[..25]), None);
        packet[9] = 6;
        assert_eq!(read(&packet), None);
        packet[0] = 0x60;
        assert_eq!(read(&packet), None);
        assert_eq!(read(&[]), None);
    }
}
