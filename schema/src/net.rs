//! Small words of the network: protocols, ports, prefixes, tags.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;

use crate::internet;
use crate::text::as_text;

/// An IP protocol, written `tcp`, `udp`, `icmp`, or its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6, which a policy does not tell apart.
    Icmp,
    /// Any other, by its IANA number.
    Other(u8),
}

as_text!(Protocol);

impl Protocol {
    /// Names the protocol of a packet by its IANA number.
    pub const fn of_number(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 | 58 => Self::Icmp,
            other => Self::Other(other),
        }
    }

    /// Whether packets of the protocol carry ports.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Other(132))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Other(number) => number.fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            number => number.parse().map(Self::of_number).map_err(|_| {
                format!("`{text}` is not a protocol: expected tcp, udp, icmp or a number up to 255")
            }),
        }
    }
}

impl TryFrom<String> for Protocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> String {
        protocol.to_string()
    }
}

/// An inclusive range of ports, written `80` or `8000-8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

as_text!(PortRange);

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port.
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// From `first` to `last`, both included; `None` if they are the wrong way round.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The lowest port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether the port is in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let range = port(first).zip(port(last)).and_then(|(first, last)| Self::new(first, last));
        range.ok_or_else(|| format!("`{text}` is not a port or a range of ports such as 8000-8080"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        range.to_string()
    }
}

/// An IP prefix, written `10.20.0.0/16`. No bit of the address is set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Prefix(IpNet);

as_text!(Prefix);

impl Prefix {
    /// The prefix that an address and a length name, bits behind the length left out.
    pub fn of(net: IpNet) -> Self {
        Self(net.trunc())
    }

    /// The single address.
    pub fn single(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// The prefix as an address and a length.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Its first address.
    pub fn first(self) -> IpAddr {
        self.0.network()
    }

    /// Whether the address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether every address of the other is in it.
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether there is an address in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Whether it is every address of its family. As a route that is the way to the Internet.
    pub fn is_everything(self) -> bool {
        self.0.prefix_len() == 0
    }

    /// Whether a route for this leads to the address: one for everything leads to the [Internet](internet) only.
    pub fn leads_to(self, address: IpAddr) -> bool {
        self.contains(address) && (!self.is_everything() || internet::contains(address))
    }

    /// Whether a route for this leads wherever a route for the other does.
    pub fn leads_where(self, other: Self) -> bool {
        self.covers(other) && (!self.is_everything() || other.is_everything() || internet::covers(other.0))
    }

    /// An address that a route for this leads to.
    pub fn example(self) -> IpAddr {
        if self.is_everything() { internet::first(self.first().is_ipv4()) } else { self.first() }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let echo: String = text.chars().take(80).collect();
        let net: IpNet = text
            .parse()
            .map_err(|_| format!("`{echo}` is not a prefix such as 10.20.0.0/16 or fd00:1::/64"))?;
        if net.trunc() != net {
            return Err(format!("`{echo}` has bits behind its prefix: write {}", net.trunc()));
        }
        Ok(Self(net))
    }
}

/// A tag, written `tag:` and a name of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Tag(String);

as_text!(Tag);

impl Tag {
    /// The tag as it is written, `tag:` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("tag:").unwrap_or_default();
        let starts = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        let fits =
            name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if starts && fits {
            return Ok(Self(text.to_owned()));
        }
        let echo: String = text.chars().take(80).collect();
        Err(format!("`{echo}` is not a tag: expected `tag:`, a letter, and letters, digits, `-` or `_`"))
    }
}

impl TryFrom<String> for Tag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> String {
        tag.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_ports_and_tags_read_as_they_are_written() {
        for text in ["tcp", "udp", "icmp", "47"] {
            assert_eq!(text.parse::<Protocol>().unwrap().to_string(), text);
        }
        for text in ["80", "8000-8080", "0-65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        assert_eq!("6".parse(), Ok(Protocol::Tcp));
        assert_eq!("tag:web".parse::<Tag>().unwrap().as_str(), "tag:web");
    }

    #[test]
    fn a_prefix_reads_as_it_is_written_and_has_nothing_behind_it() {
        for text in ["10.20.0.0/16", "0.0.0.0/0", "fd00:1::/64", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        for bad in ["10.20.0.1/16", "10.20.0.0", "10.20.0.0/33", "", "fd00::1/64", "10.20.0.0/-1"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        let wide: Prefix = "10.0.0.0/8".parse().unwrap();
        let narrow: Prefix = "10.20.0.0/16".parse().unwrap();
        assert!(wide.covers(narrow) && !narrow.covers(wide) && narrow.overlaps(wide));
        assert!(narrow.contains("10.20.3.4".parse().unwrap()) && !narrow.contains("::1".parse().unwrap()));
    }

    #[test]
    fn a_route_for_everything_leads_to_the_internet_only() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let (exit, private, public) = (prefix("0.0.0.0/0"), prefix("10.20.0.0/16"), prefix("8.8.0.0/16"));
        assert!(exit.leads_to(public.first()) && !exit.leads_to(private.first()));
        assert!(private.leads_to(private.first()) && !prefix("::/0").leads_to(public.first()));
        for (route, other, leads) in [
            (exit, exit, true),
            (exit, public, true),
            (exit, private, false),
            (private, exit, false),
            (private, prefix("10.20.3.0/24"), true),
            (prefix("::/0"), prefix("fd00::/8"), false),
            (prefix("::/0"), exit, false),
        ] {
            assert_eq!(route.leads_where(other), leads, "{route} {other}");
        }
        assert!([exit, private, public, prefix("::/0")].iter().all(|route| route.leads_to(route.example())));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert!("256".parse::<Protocol>().is_err());
        for bad in ["", "-", "80-", "90-80", "65536", "+80-90"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
        for bad in ["web", "tag:", "tag:1", "tag:ä", "tag:a b"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }
}
