//! Somebody who listens to everything that crosses the internet of a lab.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

use super::error::LabError;
use super::namespace::Namespace;

/// How often it looks whether it should stop.
const LOOK_MILLISECONDS: i64 = 50;
/// Bursts are kept here until they are read.
const BUFFER_BYTES: usize = 4 << 20;
/// More packets than that are not told apart any more.
const PACKETS_LIMIT: usize = 1 << 20;

const ETHERNET_BYTES: usize = 14;
const UDP: u8 = 17;
const UDP_BYTES: usize = 8;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Eavesdropper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    text: Vec<u8>,
    stop: AtomicBool,
    packets: Mutex<HashSet<Packet>>,
}

/// What is remembered of a packet: not what it holds, but enough to tell it from others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Packet {
    from: Ipv4Addr,
    to: Ipv4Addr,
    is_wireguard: bool,
    has_text: bool,
    bytes: usize,
    digest: u64,
}

/// What was heard, each packet once although it crosses several interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Packets.
    pub packets: usize,
    /// Bytes of IPv4 in all. A packet can be as long as several, before a network card would cut it up.
    pub bytes: usize,
    /// Those that are WireGuard's: UDP whose first bytes are one of its four message types.
    pub wireguard: usize,
    /// Those in which the text could be read.
    pub readable: usize,
}

impl Eavesdropper {
    pub(crate) fn start(namespace: &Arc<Namespace>, text: &str) -> Result<Self, LabError> {
        let action = "listen to the internet of the lab";
        let listening = namespace.run(listen)?.map_err(LabError::errno(action.to_owned()))?;
        let shared = Arc::new(Shared {
            text: text.as_bytes().to_owned(),
            stop: AtomicBool::new(false),
            packets: Mutex::default(),
        });
        let hearing = Arc::clone(&shared);
        let thread = namespace.thread("eavesdropper", move || hear(&listening, &hearing))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What has crossed so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.count(|_| true)
    }

    /// What two hosts or routers have said to each other so far.
    #[must_use]
    pub fn heard_between(&self, one: Ipv4Addr, other: Ipv4Addr) -> Heard {
        self.count(|packet| {
            [packet.from, packet.to] == [one, other] || [packet.from, packet.to] == [other, one]
        })
    }

    fn count(&self, wanted: impl Fn(&Packet) -> bool) -> Heard {
        let packets = self.shared.packets.lock().unwrap_or_else(PoisonError::into_inner);
        packets.iter().filter(|packet| wanted(packet)).fold(Heard::default(), |heard, packet| Heard {
            packets: heard.packets.saturating_add(1),
            bytes: heard.bytes.saturating_add(packet.bytes),
            wireguard: heard.wireguard.saturating_add(usize::from(packet.is_wireguard)),
            readable: heard.readable.saturating_add(usize::from(packet.has_text)),
        })
    }
}

impl Drop for Eavesdropper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen() -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, RcvBuf, &BUFFER_BYTES)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(LOOK_MILLISECONDS))?;
    Ok(socket)
}

fn hear(socket: &OwnedFd, shared: &Shared) {
    let mut frame = vec![0; 1 << 16];
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok(length) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) else { continue };
        let Some(packet) = frame.get(..length).and_then(|frame| Packet::read(frame, &shared.text)) else {
            continue;
        };
        let mut packets = shared.packets.lock().unwrap_or_else(PoisonError::into_inner);
        if packets.len() < PACKETS_LIMIT {
            packets.insert(packet);
        }
    }
}

impl Packet {
    /// Reads an Ethernet frame; nothing if it does not hold IPv4.
    fn read(frame: &[u8], text: &[u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET_BYTES..).filter(|_| frame.get(12..14) == Some(&[8, 0]))?;
        let head = usize::from(packet.first()? & 0x0f).saturating_mul(4);
        let address = |start: usize| -> Option<Ipv4Addr> {
            Some(<[u8; 4]>::try_from(packet.get(start..start.saturating_add(4))?).ok()?.into())
        };
        let payload = packet.get(head.saturating_add(UDP_BYTES)..).filter(|_| packet.get(9) == Some(&UDP));
        let is_wireguard = payload.is_some_and(|payload| matches!(payload.get(..4), Some([1..=4, 0, 0, 0])));
        let mut digest = DefaultHasher::new();
        packet.hash(&mut digest);
        Some(Self {
            from: address(12)?,
            to: address(16)?,
            is_wireguard,
            has_text: !text.is_empty() && packet.windows(text.len()).any(|window| window == text),
            bytes: packet.len(),
            digest: digest.finish(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2]);
        frame.extend([0; UDP_BYTES]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn wireguard_is_told_from_other_traffic_and_text_is_found() {
        let read = |frame: &[u8]| Packet::read(frame, b"secret").unwrap();
        let data = read(&frame(UDP, &[4, 0, 0, 0, 9, 9]));
        assert!(data.is_wireguard && !data.has_text);
        assert_eq!((data.from, data.to), ([203, 0, 113, 1].into(), [203, 0, 113, 2].into()));
        assert!(!read(&frame(UDP, &[5, 0, 0, 0])).is_wireguard);
        assert!(!read(&frame(6, &[4, 0, 0, 0])).is_wireguard);
        assert!(read(&frame(6, b"a secret word")).has_text);
        assert!(Packet::read(&frame(UDP, b"x")[..20], b"secret").is_none());
    }
}
