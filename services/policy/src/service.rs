//! Protocols and ports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IP protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Protocol {
    /// TCP, protocol 6.
    Tcp,
    /// UDP, protocol 17.
    Udp,
    /// ICMP over IPv4, protocol 1. Over IPv6 it is `Other(58)`.
    Icmp,
    /// Any other, by number. Never 1, 6 or 17: [`Protocol::from_number`] keeps one name for each.
    Other(u8),
}

/// Names that a policy may use for the others.
const NAMES: [(&str, u8); 10] = [
    ("igmp", 2),
    ("ip-in-ip", 4),
    ("egp", 8),
    ("igp", 9),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("sctp", 132),
    ("fc", 133),
];

impl Protocol {
    /// What a rule that names no protocol permits: TCP, UDP and ICMP over both families.
    pub const DEFAULTS: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Other(58)];

    /// The protocol of an IP protocol number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Protocol::Icmp,
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            other => Protocol::Other(other),
        }
    }

    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Icmp => 1,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Other(number) => number,
        }
    }

    /// Whether packets of it carry ports. For the rest, a rule's ports say nothing.
    pub fn has_ports(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Udp | Protocol::Other(132))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Tcp => f.write_str("tcp"),
            Protocol::Udp => f.write_str("udp"),
            Protocol::Icmp => f.write_str("icmp"),
            Protocol::Other(number) => match NAMES.iter().find(|(_, known)| known == number) {
                Some((name, _)) => f.write_str(name),
                None => number.fmt(f),
            },
        }
    }
}

/// A text that names no protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("proto name {0:?} not known; use protocol number 0-255 or protocol name (icmp, tcp, udp, etc.)")]
pub struct ProtocolError(String);

impl FromStr for Protocol {
    type Err = ProtocolError;

    /// Reads a name, in letters of either case, or a number without leading zeros.
    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        let lower = text.to_ascii_lowercase();
        let named = match lower.as_str() {
            "tcp" => Some(6),
            "udp" => Some(17),
            "icmp" => Some(1),
            "ipv4" => Some(4),
            other => NAMES.iter().find(|(name, _)| *name == other).map(|(_, number)| *number),
        };
        let plain = Some(text).filter(|text| !text.starts_with('0'));
        let number = named.or_else(|| plain.and_then(decimal).and_then(|n| u8::try_from(n).ok()));
        number.map(Protocol::from_number).ok_or_else(|| ProtocolError(text.chars().take(32).collect()))
    }
}

impl TryFrom<String> for Protocol {
    type Error = ProtocolError;

    fn try_from(text: String) -> Result<Self, ProtocolError> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> String {
        protocol.to_string()
    }
}

/// A contiguous range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortRange {
    /// Every port; also what stands for "no ports" with a protocol that has none.
    pub const ALL: PortRange = PortRange { first: 0, last: u16::MAX };

    /// The range of one port.
    pub fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether the port is in the range.
    pub fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PortRange::ALL => f.write_str("*"),
            PortRange { first, last } if first == last => first.fmt(f),
            PortRange { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// Most port ranges in one list.
const MAX_RANGES: usize = 1024;

/// Reads a list such as `80,443,8000-8100` or `*`; ranges come back sorted and merged.
pub(crate) fn parse_ports(text: &str) -> Result<Vec<PortRange>, String> {
    if text == "*" {
        return Ok(vec![PortRange::ALL]);
    }
    if text.split(',').count() > MAX_RANGES {
        return Err(format!("more than {MAX_RANGES} port ranges in one list"));
    }
    let ranges = text.split(',').map(parse_range).collect::<Result<Vec<_>, _>>()?;
    Ok(merged(ranges))
}

fn parse_range(text: &str) -> Result<PortRange, String> {
    let shown = || text.chars().take(32).collect::<String>();
    if text == "*" {
        return Ok(PortRange::ALL);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let end = |part: &str, name: &str| match decimal(part) {
        None => Err(format!("port range {:?}: invalid {name} integer", shown())),
        Some(number) => u16::try_from(number)
            .map_err(|_| format!("port range {:?}: invalid {name} integer (ports end at 65535)", shown())),
    };
    let range = PortRange { first: end(first, "first")?, last: end(last, "last")? };
    if range.first == 0 {
        return Err(format!("port range {:?}: first port must be >0, or use '*' for wildcard", shown()));
    }
    if range.first > range.last {
        return Err(format!("port range {:?}: first port must be <= last port", shown()));
    }
    Ok(range)
}

/// Digits only, since Rust's own reader would take `+80`.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Sorts ranges and joins those that overlap or touch.
pub(crate) fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

/// What of a range no other range covers; `others` sorted and disjoint.
pub(crate) fn without(range: PortRange, others: &[PortRange]) -> Vec<PortRange> {
    let mut left = Vec::new();
    let mut first = u32::from(range.first);
    for other in others {
        if u32::from(other.last) < first || other.first > range.last {
            continue;
        }
        push_range(&mut left, first, u32::from(other.first));
        first = u32::from(other.last) + 1;
    }
    push_range(&mut left, first, u32::from(range.last) + 1);
    left
}

/// Adds the ports from `first` up to, not including, `end`.
fn push_range(ranges: &mut Vec<PortRange>, first: u32, end: u32) {
    if first < end
        && let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(end - 1))
    {
        ranges.push(PortRange { first, last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn protocols_survive_text_and_back() {
        for number in 1..=255 {
            let protocol = Protocol::from_number(number);
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            assert_eq!(protocol.number(), number);
        }
        for bad in ["", "0", "06", "256", "+6", "tcpp", "*"] {
            assert!(bad.parse::<Protocol>().is_err(), "{bad}");
        }
        assert_eq!("6".parse(), Ok(Protocol::Tcp));
        assert_eq!("Tcp".parse(), Ok(Protocol::Tcp));
    }

    #[test]
    fn port_lists_are_sorted_and_merged() {
        assert_eq!(parse_ports("443,80-81,82,400-500"), Ok(vec![range(80, 82), range(400, 500)]));
        assert_eq!(parse_ports("*"), Ok(vec![PortRange::ALL]));
        assert_eq!(parse_ports("65535,65534"), Ok(vec![range(65534, 65535)]));
    }

    #[test]
    fn ports_at_every_edge_are_refused_in_words() {
        for (text, part) in [
            ("ssh", "\"ssh\": invalid first integer"),
            ("", "invalid first integer"),
            ("1-", "invalid last integer"),
            ("-1", "invalid first integer"),
            ("0", "first port must be >0"),
            ("0-80", "first port must be >0"),
            ("65536", "ports end at 65535"),
            ("99999999999999999999", "invalid first integer"),
            ("90-80", "first port must be <= last port"),
            ("+80", "invalid first integer"),
            (" 80", "invalid first integer"),
            ("80,,81", "\"\": invalid first integer"),
        ] {
            let refusal = parse_ports(text).expect_err(text);
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    fn subtraction_keeps_what_is_not_covered() {
        assert_eq!(without(range(1, 10), &[range(3, 4), range(8, 20)]), vec![range(1, 2), range(5, 7)]);
        assert_eq!(without(PortRange::ALL, &[PortRange::ALL]), vec![]);
        assert_eq!(without(PortRange::ALL, &[range(1, 65535)]), vec![range(0, 0)]);
        assert_eq!(without(range(5, 6), &[range(1, 4), range(7, 9)]), vec![range(5, 6)]);
    }
}
