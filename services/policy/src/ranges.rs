//! Address ranges that the language gives a meaning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::AddressSet;

const fn v4(a: u8, b: u8, c: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length))
}

const fn v6(first: u16, second: u16, third: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), length))
}

/// Shared address space, from which networks number their nodes.
const SHARED: IpNet = v4(100, 64, 0, 10);

/// The part of it that ChromeOS uses for its own machines, and networks leave out.
const CHROME_OS: IpNet = v4(100, 115, 92, 23);

/// The IPv6 counterpart.
const UNIQUE_LOCAL: IpNet = v6(0xfd7a, 0x115c, 0xa1e0, 48);

/// What is not the Internet: private, shared, link-local and unique local addresses.
const NOT_INTERNET: [IpNet; 5] =
    [v4(10, 0, 0, 8), v4(172, 16, 0, 12), v4(192, 168, 0, 16), SHARED, v4(169, 254, 0, 16)];

/// The IPv6 addresses that are routed publicly.
const GLOBAL_V6: IpNet = v6(0x2000, 0, 0, 3);

/// The addresses that nodes have.
pub(crate) fn network() -> AddressSet {
    AddressSet::from_prefixes([SHARED, UNIQUE_LOCAL]).without(&AddressSet::from_prefixes([CHROME_OS]))
}

/// Parts of the network's addresses that no node gets: the service address and what ChromeOS uses.
pub(crate) fn reserved() -> AddressSet {
    AddressSet::from_prefixes([v4(100, 100, 100, 24), v4(100, 100, 0, 24), CHROME_OS])
}

/// What lies behind an exit node.
pub(crate) fn internet() -> AddressSet {
    let all_v4 = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST));
    let public_v4 = AddressSet::from_ranges([all_v4]).without(&AddressSet::from_prefixes(NOT_INTERNET));
    public_v4.union(&AddressSet::from_prefixes([GLOBAL_V6]))
}
