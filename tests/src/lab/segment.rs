//! A network that nodes plug into: a bridge in a namespace, and the addresses it hands out.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::command;
use super::error::LabError;
use super::namespace::Namespace;

/// Routers stand at .1; so that addresses read well, everybody else begins at .10.
const FIRST_HOST: u8 = 10;
const LAST_HOST: u8 = 254;

/// An address of the internet's IPv6 (RFC 3849): of a host behind the router of this number, or of the router itself as host 0.
pub(crate) fn ipv6(router: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, router.into(), host.into())
}

#[derive(Debug)]
pub(crate) struct Segment {
    namespace: Arc<Namespace>,
    bridge: String,
    network: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
    next: Mutex<u8>,
}

impl Segment {
    /// A /24 without a way out: a bridge of the given name, up and without an address.
    pub fn isolated(namespace: Arc<Namespace>, bridge: &str, network: Ipv4Addr) -> Result<Self, LabError> {
        command::ip(&namespace, &format!("link add name {bridge} type bridge\nlink set {bridge} up\n"))?;
        let next = Mutex::new(FIRST_HOST);
        Ok(Self { namespace, bridge: bridge.to_owned(), network, gateway: None, next })
    }

    /// A /24 whose namespace is the router at .1.
    pub fn routed(namespace: Arc<Namespace>, bridge: &str, network: Ipv4Addr) -> Result<Self, LabError> {
        let mut segment = Self::isolated(namespace, bridge, network)?;
        let gateway = segment.address(1);
        command::ip(&segment.namespace, &format!("addr add {gateway}/24 dev {bridge}\n"))?;
        segment.gateway = Some(gateway);
        Ok(segment)
    }

    /// Where the bridge is.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Plugs a namespace in by a new interface of the given name.
    pub fn attach(
        self: &Arc<Self>,
        guest: &Arc<Namespace>,
        interface: &'static str,
    ) -> Result<Plug, LabError> {
        let number = self.allocate()?;
        let address = self.address(number);
        let (bridge, guest_name) = (&self.bridge, guest.name());
        command::ip(
            &self.namespace,
            &format!(
                "link add name p{number} type veth peer name {interface} netns {guest_name}\n\
                 link set p{number} master {bridge} up\n"
            ),
        )?;
        let plug = Plug { segment: Arc::clone(self), guest: Arc::clone(guest), interface, number, address };
        command::ip(guest, &format!("addr add {address}/24 dev {interface}\n{}", plug.up()))?;
        Ok(plug)
    }

    /// The address is one of this network's.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let ([a, b, c, _], [x, y, z, _]) = (self.network.octets(), address.octets());
        [a, b, c] == [x, y, z]
    }

    fn allocate(&self) -> Result<u8, LabError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *next;
        if number > LAST_HOST {
            return Err(LabError::AddressesExhausted { segment: format!("{}/24", self.network) });
        }
        *next = number.saturating_add(1);
        Ok(number)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.network.octets();
        Ipv4Addr::new(a, b, c, host)
    }
}

/// A namespace's connection to a segment.
#[derive(Debug, Clone)]
pub(crate) struct Plug {
    segment: Arc<Segment>,
    guest: Arc<Namespace>,
    interface: &'static str,
    number: u8,
    address: Ipv4Addr,
}

impl Plug {
    /// The address of the namespace in the segment.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its number in the segment.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Pulls the cable out, or puts it in: the interface keeps its address and loses its carrier.
    pub fn set_connected(&self, connected: bool) -> Result<(), LabError> {
        let state = if connected { "up" } else { "down" };
        command::ip(&self.segment.namespace, &format!("link set p{} {state}\n", self.number))
    }

    /// Takes the interface down and up again, which makes masquerading forget what it translated by it.
    pub fn restart(&self) -> Result<(), LabError> {
        command::ip(&self.guest, &format!("link set {} down\n{}", self.interface, self.up()))
    }

    /// Routes go when an interface goes down, so they come with its going up.
    fn up(&self) -> String {
        let up = format!("link set {} up\n", self.interface);
        match self.segment.gateway {
            Some(gateway) => format!("{up}route add default via {gateway}\n"),
            None => up,
        }
    }
}
