//! A router: an address on one network, a LAN of its own, and a NAT between them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::core::LabCore;
use super::error::LabError;
use super::host::Host;
use super::namespace::Namespace;
use super::nat::{self, Nat};
use super::segment::{Plug, Segment, ipv6};
use super::{command, counter::Counter, counter::Transport};

/// A router of the lab. Copies mean the same router.
#[derive(Debug, Clone)]
pub struct Router {
    core: Arc<LabCore>,
    namespace: Arc<Namespace>,
    lan: Arc<Segment>,
    uplink: Plug,
}

impl Router {
    pub(crate) fn create(
        core: &Arc<LabCore>,
        uplink: &Arc<Segment>,
        name: &str,
        nat: Nat,
        lan: Ipv4Addr,
    ) -> Result<Self, LabError> {
        if uplink.contains(lan) {
            return Err(LabError::SameNetwork { name: name.to_owned(), lan });
        }
        let namespace = core.namespace(name)?;
        let uplink = uplink.attach(&namespace, nat::WAN)?;
        let lan = Arc::new(Segment::routed(Arc::clone(&namespace), nat::LAN, lan)?);
        namespace
            .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .map_err(LabError::io("switch forwarding on (is /proc/sys read-only, as in a container?)"))?;
        let router = Self { core: Arc::clone(core), namespace, lan, uplink };
        router.set_nat(nat)?;
        Ok(router)
    }

    /// A host in this router's LAN.
    ///
    /// # Errors
    /// When the name is taken or unusable, or a command fails.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        Host::create(&self.core, &self.lan, name)
    }

    /// A router in this router's LAN, so that two NATs stand in a row.
    ///
    /// # Errors
    /// When the name is taken or unusable, or a command fails.
    pub fn router(&self, name: &str, nat: Nat, lan: Ipv4Addr) -> Result<Self, LabError> {
        Self::create(&self.core, &self.lan, name, nat, lan)
    }

    /// A host in this router's LAN that has an address of the internet's IPv6 as well: nothing translates that, and a firewall lets
    /// in only what answers (RFC 6092).
    ///
    /// # Errors
    /// When the name is taken or unusable, or a command fails.
    pub fn host_with_ipv6(&self, name: &str) -> Result<Host, LabError> {
        let host = self.host(name)?;
        let router = self.uplink.number();
        let (address, own) = (ipv6(router, host.number()), ipv6(router, 0));
        let (wan, lan) = (nat::WAN, nat::LAN);
        let settings = ["all/forwarding".to_owned(), format!("{wan}/proxy_ndp")];
        self.namespace
            .run(move || {
                settings
                    .iter()
                    .try_for_each(|it| std::fs::write(format!("/proc/sys/net/ipv6/conf/{it}"), "1"))
            })?
            .map_err(LabError::io("switch IPv6 forwarding on"))?;
        command::ip(
            &self.namespace,
            &format!(
                "addr replace {own}/64 dev {wan} nodad\n\
                 addr replace fe80::1/64 dev {lan} nodad\n\
                 neigh replace proxy {address} dev {wan}\n\
                 route replace {address}/128 dev {lan}\n"
            ),
        )?;
        command::nft(&self.namespace, nat::FIREWALL_V6)?;
        host.take_ipv6(address)?;
        Ok(host)
    }

    /// How soon UDP mappings are forgotten that nothing passes, in whole seconds.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_udp_timeout(&self, timeout: Duration) -> Result<(), LabError> {
        let seconds = timeout.as_secs().to_string();
        self.namespace
            .run(move || {
                ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"]
                    .iter()
                    .try_for_each(|it| std::fs::write(format!("/proc/sys/net/netfilter/{it}"), &seconds))
            })?
            .map_err(LabError::io("set how soon the router forgets"))
    }

    /// Changes how the router translates, and forgets what it translated so far.
    ///
    /// # Errors
    /// When a command fails.
    pub fn set_nat(&self, nat: Nat) -> Result<(), LabError> {
        command::nft(&self.namespace, &nat::ruleset(nat, self.address()))?;
        self.forget_mappings()
    }

    /// Forgets every mapping, as a router that was switched off and on; the kernel may take a moment for it.
    ///
    /// # Errors
    /// When a command fails.
    pub fn forget_mappings(&self) -> Result<(), LabError> {
        self.uplink.restart()
    }

    /// Cuts the LAN off from the outside, or connects it again.
    ///
    /// # Errors
    /// When a command fails.
    pub fn set_connected(&self, connected: bool) -> Result<(), LabError> {
        self.uplink.set_connected(connected)
    }

    /// Lets no packet longer than this into the LAN. Longer ones are cut in two, or answered if they may not be.
    ///
    /// # Errors
    /// When the command fails.
    pub fn set_lan_mtu(&self, bytes: u16) -> Result<(), LabError> {
        command::ip(&self.namespace, &format!("link set {} mtu {bytes}\n", nat::LAN))
    }

    /// The same for the way out.
    ///
    /// # Errors
    /// When the command fails.
    pub fn set_wan_mtu(&self, bytes: u16) -> Result<(), LabError> {
        command::ip(&self.namespace, &format!("link set {} mtu {bytes}\n", nat::WAN))
    }

    /// Counts packets that enter this router for a destination port.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn count(&self, transport: Transport, port: u16) -> Result<Counter, LabError> {
        Counter::create(&self.namespace, transport, port)
    }

    /// The address that the outside sees.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.uplink.address()
    }

    /// The name of the router's network namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }
}
