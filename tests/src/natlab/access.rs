//! The ways in which a host can be connected, and which pairs of them can be crossed directly.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::lab::{Host, Lab, LabError, Nat, Router};

/// How a host is connected to the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// A public address of its own.
    Public,
    /// Behind a [`Nat::FullCone`].
    FullCone,
    /// Behind a [`Nat::AddressRestricted`].
    AddressRestricted,
    /// Behind a [`Nat::PortRestricted`]: the usual home.
    PortRestricted,
    /// Behind a [`Nat::PlainMasquerade`]: a cloud machine or container host that shares its address.
    PlainMasquerade,
    /// Behind a [`Nat::Symmetric`].
    Symmetric,
    /// Behind a [`Nat::SymmetricFewPorts`].
    SymmetricFewPorts,
    /// Behind a home router whose carrier translates once more, both as port-restricted cones.
    DoubleNat,
    /// Behind a home router whose carrier translates symmetrically.
    SymmetricCarrier,
    /// Behind a [`Nat::PortRestricted`] that loses a fifth of all UDP packets.
    Lossy,
    /// Behind the same [`Nat::PortRestricted`] as everybody else of this kind, in one LAN.
    SameLan,
    /// Behind a home router each, and all of this kind behind one carrier that lets nobody turn back inside.
    SameCarrier,
    /// The same, behind a carrier with [`Nat::Hairpin`].
    SameCarrierHairpin,
    /// Behind a [`Nat::Symmetric`] with IPv4, and with IPv6 behind a firewall that lets in only what answers.
    FirewallIpv6,
    /// Behind a firewall that lets no UDP out, and says nothing.
    UdpBlocked,
    /// Behind a firewall that lets no UDP out, and says so.
    UdpRejected,
}

/// What hosts of one kind share, by the kind.
pub(super) type Shared = BTreeMap<Access, Router>;

/// What must come of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The two can reach each other directly, so they have to.
    Direct,
    /// No direct path exists.
    Relayed,
    /// Chance decides: which packet comes first, or which port is drawn.
    Either,
}

impl Access {
    /// Every one, from the easiest to cross to the hardest.
    pub const ALL: [Self; 16] = [
        Self::Public,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::PlainMasquerade,
        Self::Lossy,
        Self::SameLan,
        Self::DoubleNat,
        Self::SameCarrier,
        Self::SameCarrierHairpin,
        Self::SymmetricFewPorts,
        Self::Symmetric,
        Self::SymmetricCarrier,
        Self::FirewallIpv6,
        Self::UdpBlocked,
        Self::UdpRejected,
    ];

    /// Connects a host so. `home` tells homes of one kind apart.
    pub(super) fn host(self, lab: &Lab, shared: &mut Shared, home: &str) -> Result<Host, LabError> {
        let name = format!("{home}-{self}");
        let router = |nat| lab.router(&format!("{name}-nat"), nat);
        let home = |carrier: &Router| {
            carrier.router(&format!("{name}-home"), Nat::PortRestricted, Ipv4Addr::new(10, 0, 0, 0))
        };
        let mut common = |nat| match shared.get(&self) {
            Some(router) => Ok(router.clone()),
            None => {
                let router = lab.router(&format!("{self}-nat"), nat)?;
                shared.insert(self, router.clone());
                Ok::<_, LabError>(router)
            }
        };
        match self {
            Self::Public => lab.host(&name),
            Self::FullCone => router(Nat::FullCone)?.host(&name),
            Self::AddressRestricted => router(Nat::AddressRestricted)?.host(&name),
            Self::PortRestricted => router(Nat::PortRestricted)?.host(&name),
            Self::PlainMasquerade => router(Nat::PlainMasquerade)?.host(&name),
            Self::Symmetric => router(Nat::Symmetric)?.host(&name),
            Self::SymmetricFewPorts => router(Nat::SymmetricFewPorts)?.host(&name),
            Self::Lossy => router(Nat::Lossy)?.host(&name),
            Self::SameLan => common(Nat::PortRestricted)?.host(&name),
            Self::SameCarrier => home(&common(Nat::PortRestricted)?)?.host(&name),
            Self::SameCarrierHairpin => home(&common(Nat::Hairpin)?)?.host(&name),
            Self::DoubleNat => home(&router(Nat::PortRestricted)?)?.host(&name),
            Self::SymmetricCarrier => home(&router(Nat::Symmetric)?)?.host(&name),
            Self::FirewallIpv6 => router(Nat::Symmetric)?.host_with_ipv6(&name),
            Self::UdpBlocked => router(Nat::UdpBlocked)?.host(&name),
            Self::UdpRejected => router(Nat::UdpRejected)?.host(&name),
        }
    }

