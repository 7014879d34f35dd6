//! A network that nodes plug into: a bridge in a namespace, and the addresses it hands out.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use super::command;
use super::error::LabError;
use super::namespace::Namespace;

/// Routers stand at .1; so that addresses read well, everybody else begins at .10.
const FIRST_HOST: u8 = 10;
const LAST_HOST: u8 = 254;

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

    /// Plugs a namespace in by a new interface of the given name, and returns its address.
    pub fn attach(&self, guest: &Namespace, interface: &str) -> Result<Ipv4Addr, LabError> {
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
        let mut batch = format!("addr add {address}/24 dev {interface}\nlink set {interface} up\n");
        if let Some(gateway) = self.gateway {
            batch.push_str(&format!("route add default via {gateway}\n"));
        }
        command::ip(guest, &batch)?;
        Ok(address)
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
