//! Where agents learn how they are seen from outside: beside the relay's own port, others of this machine and of others. Who
//! asks several knows whether the NAT in front draws another port for each destination, and how it draws them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;
use writ_relay::RelayHandle;

use crate::config::{STUN_PORTS, StunConfig};

/// The further ports of this machine on which STUN is answered.
pub struct StunSockets(Vec<UdpSocket>);

impl StunSockets {
    /// Opens them. One that nobody has asked for by name may be missing; the log says so.
    pub async fn bind(config: &StunConfig, relay: SocketAddr) -> Result<Self> {
        let mut sockets = Vec::new();
        if let Some(listen) = &config.listen {
            for address in listen {
                let bound = UdpSocket::bind(address).await;
                sockets.push(bound.with_context(|| format!("stun.listen: cannot answer on {address}"))?);
            }
            return Ok(Self(sockets));
        }
        for port in (1..=STUN_PORTS).filter_map(|after| relay.port().checked_add(after)) {
            let address = SocketAddr::new(relay.ip(), port);
            match UdpSocket::bind(address).await {
                Ok(socket) => sockets.push(socket),
                Err(error) => {
                    tracing::warn!(%address, %error, "STUN is not answered there: agents may not learn the kind of their NAT");
                }
            }
        }
        Ok(Self(sockets))
    }

    /// Every server that agents are to ask beside the relay, whose address they know.
    pub fn servers(&self, config: &StunConfig, relay: SocketAddr) -> io::Result<Vec<SocketAddr>> {
        let ports = self.0.iter().map(|socket| Ok(SocketAddr::new(relay.ip(), socket.local_addr()?.port())));
        ports.chain(config.servers.iter().copied().map(Ok)).collect()
    }

    /// Answers until `shutdown` completes.
    pub fn serve<F>(self, relay: &RelayHandle, shutdown: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        for socket in self.0 {
            tokio::spawn(writ_relay::serve_stun(socket, relay.clone(), shutdown()));
        }
    }
}
