//! The resolver of the network's names: UDP port 53 at this node's own overlay address.
//!
//! Peers do not reach it unless an authorization says so, like any service of this host.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use writ_schema::protocol::Netmap;

use crate::names::{MAX_MESSAGE_BYTES, Zone};

const PORT: u16 = 53;

/// A resolver that answers until it is dropped.
pub(super) struct Resolver {
    zone: watch::Sender<Option<Arc<Zone>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Resolver {
    /// Begins to answer. Where the port is not to be had there are no names, and the log says why.
    pub async fn start(address: IpAddr) -> Option<Self> {
        let socket = match UdpSocket::bind(SocketAddr::new(address, PORT)).await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%address, "the network's names are not answered for: UDP port {PORT}: {error}");
                return None;
            }
        };
        let (zone, names) = watch::channel(None);
        Some(Self { zone, task: tokio::spawn(serve(socket, names)) })
    }

    /// Answers for the names of this netmap from now on.
    pub fn set_netmap(&self, netmap: &Netmap) {
        match Zone::of(netmap) {
            Ok(zone) => drop(self.zone.send_replace(Some(Arc::new(zone)))),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, names: watch::Receiver<Option<Arc<Zone>>>) {
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        // An error is what the kernel tells about an earlier answer of ours.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let zone = names.borrow().clone();
        // Before the first netmap nobody has a name, and to say so would be wrong.
        let answer = zone.and_then(|zone| zone.answer(buffer.get(..length)?));
        if let Some(answer) = answer
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::trace!(%error, "an answer was not sent");
        }
    }
}
