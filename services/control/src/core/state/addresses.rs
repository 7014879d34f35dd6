//! Overlay addresses: a node's IPv6 address is the IPv6 prefix and the host number of its IPv4 address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use writ_schema::NodeId;
use writ_schema::net::Prefix;

/// Where addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prefixes {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

/// All that an IPv4 prefix of a network may be a part of (RFC 6598).
const SHARED_SPACE: &str = "100.64.0.0/10";

/// Unique local IPv6 addresses that are assigned locally (RFC 4193).
const UNIQUE_LOCAL: &str = "fd00::/8";

impl Prefixes {
    /// Reads both prefixes; says what is wrong with them.
    pub fn parse(v4: &str, v6: &str) -> Result<Self, (&'static str, String)> {
        let wrong_v4 = || ("prefix_v4", format!("expected a prefix inside {SHARED_SPACE}, at most a /24"));
        let wrong_v6 = || ("prefix_v6", format!("expected a /48 inside {UNIQUE_LOCAL}"));
        let v4: Ipv4Net = v4.parse().map_err(|_| wrong_v4())?;
        let v6: Ipv6Net = v6.parse().map_err(|_| wrong_v6())?;
        let inside_v4 = SHARED_SPACE.parse::<Ipv4Net>().is_ok_and(|space| space.contains(&v4));
        let inside_v6 = UNIQUE_LOCAL.parse::<Ipv6Net>().is_ok_and(|space| space.contains(&v6));
        if !inside_v4 || v4.prefix_len() > 24 || v4.addr() != v4.network() {
            return Err(wrong_v4());
        }
        if !inside_v6 || v6.prefix_len() != 48 || v6.addr() != v6.network() {
            return Err(wrong_v6());
        }
        Ok(Self { v4, v6 })
    }

    /// Both of them.
    pub fn all(&self) -> [Prefix; 2] {
        [Prefix::of(self.v4.into()), Prefix::of(self.v6.into())]
    }

    /// The addresses of a host number.
    pub fn addresses(&self, host: u32) -> (Ipv4Addr, Ipv6Addr) {
        let v4 = u32::from(self.v4.network()) | host;
        let v6 = u128::from(self.v6.network()) | u128::from(host);
        (Ipv4Addr::from(v4), Ipv6Addr::from(v6))
    }

    /// The host number of an address in one of the prefixes.
    pub fn host_of(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(v4) if self.v4.contains(&v4) => Some(u32::from(v4) & u32::from(self.v4.hostmask())),
            IpAddr::V6(v6) if self.v6.contains(&v6) => {
                let host = u128::from(v6) ^ u128::from(self.v6.network());
                u32::try_from(host).ok().filter(|host| *host < self.hosts())
            }
            _ => None,
        }
    }

    /// Host numbers are below this.
    fn hosts(&self) -> u32 {
        u32::from(self.v4.hostmask()).saturating_add(1)
    }
}

/// Which host numbers are held, and where to look for the next free one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::core) struct Addresses {
    holders: BTreeMap<u32, NodeId>,
    next: u32,
}

impl Addresses {
    pub(super) fn holder(&self, host: u32) -> Option<&NodeId> {
        self.holders.get(&host)
    }

    /// The next free host number. Those that were held before come again only after all others have been.
    pub(in crate::core) fn next_free(&self, prefixes: &Prefixes) -> Option<u32> {
        let from_next = (self.next..prefixes.hosts()).chain(0..self.next.min(prefixes.hosts()));
        // Numbers that end in 0 or 255 look like a network's own or its broadcast address to too much software.
        from_next
            .filter(|host| !matches!(host & 0xff, 0 | 0xff))
            .find(|host| !self.holders.contains_key(host))
    }

    pub(in crate::core) fn hold(&mut self, host: u32, node: NodeId) {
        self.holders.insert(host, node);
        self.next = host.saturating_add(1);
    }

    pub(in crate::core) fn release(&mut self, host: u32) {
        self.holders.remove(&host);
    }
}