    /// Whether these two can reach each other directly: neither may be without UDP, and where one's port cannot be known
    /// (RFC 4787, address- and port-dependent mapping) the other must let any port of its address in, or the port must be one
    /// of few, so that the other can try them all.
    #[must_use]
    pub fn expected(self, other: Self) -> Expected {
        let pair = [(self, other), (other, self)];
        if pair.iter().any(|(one, _)| matches!(one, Self::UdpBlocked | Self::UdpRejected)) {
            return Expected::Relayed;
        }
        if self == other && self == Self::SameCarrier {
            // Each is outside where the other would have to turn back (RFC 4787, 6).
            return Expected::Relayed;
        }
        if self == Self::FirewallIpv6 && other == Self::FirewallIpv6 {
            return Expected::Direct;
        }
        if self == Self::Lossy && other == Self::Lossy {
            // Of ten probes four are answered: a path that is found is given up again now and then.
            return Expected::Either;
        }
        if pair.iter().any(|(one, two)| one.port_is_hidden() && two.lets_known_ports_in()) {
            return Expected::Relayed;
        }
        if self == other && self == Self::SymmetricFewPorts {
            // Of 64 ports the right one may be drawn at both ends.
            return Expected::Either;
        }
        if pair.contains(&(Self::SymmetricFewPorts, Self::Lossy)) {
            // The 64 ports are tried a few times, and the right one may be what is lost.
            return Expected::Either;
        }
        if pair.iter().any(|(one, two)| *one == Self::PlainMasquerade && two.lets_known_ports_in()) {
            // A packet of the other's that comes first takes the place of the mapping to be.
            return Expected::Either;
        }
        Expected::Direct
    }

    /// Another port for each destination, drawn from all there are.
    fn port_is_hidden(self) -> bool {
        matches!(self, Self::Symmetric | Self::SymmetricCarrier | Self::FirewallIpv6)
    }

    /// Filters by address and port (RFC 4787), so that only a port that was sent to gets in.
    fn lets_known_ports_in(self) -> bool {
        let drawn = self.port_is_hidden() || self == Self::SymmetricFewPorts;
        let is_a_home =
            matches!(self, Self::PortRestricted | Self::PlainMasquerade | Self::Lossy | Self::SameLan);
        let is_behind_two = matches!(self, Self::DoubleNat | Self::SameCarrier | Self::SameCarrierHairpin);
        drawn || is_a_home || is_behind_two
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Public => "public",
            Self::FullCone => "full",
            Self::AddressRestricted => "address",
            Self::PortRestricted => "port",
            Self::PlainMasquerade => "plain",
            Self::Symmetric => "sym",
            Self::SymmetricFewPorts => "symfew",
            Self::DoubleNat => "double",
            Self::SymmetricCarrier => "symcgn",
            Self::Lossy => "lossy",
            Self::SameLan => "lan",
            Self::SameCarrier => "cgn",
            Self::SameCarrierHairpin => "cgnhair",
            Self::FirewallIpv6 => "symipv6",
            Self::UdpBlocked => "noudp",
            Self::UdpRejected => "nudpicmp",
        })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Either => "either",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_crossed_is_what_rfc_4787_predicts() {
        use Access::{
            AddressRestricted, DoubleNat, FirewallIpv6, FullCone, Lossy, PlainMasquerade, PortRestricted,
            Public, SameCarrier, SameCarrierHairpin, SameLan, Symmetric, SymmetricFewPorts, UdpBlocked,
            UdpRejected,
        };
        for (one, two, expected) in [
            (Public, Public, Expected::Direct),
            (Public, Symmetric, Expected::Direct),
            (FullCone, Symmetric, Expected::Direct),
            (AddressRestricted, Symmetric, Expected::Direct),
            (PortRestricted, Symmetric, Expected::Relayed),
            (Symmetric, Symmetric, Expected::Relayed),
            (DoubleNat, PortRestricted, Expected::Direct),
            (PlainMasquerade, AddressRestricted, Expected::Direct),
            (PlainMasquerade, PortRestricted, Expected::Either),
            (SymmetricFewPorts, PortRestricted, Expected::Direct),
            (SymmetricFewPorts, DoubleNat, Expected::Direct),
            (SymmetricFewPorts, PlainMasquerade, Expected::Either),
            (SymmetricFewPorts, Lossy, Expected::Either),
            (SymmetricFewPorts, SymmetricFewPorts, Expected::Either),
            (SymmetricFewPorts, Symmetric, Expected::Relayed),
            (SymmetricFewPorts, AddressRestricted, Expected::Direct),
            (UdpBlocked, Public, Expected::Relayed),
            (UdpRejected, Public, Expected::Relayed),
            (Lossy, Lossy, Expected::Either),
            (Lossy, DoubleNat, Expected::Direct),
            (SameLan, SameLan, Expected::Direct),
            (SameLan, Symmetric, Expected::Relayed),
            (SameCarrier, SameCarrier, Expected::Relayed),
            (SameCarrier, DoubleNat, Expected::Direct),
            (SameCarrierHairpin, SameCarrierHairpin, Expected::Direct),
            (FirewallIpv6, FirewallIpv6, Expected::Direct),
            (FirewallIpv6, PortRestricted, Expected::Relayed),
        ] {
            assert_eq!(one.expected(two), expected, "{one} and {two}");
            assert_eq!(two.expected(one), expected, "{two} and {one}");
        }
    }
}
