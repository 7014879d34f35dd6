//! The relay over TLS, as long as the engine wants it.

use writ_relay::wire::{Kind, classify};

use super::{Agent, now};
use crate::engine::{RelayTransport, Transmit};
use crate::shell::relay::{Event, RelayStream};

/// What the stream has to say, if there is one.
pub(super) async fn next(stream: &mut Option<RelayStream>) -> Event {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

impl Agent {
    /// Opens the stream when it is wanted, and ends it when it is not any more.
    pub(super) fn tend_relay_stream(&mut self) {
        match (self.engine.wants_relay_stream(), &self.relay_stream) {
            (true, None) => {
                tracing::info!("nothing answers over UDP: the relay is reached over TLS");
                self.relay_stream = Some(RelayStream::start(self.dialer.clone()));
            }
            (false, Some(_)) => {
                tracing::info!("UDP is answered again: the stream to the relay ends");
                self.relay_stream = None;
                self.engine.set_relay_transport(now(), RelayTransport::Udp);
            }
            _ => {}
        }
    }

    pub(super) fn take_relayed(&mut self, event: Event) {
        match event {
            Event::Open => self.engine.set_relay_transport(now(), RelayTransport::Tls),
            // It is opened again; meanwhile UDP is tried.
            Event::Closed => {}
            Event::Datagram(datagram) => {
                if let Some(relay) = self.engine.relay_address()
                    && classify(&datagram) == Kind::Relay
                {
                    self.engine.handle_datagram(now(), relay, &datagram);
                }
            }
        }
    }

    /// Sends datagrams: over the stream if they are for the relay and there is one, else over UDP. STUN stays on UDP, so that
    /// it shows when UDP passes again.
    pub(super) async fn transmit(&mut self, transmit: &Transmit) {
        let stream = self.relay_stream.as_ref().filter(|stream| stream.is_open());
        let Some(stream) = stream.filter(|_| Some(transmit.to) == self.engine.relay_address()) else {
            return self.sockets.send(transmit).await;
        };
        for datagram in transmit.datagrams() {
            match classify(datagram) {
                Kind::Relay => stream.send(datagram.to_vec()),
                Kind::Stun | Kind::WireGuard | Kind::Unknown => {
                    self.sockets.send_one(transmit.to, datagram).await;
                }
            }
        }
    }
}
