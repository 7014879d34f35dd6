//! The UDP sockets that WireGuard, the relay and STUN share, with segmentation offload: a system call moves up to 64
//! datagrams of one length to or from one peer.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGroSegment;
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::mark::mark;
use crate::engine::Transmit;

/// The kernel's buffers for bursts: it gives what it can.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// What a system call takes at most: so many times what the kernel has put together.
const READS: usize = 8;
const READ_BYTES: usize = 65_536;
/// How long a full socket is waited for before a datagram is lost.
const FULL: Duration = Duration::from_millis(20);

/// A socket for each family.
pub(super) struct Sockets {
    v4: Endpoint,
    v6: Option<Endpoint>,
    is_offloading: bool,
}

/// Which socket received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Sockets {
    /// Listens on a port (0: any). IPv6 is used where there is any.
    pub fn bind(port: u16) -> Result<Self> {
        let v4 = Endpoint::bind((Ipv4Addr::UNSPECIFIED, port).into())
            .with_context(|| format!("UDP port {port}"))?;
        let port = v4.socket.local_addr()?.port();
        let v6 = Endpoint::bind((Ipv6Addr::UNSPECIFIED, port).into());
        if let Err(error) = &v6 {
            tracing::debug!(%error, "no IPv6 outside the overlay");
        }
        let is_offloading = v4.state.max_gso_segments() > 1;
        if !is_offloading {
            tracing::info!("this kernel sends datagrams one by one only, which costs speed");
        }
        Ok(Self { v4, v6: v6.ok(), is_offloading })
    }

    /// The port that is listened on.
    pub fn port(&self) -> Result<u16> {
        Ok(self.v4.socket.local_addr()?.port())
    }

    /// Sends datagrams. A full socket is waited for, but not for long; a lost datagram is the network's ordinary business.
    pub async fn send(&mut self, transmit: &Transmit) {
        let Transmit { to, bytes, segment, is_whole } = transmit;
        let endpoint = if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        let Some(endpoint) = endpoint else { return };
        if *is_whole {
            return endpoint.send_whole(*to, bytes).await;
        }
        let is_one = bytes.len() <= *segment;
        if self.is_offloading || is_one {
            match endpoint.send(*to, bytes, (!is_one).then_some(*segment)).await {
                Err(error) if !is_one && refuses_offload(&error) => {
                    // EIO is the network card's word on all; the others are about this path alone (RFC 1191: it is narrow).
                    if error.raw_os_error() == Some(Errno::EIO as i32) {
                        self.is_offloading = false;
                        tracing::info!(%error, "datagrams are sent one by one from now on, which costs speed");
                    }
                }
                Err(error) => return tracing::trace!(%error, "datagrams were not sent"),
                Ok(()) => return,
            }
        }
        for datagram in transmit.datagrams() {
            self.send_one(*to, datagram).await;
        }
    }

    /// Sends one datagram.
    pub async fn send_one(&self, to: SocketAddr, datagram: &[u8]) {
        let endpoint = if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        let Some(endpoint) = endpoint else { return };
        if let Err(error) = endpoint.send(to, datagram, None).await {
            tracing::trace!(%error, "a datagram was not sent");
        }
    }

    /// Waits for datagrams in either family.
    pub async fn receive(&mut self) -> io::Result<Family> {
        tokio::select! {
            received = self.v4.receive() => received.map(|()| Family::V4),
            received = receive_if(self.v6.as_mut()) => received.map(|()| Family::V6),
        }
    }

    /// The datagrams that were received last, and where each came from.
    pub fn received(&self, family: Family) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let endpoint = match family {
            Family::V4 => Some(&self.v4),
            Family::V6 => self.v6.as_ref(),
        };
        endpoint.into_iter().flat_map(Endpoint::received)
    }
}

fn refuses_offload(error: &io::Error) -> bool {
    let refusals = [Errno::EIO, Errno::EINVAL, Errno::EMSGSIZE];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(*refusal as i32))
}

async fn receive_if(endpoint: Option<&mut Endpoint>) -> io::Result<()> {
    match endpoint {
        Some(endpoint) => endpoint.receive().await,
        None => std::future::pending().await,
    }
}

/// A socket and what was received on it last.
struct Endpoint {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; READS],
    count: usize,
}

impl Endpoint {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        mark(&socket)?;
        let state = offload_of(address)?;
        if let Err(error) = setsockopt(&socket, UdpGroSegment, &true) {
            tracing::info!(%error, "this kernel hands datagrams over one by one only, which costs speed");
        }
        set_fragmenting(&socket, address, Fragmenting::WhereNeeded)?;
        socket.bind(&address.into())?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            state,
            buffers: vec![vec![0; READ_BYTES]; READS],
            metas: [RecvMeta::default(); READS],
            count: 0,
        })
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: segment,
            src_ip: None,
        };
        let send = || self.state.try_send((&self.socket).into(), &transmit);
        match self.socket.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
        match tokio::time::timeout(FULL, self.socket.async_io(Interest::WRITABLE, send)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends a datagram that nobody may cut in two; what this host knows of the path is not asked, as it is to be found out.
    async fn send_whole(&self, to: SocketAddr, datagram: &[u8]) {
        let sent = match set_fragmenting(&self.socket, to, Fragmenting::Never) {
            Ok(()) => self.send(to, datagram, None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = set_fragmenting(&self.socket, to, Fragmenting::WhereNeeded).and(sent) {
            tracing::trace!(%error, "a probe of the path's length was not sent");
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        loop {
            self.socket.readable().await?;
            match self.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        self.count = 0;
        let mut buffers = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; READS] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let (socket, state, metas) = (&self.socket, &self.state, &mut self.metas);
        self.count = socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut slices, metas))?;
        Ok(())
    }

    fn received(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.buffers.iter().zip(&self.metas).take(self.count).flat_map(|(buffer, meta)| {
            let datagrams = buffer.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1));
            datagrams.map(|datagram| (meta.addr, datagram))
        })
    }
}

/// Who may cut datagrams in two.
#[derive(Debug, Clone, Copy)]
enum Fragmenting {
    /// This host, and over IPv4 every router.
    WhereNeeded,
    Never,
}

fn set_fragmenting(socket: impl AsFd, address: SocketAddr, fragmenting: Fragmenting) -> io::Result<()> {
    match (address.is_ipv4(), fragmenting) {
        (true, Fragmenting::WhereNeeded) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?,
        (true, Fragmenting::Never) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?,
        (false, Fragmenting::WhereNeeded) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?,
        (false, Fragmenting::Never) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    Ok(())
}

/// What the kernel can offload for sockets of this family. It is asked on a socket of its own, because quinn-udp forbids the
/// fragmenting of what a socket sends, which a tunnel through a narrow path needs.
fn offload_of(address: SocketAddr) -> io::Result<UdpSocketState> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(address.ip(), 0).into())?;
    UdpSocketState::new((&socket).into())
}
