//! Selectors: the words by which a policy names sources and destinations.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use writ_schema::UserId;

use crate::address::AddressSet;
use crate::document::{Document, Token};
use crate::error::PolicyError;
use crate::inventory::Role;

/// Whom or what a rule names.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) kind: SelectorKind,
    /// As written, without ports.
    pub(crate) text: String,
    pub(crate) offset: usize,
}

/// What kind of name it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SelectorKind {
    Any,
    User(String),
    /// `user:*@domain`: everyone whose login ends in the domain.
    Domain(String),
    Group(String),
    Tag(String),
    Host(String),
    Addresses(AddressSet),
    Autogroup(Autogroup),
}

/// Groups that every network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Autogroup {
    /// Every node that belongs to a user.
    Member,
    /// Every node that carries a tag.
    Tagged,
    /// As a destination: the nodes of the same user as the source.
    Own,
    /// As a destination: what exit nodes lead to.
    Internet,
    /// As a source: every address, also those outside the network.
    DangerAll,
    /// Nodes of users with a role.
    Role(Role),
}

impl Autogroup {
    const NAMES: [(&'static str, Autogroup); 11] = [
        ("autogroup:member", Autogroup::Member),
        ("autogroup:tagged", Autogroup::Tagged),
        ("autogroup:self", Autogroup::Own),
        ("autogroup:internet", Autogroup::Internet),
        ("autogroup:danger-all", Autogroup::DangerAll),
        ("autogroup:owner", Autogroup::Role(Role::Owner)),
        ("autogroup:admin", Autogroup::Role(Role::Admin)),
        ("autogroup:it-admin", Autogroup::Role(Role::ItAdmin)),
        ("autogroup:network-admin", Autogroup::Role(Role::NetworkAdmin)),
        ("autogroup:billing-admin", Autogroup::Role(Role::BillingAdmin)),
        ("autogroup:auditor", Autogroup::Role(Role::Auditor)),
    ];

    /// Whether the product enforces it.
    fn is_enforced(self) -> bool {
        !matches!(self, Autogroup::DangerAll | Autogroup::Role(_))
    }

    /// Whether it names users by their role.
    pub(crate) fn is_role(self) -> bool {
        matches!(self, Autogroup::Role(_))
    }

    fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, autogroup)| *autogroup)
    }
}

/// The names that a policy defines.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) groups: BTreeMap<String, Vec<UserName>>,
    pub(crate) tag_owners: BTreeMap<String, Vec<Selector>>,
    pub(crate) hosts: BTreeMap<String, IpNet>,
}

/// A user as a policy names one: by login or by pseudonym.
#[derive(Debug, Clone)]
pub(crate) struct UserName {
    pub(crate) text: String,
    pub(crate) offset: usize,
}

/// Whether a text can only be meant as a user.
pub(crate) fn is_user_name(text: &str) -> bool {
    let is_prefixed =
        ["group:", "tag:", "autogroup:", "user:", "localpart:"].iter().any(|p| text.starts_with(p));
    !is_prefixed && (text.contains('@') || text.parse::<UserId>().is_ok())
}

impl Names {
    /// Reads a selector and checks that what it names is defined. `entry` is how refusals call it, such as
    /// `dst="tag:a:22"`.
    pub(crate) fn selector(
        &self,
        document: &Document<'_>,
        token: Token<'_>,
        entry: &str,
    ) -> Result<Selector, PolicyError> {
        // Of a source the bare name stands before the message, as Tailscale writes it.
        let separator = if entry == "src" { "=" } else { ": " };
        let refuse = |message: String| document.refuse(token.offset, format!("{entry}{separator}{message}"));
        let text = token.text.trim();
        let kind = if text == "*" {
            SelectorKind::Any
        } else if text.starts_with("group:") {
            if !self.groups.contains_key(text) {
                let known = self.groups.keys().map(String::as_str);
                return Err(refuse(format!("group not found: {text:?}")).with_nearest(text, known));
            }
            SelectorKind::Group(text.to_owned())
        } else if text.starts_with("tag:") {
            if !self.tag_owners.contains_key(text) {
                let known = self.tag_owners.keys().map(String::as_str);
                let refusal = refuse(format!("tag not found: {text:?}")).with_nearest(text, known);
                return Err(match refusal.help() {
                    Some(_) => refusal,
                    None => refusal.with_help("every tag needs an entry in `tagOwners`"),
                });
            }
            SelectorKind::Tag(text.to_owned())
        } else if text.starts_with("autogroup:") {
            let Some(autogroup) = Autogroup::parse(text) else {
                let known = Autogroup::NAMES.iter().map(|(name, _)| *name);
                return Err(refuse(format!("{text:?} is not supported")).with_nearest(text, known));
            };
            if !autogroup.is_enforced() {
                document.note_unsupported(token.offset, format!("{text:?} is not supported"));
            }
            SelectorKind::Autogroup(autogroup)
        } else if let Some(domain) = text.strip_prefix("user:*@") {
            document.note_unsupported(token.offset, format!("{text:?} is not supported"));
            SelectorKind::Domain(domain.to_owned())
        } else if is_user_name(text) {
            SelectorKind::User(text.to_owned())
        } else if self.hosts.contains_key(text) {
            SelectorKind::Host(text.to_owned())
        } else if looks_like_address(text) {
            SelectorKind::Addresses(parse_addresses(text).map_err(refuse)?)
        } else {
            let known = self.hosts.keys().chain(self.groups.keys()).chain(self.tag_owners.keys());
            return Err(refuse(format!("host not found: {text:?}")).with_nearest(
                text,
                known.map(String::as_str).chain(Autogroup::NAMES.iter().map(|(name, _)| *name)),
            ));
        };
        Ok(Selector { kind, text: text.to_owned(), offset: token.offset })
    }

