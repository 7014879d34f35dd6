//! Sets of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

/// A set of addresses, kept as sorted ranges that neither overlap nor touch: equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddressSet {
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl AddressSet {
    /// Every address of both families.
    pub fn all() -> Self {
        let v6 = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from(u128::MAX)));
        Self::all_v4().union(&Self::from_ranges([v6]))
    }

    /// Every IPv4 address.
    pub(crate) fn all_v4() -> Self {
        Self::from_ranges([(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST))])
    }

    /// The union of ranges, each from its first to its last address. A range over two families or backwards
    /// is empty.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut sorted: Vec<_> = ranges
            .into_iter()
            .filter(|(first, last)| first.is_ipv4() == last.is_ipv4() && first <= last)
            .collect();
        sorted.sort();
        let mut joined: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some(open) if first <= open.1 || following(open.1) == Some(first) => {
                    open.1 = open.1.max(last)
                }
                _ => joined.push((first, last)),
            }
        }
        Self { ranges: joined }
    }

    /// The union of prefixes.
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        Self::from_ranges(prefixes.into_iter().map(|net| (net.network(), net.broadcast())))
    }

    /// The set of single addresses.
    pub fn from_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::from_ranges(addresses.into_iter().map(|address| (address, address)))
    }

    /// Both sets together.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.ranges.iter().chain(&other.ranges).copied())
    }

    /// What both sets hold.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for (first, last) in &self.ranges {
            let from = other.ranges.partition_point(|(_, end)| end < first);
            let overlapping = other.ranges.iter().skip(from).take_while(|(start, _)| start <= last);
            common.extend(overlapping.map(|(start, end)| (*first.max(start), *last.min(end))));
        }
        Self::from_ranges(common)
    }

    /// What this set holds and the other does not.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in &self.ranges {
            let mut open = Some(*first);
            for (start, end) in other.ranges.iter().filter(|(start, end)| start <= last && end >= first) {
                if let (Some(from), Some(to)) = (open, preceding(*start)) {
                    left.push((from, to));
                }
                open = following(*end);
            }
            if let Some(from) = open {
                left.push((from, *last));
            }
        }
        // A range that came out backwards holds nothing and is dropped here.
        Self::from_ranges(left)
    }

    /// Whether the address is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        let next = self.ranges.partition_point(|(_, last)| *last < address);
        self.ranges.get(next).is_some_and(|(first, _)| *first <= address)
    }

    /// Whether the sets share an address.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Whether every address of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        self.intersection(other) == *other
    }

    /// Whether the set holds a single address.
    pub(crate) fn is_one_address(&self) -> bool {
        matches!(self.ranges.as_slice(), [(first, last)] if first == last)
    }

    /// Whether the set holds no address.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, sorted, each from its first to its last address.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.ranges.iter().copied()
    }
}

fn following(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

fn preceding(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_sub(1).map(|before| IpAddr::V4(before.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_sub(1).map(|before| IpAddr::V6(before.into())),
    }
}

impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", range_text(*range))?;
        }
        Ok(())
    }
}

impl Serialize for AddressSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges.iter().map(|range| range_text(*range)))
    }
}

/// One range: as an address, as a prefix where it is one, or as `first-last`.
fn range_text((first, last): (IpAddr, IpAddr)) -> String {
    if first == last {
        return first.to_string();
    }
    let differing = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => 32 - (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => 128 - (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => 0,
    };
    let bits = if first.is_ipv4() { 32 } else { 128 };
    let prefix = u8::try_from(bits - differing).ok().and_then(|length| IpNet::new(first, length).ok());
    match prefix.filter(|net| net.network() == first && net.broadcast() == last) {
        Some(net) => net.to_string(),
        None => format!("{first}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> AddressSet {
        AddressSet::from_prefixes([text.parse().expect("prefix")])
    }

    #[test]
    fn touching_ranges_join_and_equal_sets_are_equal() {
        assert_eq!(net("10.0.0.0/9").union(&net("10.128.0.0/9")), net("10.0.0.0/8"));
        assert_eq!(net("10.0.0.0/8").union(&net("10.1.0.0/16")), net("10.0.0.0/8"));
        assert_ne!(net("10.0.0.0/8"), net("10.0.0.0/9"));
    }

    #[test]
    fn the_families_never_mix() {
        let all = AddressSet::all();
        assert_eq!(all.ranges().count(), 2);
        assert_eq!(net("0.0.0.0/0").union(&net("::/0")), all);
        assert!(!net("0.0.0.0/0").contains("::1".parse().expect("address")));
    }

    #[test]
    fn intersection_agrees_with_membership() {
        let left = net("10.0.0.0/30").union(&net("10.0.0.8/30"));
        let right = net("10.0.0.2/31").union(&net("10.0.0.10/31")).union(&net("fd00::/64"));
        let both = left.intersection(&right);
        let rest = left.without(&right);
        assert_eq!(both.union(&rest), left);
        assert!(!both.intersects(&rest));
        assert_eq!(AddressSet::all().without(&AddressSet::all()), AddressSet::default());
        for last in 0..16 {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
            assert_eq!(
                both.contains(address),
                left.contains(address) && right.contains(address),
                "{address}"
            );
        }
        assert!(left.covers(&both) && right.covers(&both) && !both.covers(&left));
    }

    #[test]
    fn ranges_print_as_people_write_them() {
        assert_eq!(net("10.0.0.0/8").to_string(), "10.0.0.0/8");
        assert_eq!(net("10.0.0.1/32").to_string(), "10.0.0.1");
        assert_eq!(net("10.0.0.1/32").union(&net("10.0.0.2/32")).to_string(), "10.0.0.1-10.0.0.2");
        assert_eq!(AddressSet::all().to_string(), "0.0.0.0/0, ::/0");
    }
}
