//! Where a route for everything leads: to the Internet, and nowhere else.
//!
//! An exit node carries packets to public addresses only. What is private, local to a link or a host, multicast or reserved
//! (RFC 6890, RFC 4193) is reached by a route of its own or not at all. Policy, engine and kernel rules all go by this list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length)
}

/// The IPv4 addresses that are not the Internet, in order.
pub const NOT_INTERNET_V4: [Ipv4Net; 8] = [
    v4(0, 0, 8),
    v4(10, 0, 8),
    v4(100, 64, 10),
    v4(127, 0, 8),
    v4(169, 254, 16),
    v4(172, 16, 12),
    v4(192, 168, 16),
    // Multicast, and what is reserved behind it.
    v4(224, 0, 3),
];

/// The IPv6 addresses that are: those that are routed publicly.
pub const INTERNET_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Whether an address is on the Internet.
pub fn contains(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_INTERNET_V4.iter().any(|net| net.contains(&v4)),
        IpAddr::V6(v6) => INTERNET_V6.contains(&v6),
    }
}

/// Whether every address of a prefix is on the Internet.
pub fn covers(net: IpNet) -> bool {
    match net {
        IpNet::V4(v4) => !NOT_INTERNET_V4.iter().any(|not| not.contains(&v4) || v4.contains(not)),
        IpNet::V6(v6) => INTERNET_V6.contains(&v6),
    }
}

/// The first address of each family that is on the Internet: it stands for all of them.
pub fn first(is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::new(1, 0, 0, 0).into() } else { INTERNET_V6.network().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_local_shared_and_multicast_addresses_are_not_the_internet() {
        for (address, is_public) in [
            ("1.1.1.1", true),
            ("203.0.113.10", true),
            ("223.255.255.255", true),
            ("0.0.0.1", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.31.0.1", false),
            ("192.168.1.1", false),
            ("224.0.0.251", false),
            ("255.255.255.255", false),
            ("2001:db8::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(contains(address.parse().unwrap()), is_public, "{address}");
        }
        for is_v4 in [true, false] {
            assert!(contains(first(is_v4)));
        }
        assert!(covers("8.0.0.0/8".parse().unwrap()) && !covers("8.0.0.0/6".parse().unwrap()));
        assert!(!covers("0.0.0.0/0".parse().unwrap()) && !covers("::/0".parse().unwrap()));
        assert!(!covers("10.1.0.0/16".parse().unwrap()) && covers("2001:db8::/32".parse().unwrap()));
    }
}