    /// Reads a selector as a source. What Tailscale says of an unknown tag here has no quotation of the entry.
    pub(crate) fn source(&self, document: &Document<'_>, token: Token<'_>) -> Result<Selector, PolicyError> {
        let name = token.text.trim();
        let is_unknown_tag = name.starts_with("tag:") && !self.tag_owners.contains_key(name);
        let entry = if is_unknown_tag { "src".to_owned() } else { format!("src={:?}", token.text) };
        self.selector(document, token, &entry)
    }

    /// The address prefix of a host.
    pub(crate) fn host(&self, name: &str) -> AddressSet {
        AddressSet::from_prefixes(self.hosts.get(name).copied())
    }
}

/// Whether a text begins as an address does, so that a wrong one is refused as an address and not as an
/// unknown host.
fn looks_like_address(text: &str) -> bool {
    let is_v4 = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
    let is_v6 = text.contains(':')
        && text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '/' | '[' | ']'));
    is_v4 || is_v6
}

/// Reads an address, a prefix or a range `first-last`.
fn parse_addresses(text: &str) -> Result<AddressSet, String> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (parse_ip(first)?, parse_ip(last)?);
        if first.is_ipv4() != last.is_ipv4() || first > last {
            return Err(format!("{text:?} is no address range: both ends of one family, the lower first"));
        }
        return Ok(AddressSet::from_ranges([(first, last)]));
    }
    parse_prefix(text).map(|net| AddressSet::from_prefixes([net]))
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match inner.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{text:?} is an IPv4 address written as IPv6: write it as IPv4"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("{text:?} is not an IP address")),
    }
}

/// Reads an address or a prefix without host bits.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let Some((address, length)) = text.split_once('/') else { return parse_ip(text).map(IpNet::from) };
    let address = parse_ip(address)?;
    let is_plain = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = Some(length).filter(|_| is_plain).and_then(|length| length.parse().ok());
    let Some(net) = length.and_then(|length| IpNet::new(address, length).ok()) else {
        return Err(format!("{text:?} is not an address prefix"));
    };
    if net.addr() != net.network() {
        return Err(format!("{text:?} has host bits set: did you mean {}?", net.trunc()));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_strictly() {
        assert!(parse_prefix("10.0.0.0/8").is_ok());
        assert!(parse_prefix("[fd00::1]").is_ok());
        for (text, part) in [
            ("10.0.0.1/8", "did you mean 10.0.0.0/8"),
            ("10.0.0.0/33", "not an address prefix"),
            ("10.0.0.0/08", "not an address prefix"),
            ("10.0.0.0/+8", "not an address prefix"),
            ("10.0.0", "not an IP address"),
            ("10.0.0.256", "not an IP address"),
            ("::ffff:10.0.0.1", "write it as IPv4"),
            ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ] {
            let refusal = parse_prefix(text).expect_err(text);
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    fn users_are_told_from_other_names() {
        let pseudonym = UserId::from_bytes([3; 16]);
        assert!(is_user_name("ada@example.com") && is_user_name(pseudonym.as_str()));
        for other in ["group:a@b", "tag:x", "user:*@example.com", "web", "usr_short", "*"] {
            assert!(!is_user_name(other), "{other}");
        }
    }
}
