//! Takes queries and sends answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::{Outcome, Service, taken};
use crate::names::Transport;

/// Queries that wait for an upstream at a time, and connections that are open; more get no answer, and ask again.
const MAX_FORWARDED: usize = 256;
const MAX_CONNECTIONS: usize = 64;
/// Longest query over UDP that is looked at.
const MAX_QUERY_BYTES: usize = 4_096;
/// How long a connection may be silent (RFC 7766, 6.2.3: some seconds), and may take to read an answer.
const IDLE: Duration = Duration::from_secs(10);
/// How long it is waited after the system had no connection to give: usually it is out of file descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Answers at one address until it is dropped.
pub(super) struct Listener {
    tasks: [JoinHandle<()>; 2],
}

impl Listener {
    pub async fn start(address: SocketAddr, service: Service) -> Result<Self> {
        let udp = UdpSocket::bind(address).await.with_context(|| taken(address, "UDP"))?;
        let tcp = TcpListener::bind(address).await.with_context(|| taken(address, "TCP"))?;
        let datagrams = tokio::spawn(serve_datagrams(Arc::new(udp), service.clone()));
        let connections = tokio::spawn(serve_connections(tcp, service));
        Ok(Self { tasks: [datagrams, connections] })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_datagrams(socket: Arc<UdpSocket>, service: Service) {
    let mut buffer = vec![0; MAX_QUERY_BYTES];
    let mut forwarded = JoinSet::new();
    loop {
        // An error is what the kernel tells about an earlier answer of ours.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        while forwarded.try_join_next().is_some() {}
        let Some(message) = buffer.get(..length) else { continue };
        match service.take(message, Transport::Udp) {
            Outcome::Nothing => {}
            Outcome::Answer(answer) => send(&socket, &answer, from).await,
            Outcome::Forward(..) if forwarded.len() >= MAX_FORWARDED => {}
            Outcome::Forward(forwarder, query) => {
                let (socket, message) = (socket.clone(), message.to_vec());
                forwarded.spawn(async move {
                    let answer = forwarder.ask(&query, message, Transport::Udp).await;
                    send(&socket, &answer, from).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        tracing::trace!(%error, "an answer was not sent");
    }
}

async fn serve_connections(listener: TcpListener, service: Service) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(EXHAUSTED).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let service = service.clone();
        connections.spawn(async move {
            if let Err(error) = serve_connection(stream, service).await {
                tracing::trace!(%error, "a connection of a resolver ended");
            }
            drop(permit);
        });
    }
}

/// One query after the other (RFC 7766): each message follows its length in two bytes.
async fn serve_connection(mut stream: TcpStream, service: Service) -> io::Result<()> {
    loop {
        let message = tokio::time::timeout(IDLE, read(&mut stream)).await??;
        let answer = match service.take(&message, Transport::Tcp) {
            Outcome::Nothing => return Ok(()),
            Outcome::Answer(answer) => answer,
            Outcome::Forward(forwarder, query) => forwarder.ask(&query, message, Transport::Tcp).await,
        };
        tokio::time::timeout(IDLE, write(&mut stream, &answer)).await??;
    }
}

/// Reads a message and its length before it.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message behind its length.
pub(super) async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
