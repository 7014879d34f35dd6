//! Address ranges that the language gives a meaning.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use writ_schema::internet::{INTERNET_V6, NOT_INTERNET_V4};

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

/// What `autogroup:internet` does not name, by the word of Tailscale: private, shared and link-local addresses. Exit nodes lead
/// to less than the rest.
const NOT_NAMED_V4: [IpNet; 5] =
    [v4(10, 0, 0, 8), v4(172, 16, 0, 12), v4(192, 168, 0, 16), SHARED, v4(169, 254, 0, 16)];

/// The addresses that nodes have.
pub(crate) fn network() -> AddressSet {
    AddressSet::from_prefixes([SHARED, UNIQUE_LOCAL]).without(&AddressSet::from_prefixes([CHROME_OS]))
}

/// Parts of the network's addresses that no node gets: the service address and what ChromeOS uses.
pub(crate) fn reserved() -> AddressSet {
    AddressSet::from_prefixes([v4(100, 100, 100, 24), v4(100, 100, 0, 24), CHROME_OS])
}

/// What `autogroup:internet` names.
pub(crate) fn internet() -> AddressSet {
    let public_v4 = AddressSet::all_v4().without(&AddressSet::from_prefixes(NOT_NAMED_V4));
    public_v4.union(&AddressSet::from_prefixes([IpNet::V6(INTERNET_V6)]))
}

/// Where packets go by a route: all of it, or the Internet where it is everything.
pub(crate) fn led_to(route: IpNet) -> AddressSet {
    let all = AddressSet::from_prefixes([route]);
    if route.prefix_len() > 0 {
        return all;
    }
    let not_v4 = AddressSet::from_prefixes(NOT_INTERNET_V4.map(IpNet::V4));
    let v6 = AddressSet::from_prefixes([IpNet::V6(INTERNET_V6)]);
    all.intersection(&AddressSet::all_v4().without(&not_v4).union(&v6))
}
