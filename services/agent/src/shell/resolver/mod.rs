//! The resolver of the network's names, by UDP and TCP on port 53: at this node's own overlay address, and at one of the host's
//! loopback addresses where the host asks this resolver for everything.
//!
//! Peers do not reach the overlay address unless an authorization says so, like any service of this host; and nothing is forwarded
//! for whoever asks there.

mod forward;
mod listen;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use hickory_proto::rr::Name;
use tokio::sync::watch;
use writ_schema::protocol::Netmap;

use crate::names::{Query, Transport, Unanswerable, Zone};
use forward::Forwarder;
use listen::Listener;

/// The port of DNS.
pub(super) const PORT: u16 = 53;
/// Names that were asked for last, which [`Heard`] remembers.
const MAX_HEARD: usize = 64;

/// A resolver that answers until it is dropped.
pub(super) struct Resolver {
    zone: watch::Sender<Arc<Zone>>,
    heard: Heard,
    _overlay: Listener,
    _host: Option<Listener>,
}

impl Resolver {
    /// Begins to answer for the names of a zone, at an overlay address.
    pub async fn start(address: IpAddr, zone: Zone) -> Result<Self> {
        let (zone, names) = watch::channel(Arc::new(zone));
        let heard = Heard::default();
        let service = Service { zone: names, heard: heard.clone(), forwarder: None };
        let overlay = Listener::start(SocketAddr::new(address, PORT), service).await?;
        Ok(Self { zone, heard, _overlay: overlay, _host: None })
    }

    /// Answers this host at a loopback address as well: for the network's names as everywhere, and for all others by asking the
    /// upstreams.
    pub async fn serve_host(
        &mut self,
        address: IpAddr,
        upstreams: watch::Receiver<Vec<SocketAddr>>,
    ) -> Result<()> {
        let service = Service {
            zone: self.zone.subscribe(),
            heard: self.heard.clone(),
            forwarder: Some(Forwarder::new(upstreams)),
        };
        self._host = Some(Listener::start(SocketAddr::new(address, PORT), service).await?);
        Ok(())
    }

    /// Answers for the names of this netmap from now on.
    pub fn set_netmap(&self, netmap: &Netmap) {
        let zone = self.zone.borrow().with(netmap);
        self.zone.send_replace(Arc::new(zone));
    }

    /// The domains that this host's own resolver is to ask this one about.
    pub fn domains(&self) -> Vec<String> {
        self.zone.borrow().domains()
    }

    /// What was asked lately.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

/// The names that the resolver was asked for last: by them it is seen whether a question has reached it.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<VecDeque<Name>>>);

impl Heard {
    /// Whether a name was asked for lately. If it was drawn at random, nobody else has asked for it.
    pub fn has(&self, name: &str) -> bool {
        let name = Name::from_ascii(name);
        name.is_ok_and(|name| self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&name))
    }

    fn add(&self, name: Name) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.truncate(MAX_HEARD - 1);
        names.push_front(name);
    }
}

/// Answers queries.
#[derive(Clone)]
struct Service {
    zone: watch::Receiver<Arc<Zone>>,
    heard: Heard,
    forwarder: Option<Forwarder>,
}

/// What comes of a message.
enum Outcome {
    /// This is sent back.
    Answer(Vec<u8>),
    /// The upstreams are asked, which takes its time.
    Forward(Forwarder, Query),
    Nothing,
}

impl Service {
    fn take(&self, message: &[u8], transport: Transport) -> Outcome {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Unanswerable::Malformed(answer)) => return Outcome::Answer(answer),
            Err(Unanswerable::Silence) => return Outcome::Nothing,
        };
        let zone = self.zone.borrow().clone();
        if !zone.is_asked(&query)
            && query.question().is_some()
            && let Some(forwarder) = &self.forwarder
        {
            return Outcome::Forward(forwarder.clone(), query);
        }
        if let Some(asked) = query.question() {
            self.heard.add(asked.name().clone());
        }
        Outcome::Answer(zone.answer(&query, transport))
    }
}

/// Why a resolver could not begin.
fn taken(address: SocketAddr, protocol: &str) -> String {
    format!("{protocol} port {} of {} is not to be had", address.port(), address.ip())
}
