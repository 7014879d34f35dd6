//! `GET /agent/v1/relay`: the relay for agents whose network lets no UDP out.
//!
//! One WebSocket for each such agent; a binary message is one datagram to or from the relay. The relay itself stays what
//! it is: every WebSocket has a UDP socket of its own on this machine, so to the relay its agent is one more address, with
//! the same hello, the same permits and the same limits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use writ_relay::wire::{Kind, MAX_DATAGRAM_BYTES, classify};
use writ_schema::NodeId;

use super::Services;
use super::error::ApiError;
use super::session::admit;

const PING_EVERY: Duration = Duration::from_secs(20);

/// A WebSocket on which nothing is heard for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How long one message may take to leave. Datagrams that come meanwhile wait in the socket's buffer, or are lost.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Most agents at once that are relayed so: each takes two file descriptors.
const MAX_STREAMS: usize = 4_096;

/// The agents that are relayed over TLS.
#[derive(Debug)]
pub struct RelayStreams {
    relay: SocketAddr,
    open: Mutex<HashMap<NodeId, CancellationToken>>,
}

impl RelayStreams {
    /// Streams to the relay that listens at this address.
    #[must_use]
    pub fn to(relay: SocketAddr) -> Self {
        let loopback = |ip: IpAddr| match ip {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let relay = SocketAddr::new(loopback(relay.ip()), relay.port());
        Self { relay, open: Mutex::default() }
    }

    /// Takes a node's place, ending an older stream of it; `None` if there is no room.
    fn begin(&self, node: &NodeId, stopping: &CancellationToken) -> Option<CancellationToken> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_STREAMS && !open.contains_key(node) {
            return None;
        }
        let token = stopping.child_token();
        if let Some(older) = open.insert(node.clone(), token.clone()) {
            older.cancel();
        }
        Some(token)
    }

    /// Gives the place back, unless a newer stream has it.
    fn end(&self, node: &NodeId, token: &CancellationToken) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !token.is_cancelled() {
            open.remove(node);
        }
    }

    async fn socket(&self) -> std::io::Result<UdpSocket> {
        let any: IpAddr = match self.relay {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.relay).await?;
        Ok(socket)
    }
}

/// Opens a stream to the relay. It takes the same token as a session.
pub async fn relay(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let node = admit(&services, &request)?;
    let streams = &services.relay_streams;
    let socket = streams.socket().await.map_err(|error| {
        tracing::error!(%error, "no socket for a stream to the relay");
        ApiError::busy(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10))
    })?;
    let (response, session, messages) = actix_ws::handle(&request, payload).map_err(|error| {
        ApiError::bad_request("bad_upgrade", format!("a stream to the relay is a WebSocket: {error}"))
    })?;
    let place = streams.begin(&node, &services.stopping).ok_or_else(|| {
        ApiError::busy(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(60))
    })?;
    let messages = messages
        .max_frame_size(MAX_DATAGRAM_BYTES)
        .aggregate_continuations()
        .max_continuation_size(MAX_DATAGRAM_BYTES);
    let live = services.live_sessions.token();
    actix_web::rt::spawn(async move {
        let _live = live;
        let mut stream = Stream { session, messages, socket };
        let ending = tokio::select! {
            ending = stream.run() => ending,
            () = place.cancelled() => Some(CloseReason::from(CloseCode::Away)),
        };
        services.relay_streams.end(&node, &place);
        // The agent may be gone already.
        let _ = stream.session.close(ending).await;
    });
    Ok(response)
}

struct Stream {
    session: Session,
    messages: AggregatedMessageStream,
    socket: UdpSocket,
}

impl Stream {
    /// Moves datagrams until one side ends; tells what the agent is to hear.
    async fn run(&mut self) -> Option<CloseReason> {
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut heard = Instant::now();
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        loop {
            tokio::select! {
                message = self.messages.recv() => {
                    heard = Instant::now();
                    match message? {
                        Ok(AggregatedMessage::Binary(datagram)) => {
                            // Anything but relay messages, such as STUN, has no business here. What the socket does not
                            // take at once is lost, as datagrams are.
                            if classify(&datagram) == Kind::Relay {
                                let _ = self.socket.try_send(&datagram);
                            }
                        }
                        Ok(AggregatedMessage::Ping(bytes)) => self.session.pong(&bytes).await.ok()?,
                        Ok(AggregatedMessage::Pong(_)) => {}
                        Ok(AggregatedMessage::Text(_)) => {
                            let description = Some("datagrams are binary".to_owned());
                            return Some(CloseReason { code: CloseCode::Policy, description });
                        }
                        Ok(AggregatedMessage::Close(_)) | Err(_) => return None,
                    }
                }
                received = self.socket.recv(&mut buffer) => {
                    // An error is what the kernel tells of an earlier datagram: the relay is restarting.
                    let Ok(length) = received else { continue };
                    let datagram = buffer.get(..length)?.to_vec();
                    tokio::time::timeout(SEND_LIMIT, self.session.binary(datagram)).await.ok()?.ok()?;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE_LIMIT {
                        return Some(CloseReason::from(CloseCode::Away));
                    }
                    self.session.ping(b"").await.ok()?;
                }
            }
        }
    }
}
