//! Reads IP packets as far as the filter needs, and refuses what is not whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use writ_schema::net::Protocol;

/// IANA numbers of the protocols that are read further.
pub(super) mod number {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const FRAGMENT: u8 = 44;
    pub const ICMP_V6: u8 = 58;
    pub const SCTP: u8 = 132;
    /// Kept free for experiments (RFC 3692); carries the path probes inside the tunnel.
    pub const PROBE: u8 = 253;
}

/// Why bytes are not a packet that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its headers, or than they say.
    #[error("the packet is cut off")]
    Truncated,
    /// Neither IPv4 nor IPv6.
    #[error("the packet is neither IPv4 nor IPv6")]
    Version,
    /// A fragment other than the first carries no ports to decide by.
    #[error("the packet is a fragment without its header")]
    Fragment,
    /// Source routes and the like.
    #[error("the packet has IP options or extension headers that are not passed on")]
    Options,
    /// ICMP for IPv4 inside IPv6 or the other way round.
    #[error("the packet's protocol is not of its IP version")]
    WrongFamily,
}

/// What a packet says about where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IANA number of the protocol.
    pub number: u8,
    /// Where the transport header begins.
    pub transport_at: usize,
    /// What the transport header says.
    pub transport: Transport,
}

/// What a transport header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, UDP or SCTP.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// TCP's flags; none for the others.
        tcp: Option<TcpFlags>,
    },
    /// ICMP echo.
    Echo {
        /// Tells exchanges apart.
        identifier: u16,
        /// Whether it is the answer.
        reply: bool,
    },
    /// An ICMP error about another packet, which was sent between these ends.
    Error(Quoted),
    /// Any other ICMP message: belongs to no exchange.
    OtherIcmp,
    /// A protocol without ports.
    Plain,
}

/// The flags of TCP that begin and end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// SYN alone, or ACK alone.
    pub fn of(begins: bool) -> Self {
        Self(if begins { 0x02 } else { 0x10 })
    }

    /// The first packet of a connection.
    pub fn opens(self) -> bool {
        self.0 & 0x12 == 0x02
    }

    /// The packet ends its connection: FIN or RST.
    pub fn ends(self) -> bool {
        self.0 & 0x05 != 0
    }

    /// The packet resets its connection.
    pub fn resets(self) -> bool {
        self.0 & 0x04 != 0
    }
}

/// The packet that an ICMP error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// IANA number of its protocol.
    pub number: u8,
    /// Its source port, or the identifier of an echo request.
    pub source_port: u16,
    /// Its destination port; the identifier of an echo reply.
    pub destination_port: u16,
}

impl Packet {
    /// Reads a packet.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Header::parse(bytes)?;
        let whole = bytes.get(..header.total).ok_or(Malformed::Truncated)?;
        let transport_bytes = whole.get(header.length..).ok_or(Malformed::Truncated)?;
        Ok(Self {
            source: header.source,
            destination: header.destination,
            number: header.number,
            transport_at: header.length,
            transport: read_transport(header.number, transport_bytes)?,
        })
    }

    /// The protocol as policies name it.
    pub fn protocol(&self) -> Protocol {
        Protocol::of_number(self.number)
    }
}

/// An IP header with what precedes the transport header.
struct Header {
    source: IpAddr,
    destination: IpAddr,
    number: u8,
    length: usize,
    total: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first().ok_or(Malformed::Truncated)? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => Err(Malformed::Version),
        }
    }

    fn parse_v4(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        if fixed[0] & 0x0F != 5 {
            return Err(Malformed::Options);
        }
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if total < fixed.len() {
            return Err(Malformed::Truncated);
        }
        if u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1FFF != 0 {
            return Err(Malformed::Fragment);
        }
        if fixed[9] == number::ICMP_V6 {
            return Err(Malformed::WrongFamily);
        }
        Ok(Self {
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
            number: fixed[9],
            length: fixed.len(),
            total,
        })
    }

    fn parse_v6(bytes: &[u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = bytes.split_first_chunk::<40>().ok_or(Malformed::Truncated)?;
        let [.., length_high, length_low, next, _] = *fixed.first_chunk::<8>().ok_or(Malformed::Truncated)?;
        let payload = usize::from(u16::from_be_bytes([length_high, length_low]));
        let address = |at: usize| {
            let octets =
                fixed.get(at..).and_then(|tail| tail.first_chunk::<16>()).ok_or(Malformed::Truncated)?;
            Ok::<IpAddr, Malformed>(Ipv6Addr::from(*octets).into())
        };
        let (number, skipped) = match next {
            number::FRAGMENT => skip_fragment_header(rest)?,
            // Hop-by-hop, routing, authentication and destination options.
            0 | 43 | 51 | 60 => return Err(Malformed::Options),
            other => (other, 0),
        };
        if number == number::ICMP {
            return Err(Malformed::WrongFamily);
        }
        Ok(Self {
            source: address(8)?,
            destination: address(24)?,
            number,
            length: fixed.len() + skipped,
            total: fixed.len() + payload,
        })
    }
}

