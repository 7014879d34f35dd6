//! Of what kind the NAT in front of this node is, judged by what several STUN servers see (RFC 5780, 4.3, for mapping).
//!
//! Servers at one address on several ports do not tell a mapping that depends on the address alone from one that depends on
//! nothing: that takes a server at another address.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// Ports that lie within so many of each other were not drawn from all there are: of four that were, this is true once in
/// some hundred million times.
pub const NEAR: u16 = 64;

/// How a NAT chooses the outside address of a socket (RFC 4787, 4.1), over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "mapping")]
pub enum NatKind {
    /// Not known: fewer than two servers answer.
    Unknown,
    /// There is none: this host is seen as itself.
    None,
    /// One address for all destinations: an easy one.
    EndpointIndependent,
    /// Another for each destination: a hard one.
    DestinationDependent {
        /// How its ports are drawn.
        ports: Ports,
    },
}

/// How a NAT draws the ports of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// In sequence, or from few: they lie so near each other that the next can be guessed.
    Near,
    /// From many, or at several addresses.
    Scattered,
}

impl NatKind {
    /// Judges by the host's own addresses, and what each server sees.
    pub fn judge(hosts: &[SocketAddr], observed: impl IntoIterator<Item = SocketAddr>) -> Self {
        let seen: Vec<_> = observed.into_iter().filter(SocketAddr::is_ipv4).collect();
        let [first, rest @ ..] = seen.as_slice() else { return Self::Unknown };
        let is_one = rest.iter().all(|other| other == first);
        match (is_one, rest.is_empty()) {
            (true, _) if hosts.contains(first) => Self::None,
            (true, true) => Self::Unknown,
            (true, false) => Self::EndpointIndependent,
            (false, _) => {
                let is_near = window(&seen, first.ip()).is_some_and(|(_, count)| count == seen.len());
                let ports = if is_near { Ports::Near } else { Ports::Scattered };
                Self::DestinationDependent { ports }
            }
        }
    }
}

/// Lowest and highest port, and how many, of what was seen at an address; nothing where they do not lie near each other.
pub fn window(seen: &[SocketAddr], at: IpAddr) -> Option<([u16; 2], usize)> {
    let ports = || seen.iter().filter(|address| address.ip() == at).map(SocketAddr::port);
    let (low, high) = (ports().min()?, ports().max()?);
    (high - low < NEAR).then(|| ([low, high], ports().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "192.168.1.2:51820";

    fn judge(seen: &[&str]) -> NatKind {
        NatKind::judge(&[HOST.parse().unwrap()], seen.iter().map(|address| address.parse().unwrap()))
    }

    #[test]
    fn what_several_servers_see_tells_the_kind() {
        let hard = |ports| NatKind::DestinationDependent { ports };
        for (seen, kind) in [
            (&[][..], NatKind::Unknown),
            (&["203.0.113.9:4000"], NatKind::Unknown),
            (&["[2001:db8::1]:51820", "[2001:db8::1]:51820"], NatKind::Unknown),
            (&[HOST], NatKind::None),
            (&[HOST, HOST], NatKind::None),
            (&["203.0.113.9:4000", "203.0.113.9:4000"], NatKind::EndpointIndependent),
            (&["203.0.113.9:4000", "203.0.113.9:4001"], hard(Ports::Near)),
            (&["203.0.113.9:4063", "203.0.113.9:4000", "203.0.113.9:4020"], hard(Ports::Near)),
            (&["203.0.113.9:4064", "203.0.113.9:4000"], hard(Ports::Scattered)),
            (&["203.0.113.9:4000", "203.0.113.10:4000"], hard(Ports::Scattered)),
        ] {
            assert_eq!(judge(seen), kind, "{seen:?}");
        }
    }
}
