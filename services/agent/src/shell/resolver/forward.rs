//! Asks the host's own name servers what is not of the network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

use super::listen::{read, write};
use crate::names::{Query, Transport};

/// How long an upstream has before the next is asked. All of three together have less than the 5 s that a C library waits.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Upstreams that are asked: as many name servers as a C library looks at (resolv.conf(5), MAXNS).
const MAX_UPSTREAMS: usize = 3;

/// Asks upstreams, one after the other.
#[derive(Clone)]
pub(super) struct Forwarder {
    upstreams: watch::Receiver<Vec<SocketAddr>>,
}

impl Forwarder {
    pub fn new(upstreams: watch::Receiver<Vec<SocketAddr>>) -> Self {
        Self { upstreams }
    }

    /// The answer of the first that has one; a failure if none has.
    pub async fn ask(&self, query: &Query, message: Vec<u8>, transport: Transport) -> Vec<u8> {
        let upstreams = self.upstreams.borrow().clone();
        for upstream in upstreams.into_iter().take(MAX_UPSTREAMS) {
            let asked = async {
                match transport {
                    Transport::Udp => by_datagram(upstream, query, message.clone()).await,
                    Transport::Tcp => by_connection(upstream, query, &message).await,
                }
            };
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "a name server gives no answer"),
                Err(_) => tracing::debug!(%upstream, "a name server does not answer"),
            }
        }
        query.failure(transport)
    }
}

/// From a port of its own and under a number of its own, so that nobody off the path can answer for the upstream (RFC 5452).
async fn by_datagram(upstream: SocketAddr, query: &Query, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut own_id = [0; 2];
    getrandom::fill(&mut own_id).map_err(io::Error::other)?;
    let Some(id) = message.first_chunk_mut::<2>() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let asked_id = std::mem::replace(id, own_id);
    let any: IpAddr = if upstream.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(&message).await?;
    let mut answer = vec![0; query.limit(Transport::Udp)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if query.is_answered_by(u16::from_be_bytes(own_id), answer.get(..length).unwrap_or_default()) {
            answer.truncate(length);
            if let Some(id) = answer.first_chunk_mut::<2>() {
                *id = asked_id;
            }
            return Ok(answer);
        }
    }
}

async fn by_connection(upstream: SocketAddr, query: &Query, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write(&mut stream, message).await?;
    let answer = read(&mut stream).await?;
    let id = message.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
    if !query.is_answered_by(id, &answer) {
        return Err(io::Error::other("it answered another question"));
    }
    Ok(answer)
}