/// A first fragment is read through its header; what follows it is refused later, as it is without ports.
fn skip_fragment_header(rest: &[u8]) -> Result<(u8, usize), Malformed> {
    let fragment: &[u8; 8] = rest.first_chunk().ok_or(Malformed::Truncated)?;
    if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xFFF8 != 0 {
        return Err(Malformed::Fragment);
    }
    match fragment[0] {
        0 | 43 | 44 | 51 | 60 => Err(Malformed::Options),
        next => Ok((next, fragment.len())),
    }
}

fn read_transport(number: u8, bytes: &[u8]) -> Result<Transport, Malformed> {
    match number {
        number::TCP => {
            let head: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
            let (source, destination) = ports(head);
            Ok(Transport::Ports { source, destination, tcp: Some(TcpFlags(head[13])) })
        }
        number::UDP => {
            let head: &[u8; 8] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
            let (source, destination) = ports(head);
            Ok(Transport::Ports { source, destination, tcp: None })
        }
        number::SCTP => {
            let head: &[u8; 12] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
            let (source, destination) = ports(head);
            Ok(Transport::Ports { source, destination, tcp: None })
        }
        number::ICMP => read_icmp(bytes, (8, 0), &[3, 4, 11, 12]),
        number::ICMP_V6 => read_icmp(bytes, (128, 129), &[1, 2, 3, 4]),
        _ => Ok(Transport::Plain),
    }
}

fn read_icmp(bytes: &[u8], echo: (u8, u8), errors: &[u8]) -> Result<Transport, Malformed> {
    let (head, body) = bytes.split_first_chunk::<8>().ok_or(Malformed::Truncated)?;
    let identifier = u16::from_be_bytes([head[4], head[5]]);
    let kind = head[0];
    Ok(if kind == echo.0 {
        Transport::Echo { identifier, reply: false }
    } else if kind == echo.1 {
        Transport::Echo { identifier, reply: true }
    } else if errors.contains(&kind) {
        read_quoted(body).map_or(Transport::OtherIcmp, Transport::Error)
    } else {
        Transport::OtherIcmp
    })
}

/// The quoted packet is usually cut off behind its first bytes, which is enough for its ports.
fn read_quoted(bytes: &[u8]) -> Option<Quoted> {
    let header = Header::parse(bytes).ok()?;
    let transport: &[u8; 8] = bytes.get(header.length..)?.first_chunk()?;
    let identifier = u16::from_be_bytes([transport[4], transport[5]]);
    let (source_port, destination_port) = match (header.number, transport[0]) {
        (number::TCP | number::UDP | number::SCTP, _) => ports(transport),
        (number::ICMP, 8) | (number::ICMP_V6, 128) => (identifier, 0),
        (number::ICMP, 0) | (number::ICMP_V6, 129) => (0, identifier),
        _ => (0, 0),
    };
    let Header { source, destination, number, .. } = header;
    Some(Quoted { source, destination, number, source_port, destination_port })
}

