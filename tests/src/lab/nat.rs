//! How routers translate addresses: the behaviours of RFC 4787 as nftables rules.

use std::net::Ipv4Addr;

/// The interface towards the outside.
pub(crate) const WAN: &str = "wan";
/// The bridge towards the inside.
pub(crate) const LAN: &str = "lan";

/// How a router treats what passes it. "Mapping" is the outside port that an inside socket gets, "filtering" is
/// who may send to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// One mapping for all destinations, open to everybody.
    FullCone,
    /// One mapping for all destinations, open to the addresses that were sent to.
    AddressRestricted,
    /// One mapping for all destinations, open to the addresses and ports that were sent to: the usual home router.
    PortRestricted,
    /// As [`Nat::PortRestricted`], but the router does not drop stray packets to itself. A stray one then takes the
    /// place of the mapping to be, and whether two such NATs can be crossed is a race: a plain Linux machine that
    /// shares its address behaves so.
    PlainMasquerade,
    /// Another random mapping for every destination, each open to that destination only.
    Symmetric,
    /// As [`Nat::Symmetric`], but the ports are drawn from 64: few enough to be guessed.
    SymmetricFewPorts,
    /// As [`Nat::PortRestricted`], and hosts inside reach each other by their outside addresses (RFC 4787, 6).
    Hairpin,
    /// As [`Nat::PortRestricted`], but of the UDP packets that pass, each way, one in five is lost.
    Lossy,
    /// As [`Nat::PortRestricted`] for TCP; UDP is dropped silently, apart from DNS.
    UdpBlocked,
    /// As [`Nat::UdpBlocked`], but who sends UDP is told that it is prohibited.
    UdpRejected,
}

/// The rules for a router with an address outside, replacing any earlier ones. Nobody outside can open a connection to the inside unless
/// the NAT's own map sends it there.
pub(crate) fn ruleset(nat: Nat, outside: Ipv4Addr) -> String {
    let translation = match nat {
        Nat::FullCone => format!("{CONE_MAP}{}", cone("udp dport map @mapped")),
        Nat::AddressRestricted => format!("{CONE_MAP}{SEEN_SET}{DROP_STRAY}{}", seen_cone()),
        Nat::PortRestricted => format!("{}{DROP_STRAY}", masquerade("masquerade")),
        Nat::PlainMasquerade => masquerade("masquerade"),
        Nat::Symmetric => format!("{}{DROP_STRAY}", masquerade("masquerade fully-random")),
        Nat::SymmetricFewPorts => {
            let few = format!(
                "meta l4proto udp masquerade to :40000-40063 fully-random; oifname \"{WAN}\" masquerade"
            );
            format!("{}{DROP_STRAY}", masquerade(&few))
        }
        Nat::Hairpin => format!("{CONE_MAP}{DROP_STRAY}{}", hairpin(outside)),
        Nat::Lossy => format!("{}{DROP_STRAY}{LOSE_UDP}", masquerade("masquerade")),
        Nat::UdpBlocked => format!("{}{DROP_STRAY}{}", masquerade("masquerade"), deaf("drop")),
        Nat::UdpRejected => {
            let told = "reject with icmp type admin-prohibited";
            format!("{}{DROP_STRAY}{}", masquerade("masquerade"), deaf(told))
        }
    };
    format!(
        "table ip writ_nat\n\
         delete table ip writ_nat\n\
         table ip writ_nat {{\n\
         {translation}\
         chain guard {{ type filter hook forward priority 10; \
           ct status dnat accept; iifname \"{WAN}\" ct state new drop; }}\n\
         }}\n"
    )
}

/// Which inside host sends from which port. Outside ports are the inside ones, as long as hosts do not collide.
const CONE_MAP: &str = "map mapped { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 2m; }\n";

/// Whom an inside port has sent to.
const SEEN_SET: &str = "set seen { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 2m; }\n";

/// Without this a stray packet becomes a connection of the router itself and occupies its port.
const DROP_STRAY: &str =
    "chain stray { type filter hook input priority filter; iifname \"wan\" ct state new drop; }\n";

/// What a home router does to IPv6: no translation, and nobody outside begins.
pub(crate) const FIREWALL_V6: &str = "table ip6 writ_firewall\n\
     delete table ip6 writ_firewall\n\
     table ip6 writ_firewall {\n\
     chain guard { type filter hook forward priority filter; \
       ct state established,related accept; iifname \"wan\" drop; }\n\
     }\n";

const LOSE_UDP: &str = "chain lose { type filter hook forward priority filter; \
     meta l4proto udp numgen random mod 100 < 20 drop; }\n";

fn deaf(verdict: &str) -> String {
    format!(
        "chain deaf {{ type filter hook forward priority filter; \
           oifname \"{WAN}\" meta l4proto udp udp dport != 53 {verdict}; }}\n"
    )
}

fn masquerade(statement: &str) -> String {
    format!("chain post {{ type nat hook postrouting priority srcnat; oifname \"{WAN}\" {statement}; }}\n")
}

fn cone(destination: &str) -> String {
    format!(
        "chain learn {{ type filter hook forward priority filter; \
           oifname \"{WAN}\" meta l4proto udp update @mapped {{ udp sport : ip saddr }}; }}\n\
         chain pre {{ type nat hook prerouting priority dstnat; \
           iifname \"{WAN}\" meta l4proto udp dnat to {destination}; }}\n{}",
        masquerade("masquerade")
    )
}

fn seen_cone() -> String {
    format!(
        "chain learn {{ type filter hook forward priority filter; \
           oifname \"{WAN}\" meta l4proto udp update @mapped {{ udp sport : ip saddr }}; \
           oifname \"{WAN}\" meta l4proto udp update @seen {{ ip daddr . udp sport }}; }}\n\
         chain pre {{ type nat hook prerouting priority dstnat; \
           iifname \"{WAN}\" meta l4proto udp ip saddr . udp dport @seen \
           dnat to udp dport map @mapped; }}\n{}",
        masquerade("masquerade")
    )
}

/// What goes from inside to a mapping of the router comes back in, and seems to come from the sender's own mapping.
fn hairpin(outside: Ipv4Addr) -> String {
    format!(
        "chain learn {{ type filter hook forward priority filter; \
           oifname \"{WAN}\" meta l4proto udp update @mapped {{ udp sport : ip saddr }}; }}\n\
         chain pre {{ type nat hook prerouting priority dstnat; \
           iifname \"{LAN}\" ip daddr {outside} meta l4proto udp dnat to udp dport map @mapped; }}\n\
         chain post {{ type nat hook postrouting priority srcnat; \
           oifname \"{WAN}\" masquerade; oifname \"{LAN}\" ct status dnat snat to {outside}; }}\n"
    )
}
