//! A network lab of real parts: namespaces, veth pairs, bridges and nftables NATs.
//!
//! A [`Lab`] is one "internet" (203.0.113.0/24), public hosts on it, and routers with a LAN behind a [`Nat`]
//! of a chosen behaviour. Programs and in-process sockets run inside a host's namespace. Everything that a lab
//! made is gone when it is dropped, when a test panics, and on SIGINT, SIGTERM and SIGHUP; what a killed
//! process left behind is removed by the next lab.
//!
//! The lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN over its namespaces. Root has them; anybody else gets them in a
//! user namespace of their own, where the kernel allows that: see [`privilege`].

mod arrivals;
mod command;
mod core;
mod counter;
mod eavesdropper;
mod error;
mod forward;
mod host;
mod names;
mod namespace;
mod nat;
pub mod privilege;
mod process;
mod router;
pub mod scene;
mod segment;
mod services;
pub mod signals;
mod traffic;
mod wait;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub use self::arrivals::{Arrivals, Datagram, Seen};
pub use self::counter::{Count, Counter, Transport};
pub use self::eavesdropper::{Eavesdropper, Heard};
pub use self::error::LabError;
pub use self::forward::Forward;
pub use self::host::Host;
pub use self::nat::Nat;
pub use self::process::Process;
pub use self::router::Router;
pub use self::scene::{Scene, scene};
pub use self::services::{EchoServer, HttpServer};
pub use self::traffic::{Flow, FlowReport, Response};
pub use self::wait::{Timeout, wait_for, wait_until};

use self::core::LabCore;
use self::segment::Segment;

/// The network that stands for the internet (TEST-NET-3, so that nothing real is ever meant).
const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);

/// A network of namespaces that lives as long as this value.
pub struct Lab {
    core: Arc<LabCore>,
    internet: Arc<Segment>,
    lans: Mutex<u8>,
}

impl Lab {
    /// Makes an empty lab: an internet with nobody on it.
    ///
    /// # Errors
    /// When the lab cannot run here; the message says what forbids it and what to do.
    pub fn new(name: &str) -> Result<Self, LabError> {
        privilege::require()?;
        names::remove_stale();
        signals::install()?;
        let core = LabCore::create(name)?;
        let namespace = core.namespace("internet")?;
        let internet = Segment::isolated(namespace, "internet", INTERNET)?;
        Ok(Self { core, internet: Arc::new(internet), lans: Mutex::new(0) })
    }

    /// A host with a public address.
    ///
    /// # Errors
    /// When the name is taken or unusable, or a command fails.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        Host::create(&self.core, &self.internet, name)
    }

    /// A router with a public address and an empty LAN behind the given NAT. LANs are numbered:
    /// 192.168.1.0/24, 192.168.2.0/24 and so on.
    ///
    /// # Errors
    /// When the name is taken or unusable, or a command fails.
    pub fn router(&self, name: &str, nat: Nat) -> Result<Router, LabError> {
        let number = {
            let mut lans = self.lans.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *lans = lans.checked_add(1).ok_or(LabError::AddressesExhausted { segment: "lans".into() })?;
            *lans
        };
        self.router_with_lan(name, nat, Ipv4Addr::new(192, 168, number, 0))
    }

    /// A router whose LAN is the /24 at `lan`. Two routers may use the same: homes do.
    ///
    /// # Errors
    /// When the name is taken or unusable, or a command fails.
    pub fn router_with_lan(&self, name: &str, nat: Nat, lan: Ipv4Addr) -> Result<Router, LabError> {
        Router::create(&self.core, &self.internet, name, nat, lan)
    }

    /// Carries TCP from an address of this machine's loopback (port 0: any free one) to `target` as seen from
    /// inside `host`, so that a browser outside the lab reaches a server within.
    ///
    /// # Errors
    /// When `listen` is not on the loopback, or cannot be bound.
    pub fn forward(&self, listen: SocketAddr, host: &Host, target: SocketAddr) -> Result<Forward, LabError> {
        Forward::start(listen, host.clone(), target)
    }

    /// Listens to everything that crosses the internet, and looks for a text in it.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn eavesdrop(&self, text: &str) -> Result<Eavesdropper, LabError> {
        Eavesdropper::start(self.internet.namespace(), text)
    }

    /// A folder of this lab's own, removed with it; only its owner can read it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.core.directory()
    }

    /// What the names of this lab's namespaces begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.core.prefix()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.print_logs();
        }
        self.core.close();
    }
}
