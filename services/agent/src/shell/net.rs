//! The TUN device, the UDP sockets and this host's addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tun_rs::{AsyncDevice, DeviceBuilder};

use crate::engine::MTU;
use crate::trust::Membership;

/// The kernel's buffers for bursts: it gives what it can.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Packets that wait in the TUN device.
const TUN_QUEUE: u32 = 2_000;
/// The overlay, in prefixes. An address with its prefix makes the kernel's route to the rest of it, and takes the route
/// along when the device goes.
const PREFIX_V4: u8 = 10;
const PREFIX_V6: u8 = 48;

/// Makes the TUN device with this node's addresses. It goes when it is dropped, or with the process.
pub(super) fn open_tun(name: &str, membership: &Membership) -> Result<AsyncDevice> {
    let mtu = u16::try_from(MTU).context("the MTU does not fit")?;
    let device = DeviceBuilder::new()
        .name(name)
        .mtu(mtu)
        .ipv4(membership.address_v4, PREFIX_V4, None)
        .build_async()
        .with_context(|| {
            format!("the TUN device `{name}` cannot be made: that needs /dev/net/tun and CAP_NET_ADMIN")
        })?;
    // The kernel lets only the machine's own root do this, not that of a user namespace; it costs speed, not more.
    if let Err(error) = device.set_tx_queue_len(TUN_QUEUE) {
        tracing::debug!(%error, "the TUN device keeps its short queue");
    }
    if let Err(error) = device.add_address_v6(membership.address_v6, PREFIX_V6) {
        tracing::warn!(%error, "the overlay has no IPv6 on this host");
    }
    Ok(device)
}

/// The sockets that WireGuard, the relay and STUN share.
pub(super) struct Sockets {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
}

impl Sockets {
    /// Listens on a port (0: any). IPv6 is used where there is any.
    pub fn bind(port: u16) -> Result<Self> {
        let v4 = bind((Ipv4Addr::UNSPECIFIED, port).into()).with_context(|| format!("UDP port {port}"))?;
        let port = v4.local_addr()?.port();
        let v6 = bind((Ipv6Addr::UNSPECIFIED, port).into());
        if let Err(error) = &v6 {
            tracing::debug!(%error, "no IPv6 outside the overlay");
        }
        Ok(Self { v4, v6: v6.ok() })
    }

    /// The port that is listened on.
    pub fn port(&self) -> Result<u16> {
        Ok(self.v4.local_addr()?.port())
    }

    /// Sends if it can be done at once. A lost datagram is the network's ordinary business.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        if let Some(Err(error)) = socket.map(|socket| socket.try_send_to(bytes, to)) {
            tracing::trace!(%error, "a datagram was not sent");
        }
    }

    /// Waits for a datagram in either family.
    pub async fn receive(&self, v4: &mut [u8], v6: &mut [u8]) -> io::Result<(Family, usize, SocketAddr)> {
        tokio::select! {
            received = self.v4.recv_from(v4) => received.map(|(length, from)| (Family::V4, length, from)),
            received = receive_if(self.v6.as_ref(), v6) => {
                received.map(|(length, from)| (Family::V6, length, from))
            }
        }
    }

    /// Takes a datagram that has come already.
    pub fn try_receive(&self, family: Family, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let socket = match family {
            Family::V4 => Some(&self.v4),
            Family::V6 => self.v6.as_ref(),
        };
        socket?.try_recv_from(buffer).ok()
    }
}

/// Which buffer holds the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

async fn receive_if(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// The addresses of this host that peers could reach, with the port.
pub(super) fn host_addresses(tun: &str, port: u16) -> Vec<SocketAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter(|interface| interface.interface_name != tun)
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP)
                && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
        })
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}