fn ports<const N: usize>(head: &[u8; N]) -> (u16, u16) {
    match head.first_chunk::<4>() {
        Some([a, b, c, d]) => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        None => (0, 0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::engine) const OURS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
    pub(in crate::engine) const THEIRS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

    /// An IPv4 packet with this transport header and payload.
    pub(in crate::engine) fn v4(from: Ipv4Addr, to: Ipv4Addr, number: u8, transport: &[u8]) -> Vec<u8> {
        super::super::answer::wrap_v4(from, to, number, transport).unwrap()
    }

    pub(in crate::engine) fn v6(from: Ipv6Addr, to: Ipv6Addr, number: u8, transport: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(transport.len()).unwrap().to_be_bytes();
        [&[0x60, 0, 0, 0, high, low, number, 64], &from.octets()[..], &to.octets()[..], transport].concat()
    }

    pub(in crate::engine) fn udp(source: u16, destination: u16) -> Vec<u8> {
        [source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat()
    }

    pub(in crate::engine) fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
        let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        header
    }

    pub(in crate::engine) fn icmp(kind: u8, identifier: u16, body: &[u8]) -> Vec<u8> {
        let [high, low] = identifier.to_be_bytes();
        [&[kind, 0, 0, 0, high, low, 0, 0], body].concat()
    }

    #[test]
    fn ports_and_flags_are_read_in_both_families() {
        let packet = Packet::parse(&v4(OURS, THEIRS, number::TCP, &tcp(4000, 80, 0x02))).unwrap();
        assert_eq!((packet.source, packet.destination), (OURS.into(), THEIRS.into()));
        let Transport::Ports { source: 4000, destination: 80, tcp: Some(flags) } = packet.transport else {
            panic!("{packet:?}")
        };
        assert!(flags.opens() && !flags.ends());
        let (from, to) = (Ipv6Addr::from([1; 16]), Ipv6Addr::from([2; 16]));
        let packet = Packet::parse(&v6(from, to, number::UDP, &udp(1, 2))).unwrap();
        assert_eq!(packet.transport, Transport::Ports { source: 1, destination: 2, tcp: None });
        assert_eq!(packet.transport_at, 40);
    }

    #[test]
    fn an_icmp_error_tells_what_it_is_about() {
        let about = v4(OURS, THEIRS, number::UDP, &udp(1000, 53));
        let error = v4(THEIRS, OURS, number::ICMP, &icmp(3, 0, &about[..28]));
        let Transport::Error(quoted) = Packet::parse(&error).unwrap().transport else {
            panic!("not an error")
        };
        assert_eq!((quoted.source, quoted.source_port, quoted.destination_port), (OURS.into(), 1000, 53));
        let cut = v4(THEIRS, OURS, number::ICMP, &icmp(3, 0, &about[..27]));
        assert_eq!(Packet::parse(&cut).unwrap().transport, Transport::OtherIcmp);
    }

    #[test]
    fn what_is_not_whole_or_hides_its_header_is_refused() {
        let good = v4(OURS, THEIRS, number::UDP, &udp(1, 2));
        let altered = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Packet::parse(&bytes)
        };
        assert_eq!(Packet::parse(&[]), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&good[..27]), Err(Malformed::Truncated));
        assert_eq!(altered(0, 0x55), Err(Malformed::Version));
        assert_eq!(altered(0, 0x46), Err(Malformed::Options));
        assert_eq!(altered(3, 19), Err(Malformed::Truncated));
        assert_eq!(altered(3, 200), Err(Malformed::Truncated));
        assert_eq!(altered(7, 1), Err(Malformed::Fragment));
        assert_eq!(altered(9, number::ICMP_V6), Err(Malformed::WrongFamily));
        let (from, to) = (Ipv6Addr::from([1; 16]), Ipv6Addr::from([2; 16]));
        for extension in [0, 43, 51, 60] {
            assert_eq!(Packet::parse(&v6(from, to, extension, &[17; 16])), Err(Malformed::Options));
        }
        let first = [&[number::UDP, 0, 0, 1, 0, 0, 0, 7][..], &udp(1, 2)].concat();
        assert!(Packet::parse(&v6(from, to, number::FRAGMENT, &first)).is_ok());
        let second = [&[number::UDP, 0, 0, 9, 0, 0, 0, 7][..], &udp(1, 2)].concat();
        assert_eq!(Packet::parse(&v6(from, to, number::FRAGMENT, &second)), Err(Malformed::Fragment));
        assert_eq!(Packet::parse(&v6(from, to, number::ICMP, &[8; 8])), Err(Malformed::WrongFamily));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_without_panic(
            first in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let bytes = [&[first][..], &bytes].concat();
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.transport_at <= bytes.len());
                let _ = super::super::answer::refuse(&packet, &bytes);
            }
        }
    }
}
