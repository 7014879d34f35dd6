//! Rules: the entries of `acls` and `grants`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capabilities;
use crate::conditions::{self, Conditions, Notes};
use crate::document::{Document, Token};
use crate::error::PolicyError;
use crate::hujson::{Kind, Member, Value};
use crate::posture::Postures;
use crate::selector::{Autogroup, Names, Selector, SelectorKind};
use crate::service::{PortRange, Protocol, merged, parse_ports};

/// The part of a policy file that a rule stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// `acls`.
    Acls,
    /// `grants`.
    Grants,
}

impl Section {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Section::Acls => "acls",
            Section::Grants => "grants",
        }
    }
}

/// Names a rule by its position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// The section.
    pub section: Section,
    /// Position in the section, from zero.
    pub index: usize,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.section.key(), self.index)
    }
}

/// A text that names no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no rule: write it as acls[0] or grants[2], counted from 0")]
pub struct RuleRefError(String);

impl FromStr for RuleRef {
    type Err = RuleRefError;

    fn from_str(text: &str) -> Result<Self, RuleRefError> {
        let parts = text.split_once('[').and_then(|(section, rest)| Some((section, rest.strip_suffix(']')?)));
        let known = [Section::Acls, Section::Grants];
        let found = parts.and_then(|(name, index)| {
            let section = known.into_iter().find(|section| section.key() == name)?;
            let digits = index.bytes().all(|byte| byte.is_ascii_digit()).then_some(index)?;
            Some(RuleRef { section, index: digits.parse().ok()? })
        });
        found.ok_or_else(|| RuleRefError(text.chars().take(32).collect()))
    }
}

/// One rule: who may reach what.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) at: RuleRef,
    /// Position among all rules of the file.
    pub(crate) position: usize,
    pub(crate) src: Vec<Selector>,
    pub(crate) targets: Vec<Target>,
    /// Tags of the routers that alone carry what the rule grants; empty if any may.
    pub(crate) via: Vec<Selector>,
    /// Application capabilities, by name.
    pub(crate) app: Vec<(String, Vec<serde_json::Value>)>,
    /// What it asks for besides; nothing if that is nothing.
    pub(crate) conditions: Option<Arc<Conditions>>,
    pub(crate) notes: Notes,
}

impl Rule {
    /// Whether it grants the same to the same names, wherever it stands in the text.
    pub(crate) fn says_the_same(&self, other: &Rule) -> bool {
        let same = |left: &[Selector], right: &[Selector]| {
            left.iter().map(|selector| &selector.kind).eq(right.iter().map(|selector| &selector.kind))
        };
        let same_targets = || {
            let pairs = self.targets.iter().zip(&other.targets);
            pairs
                .into_iter()
                .all(|(own, other)| own.dst.kind == other.dst.kind && own.services == other.services)
        };
        self.at == other.at
            && same(&self.src, &other.src)
            && same(&self.via, &other.via)
            && self.app == other.app
            && self.conditions == other.conditions
            && self.targets.len() == other.targets.len()
            && same_targets()
    }

    fn new(at: RuleRef, src: Vec<Selector>, targets: Vec<Target>) -> Self {
        Self {
            at,
            position: 0,
            src,
            targets,
            via: Vec::new(),
            app: Vec::new(),
            conditions: None,
            notes: Notes::default(),
        }
    }
}

/// A destination of a rule and what of it is granted.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) dst: Selector,
    pub(crate) services: Vec<Granted>,
}

/// Ports of a protocol, or of the usual ones if none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) protocol: Option<Protocol>,
    /// Sorted and disjoint.
    pub(crate) ports: Vec<PortRange>,
}

impl Granted {
    /// Whether it says anything of the protocol.
    pub(crate) fn covers(&self, protocol: Protocol) -> bool {
        match self.protocol {
            Some(named) => named == protocol,
            None => Protocol::DEFAULTS.contains(&protocol),
        }
    }

    /// The granted range that holds the port. A protocol without ports is granted whole.
    pub(crate) fn range(&self, protocol: Protocol, port: u16) -> Option<PortRange> {
        if !self.covers(protocol) {
            return None;
        }
        if !protocol.has_ports() {
            return Some(PortRange::ALL);
        }
        let next = self.ports.partition_point(|range| range.last < port);
        self.ports.get(next).copied().filter(|range| range.contains(port))
    }

    /// The protocols it speaks of.
    pub(crate) fn protocols(&self) -> &[Protocol] {
        match &self.protocol {
            Some(named) => std::slice::from_ref(named),
            None => &Protocol::DEFAULTS,
        }
    }
}

/// Reads a section of rules.
pub(crate) fn read(
    document: &Document<'_>,
    names: &Names,
    postures: &Postures,
    section: Section,
    value: &Value,
) -> Result<Vec<Rule>, PolicyError> {
    let mut rules = Vec::new();
    for (index, entry) in document.array(value)?.iter().enumerate() {
        let at = RuleRef { section, index };
        let mut rule = match section {
            Section::Acls => read_acl(document, names, at, entry)?,
            Section::Grants => read_grant(document, names, at, entry)?,
        };
        (rule.conditions, rule.notes) = read_conditions(document, postures, entry)?;
        rules.push(rule);
    }
    Ok(rules)
}

fn read_conditions(
    document: &Document<'_>,
    postures: &Postures,
    entry: &Value,
) -> Result<(Option<Arc<Conditions>>, Notes), PolicyError> {
    let (conditions, notes) = match document.take_directive(entry)? {
        Some(directive) => conditions::read(document, directive)?,
        None => Default::default(),
    };
    let named = member(document.object(entry)?, SRC_POSTURE).map(|member| &member.value);
    let conditions = conditions.with_postures(postures.of_rule(document, named)?);
    Ok(((!conditions.is_none()).then(|| Arc::new(conditions)), notes))
}

/// The key by which a rule names postures.
const SRC_POSTURE: &str = "srcPosture";

fn read_acl(document: &Document<'_>, names: &Names, at: RuleRef, entry: &Value) -> Result<Rule, PolicyError> {
    const KEYS: [&str; 7] = ["action", "src", "users", "dst", "ports", "proto", SRC_POSTURE];
    let fields = Fields::read(document, entry, &KEYS)?;
    let action = fields.required("action")?;
    match document.string(action)? {
        "accept" => {}
        other => {
            let message = format!("action={other:?} is not supported");
            return Err(document.refuse(action.start, message).with_help("the only action is \"accept\""));
        }
    }
    let protocol = match fields.get("proto") {
        Some(value) => read_protocol(document, value)?,
        None => None,
    };
    // `users` and `ports` are what `src` and `dst` were called in old files.
    let src = read_sources(document, names, fields.end("src", Some("users"))?)?;
    let mut targets = Vec::new();
    for token in fields.end("dst", Some("ports"))? {
        let (dst, ports) = read_destination(document, names, token)?;
        check_destination(document, &dst)?;
        check_protocol_ports(document, token.offset, protocol, &ports)?;
        targets.push(Target { dst, services: vec![Granted { protocol, ports }] });
    }
    let rule = Rule::new(at, src, targets);
    check_own(document, &rule)?;
    Ok(rule)
}

fn read_grant(
    document: &Document<'_>,
    names: &Names,
    at: RuleRef,
    entry: &Value,
) -> Result<Rule, PolicyError> {
    let fields = Fields::read(document, entry, &["src", "dst", "ip", "app", "via", SRC_POSTURE])?;
    let src = read_sources(document, names, fields.end("src", None)?)?;
    let mut services = Vec::new();
    if let Some(ip) = fields.get("ip") {
        for token in document.strings(ip)? {
            services.push(read_service(document, token)?);
        }
    }
    let services = joined(services);
    let app = match fields.get("app") {
        Some(value) => capabilities::read(document, value)?,
        None => Vec::new(),
    };
    if services.is_empty() && app.is_empty() {
        return Err(document.refuse(entry.start, "ip and app can not both be empty"));
    }
    let mut targets = Vec::new();
    for token in fields.end("dst", None)? {
        let dst = names.selector(document, token, &format!("dst={:?}", token.text))?;
        check_destination(document, &dst)?;
        check_grant_destination(document, &dst, !app.is_empty())?;
        targets.push(Target { dst, services: services.clone() });
    }
    let via = match fields.get("via") {
        Some(value) => read_via(document, names, value)?,
        None => Vec::new(),
    };
    let rule = Rule { via, app, ..Rule::new(at, src, targets) };
    check_own(document, &rule)?;
    Ok(rule)
}

fn read_via(document: &Document<'_>, names: &Names, value: &Value) -> Result<Vec<Selector>, PolicyError> {
    let mut routers = Vec::new();
    for token in document.strings(value)? {
        let entry = format!("via={:?}", token.text);
        if !token.trim().starts_with("tag:") {
            return Err(document.refuse(token.offset, format!("{entry}: via can only be a tag")));
        }
        let unknown = || format!("tag {:?} not found", token.trim());
        routers.push(names.selector(document, token, &entry).map_err(|error| error.reworded(unknown()))?);
    }
    Ok(routers)
}

/// Joins the entries of one protocol, so that neighbouring ports make one range.
fn joined(services: Vec<Granted>) -> Vec<Granted> {
    let mut joined: Vec<Granted> = Vec::new();
    for granted in services {
        match joined.iter_mut().find(|known| known.protocol == granted.protocol) {
            Some(known) => known.ports = merged([std::mem::take(&mut known.ports), granted.ports].concat()),
            None => joined.push(granted),
        }
    }
    joined
}

/// Refuses destinations that could only be a mistake.
fn check_destination(document: &Document<'_>, dst: &Selector) -> Result<(), PolicyError> {
    match &dst.kind {
        SelectorKind::Autogroup(Autogroup::DangerAll) => {
            Err(document.refuse(dst.offset, "cannot use autogroup:danger-all as a dst"))
        }
        _ => Ok(()),
    }
}

/// Refuses what only grants may not say of their destinations.
fn check_grant_destination(
    document: &Document<'_>,
    dst: &Selector,
    has_app: bool,
) -> Result<(), PolicyError> {
    match &dst.kind {
        SelectorKind::Addresses(_) if dst.text.ends_with("/0") => {
            let message =
                format!("dst {:?}: to allow all IP addresses, use \"*\" or \"autogroup:internet\"", dst.text);
            Err(document.refuse(dst.offset, message))
        }
        SelectorKind::Autogroup(Autogroup::Internet) if has_app => {
            Err(document.refuse(dst.offset, "cannot use app grants with autogroup:internet"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn read_protocol(document: &Document<'_>, value: &Value) -> Result<Option<Protocol>, PolicyError> {
    match document.string(value)? {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error: crate::service::ProtocolError| document.refuse(value.start, error.to_string())),
    }
}

fn read_sources(
    document: &Document<'_>,
    names: &Names,
    tokens: Vec<Token<'_>>,
) -> Result<Vec<Selector>, PolicyError> {
    let mut sources = Vec::new();
    for token in tokens {
        let selector = names.source(document, token)?;
        if selector.kind == SelectorKind::Autogroup(Autogroup::Own) {
            let message = "\"autogroup:self\" not valid on the src side of a rule";
            return Err(document.refuse(token.offset, message));
        }
        if selector.kind == SelectorKind::Autogroup(Autogroup::Internet) {
            let message = "\"autogroup:internet\" not valid on the src side of a rule";
            return Err(document.refuse(token.offset, message));
        }
        sources.push(selector);
    }
    Ok(sources)
}

/// Reads a destination with ports, such as `tag:web:80,443` or `[fd00::1]:22`.
pub(crate) fn read_destination(
    document: &Document<'_>,
    names: &Names,
    token: Token<'_>,
) -> Result<(Selector, Vec<PortRange>), PolicyError> {
    let entry = format!("dst={:?}", token.text);
    let Some((name, ports)) = token.text.rsplit_once(':') else {
        return Err(document
            .refuse(token.offset, format!("{entry}: no ports are given"))
            .with_help("write them after a colon, such as \":443\" or \":*\""));
    };
    let ports =
        parse_ports(ports).map_err(|message| document.refuse(token.offset, format!("{entry}: {message}")))?;
    let entry = format!("dst={name:?}");
    let selector = names.selector(document, Token { text: name, offset: token.offset }, &entry)?;
    Ok((selector, ports))
}

/// Reads an entry of a grant's `ip`: `*`, `443`, `80-90`, `tcp:443`, `icmp:*`.
fn read_service(document: &Document<'_>, token: Token<'_>) -> Result<Granted, PolicyError> {
    let (protocol, ports) = match token.text.split_once(':') {
        Some((_, ports)) if ports.contains(':') => {
            let message = "expected only one colon in Internet protocol and port type";
            return Err(document.refuse(token.offset, format!("ip={:?}: {message}", token.text)));
        }
        Some((protocol, ports)) => {
            let protocol: Protocol = protocol.parse().map_err(|error: crate::service::ProtocolError| {
                document.refuse(token.offset, format!("ip={:?}: {error}", token.text))
            })?;
            (Some(protocol), ports)
        }
        None => (None, token.text),
    };
    let ports = parse_ports(ports)
        .map_err(|message| document.refuse(token.offset, format!("ip={:?}: {message}", token.text)))?;
    check_protocol_ports(document, token.offset, protocol, &ports)?;
    Ok(Granted { protocol, ports })
}

/// A protocol without ports can only be granted whole.
pub(crate) fn check_protocol_ports(
    document: &Document<'_>,
    offset: usize,
    protocol: Option<Protocol>,
    ports: &[PortRange],
) -> Result<(), PolicyError> {
    match protocol {
        Some(protocol) if !protocol.has_ports() && ports != [PortRange::ALL] => {
            let message = format!("the protocol {protocol} has no ports: write `*` for them");
            Err(document.refuse(offset, message))
        }
        _ => Ok(()),
    }
}

/// `autogroup:self` compares users, so every source must be one.
fn check_own(document: &Document<'_>, rule: &Rule) -> Result<(), PolicyError> {
    let is_own = |target: &&Target| target.dst.kind == SelectorKind::Autogroup(Autogroup::Own);
    let Some(own) = rule.targets.iter().find(is_own) else { return Ok(()) };
    let is_user = |selector: &Selector| match selector.kind {
        SelectorKind::User(_) | SelectorKind::Domain(_) | SelectorKind::Group(_) => true,
        SelectorKind::Autogroup(autogroup) => autogroup == Autogroup::Member || autogroup.is_role(),
        // Tailscale takes "everyone, as far as they have nodes" in one section and not in the other.
        SelectorKind::Any => rule.at.section == Section::Acls,
        _ => false,
    };
    if rule.src.iter().all(is_user) {
        return Ok(());
    }
    let message = "autogroup:self can only be used with users, groups, or supported autogroups";
    Err(document.refuse(own.dst.offset, message))
}

/// The fields of a rule or test, none of them unknown. Keys are told apart by their letters whatever their case, as other
/// readers of the language do; `null` says no more than no key.
pub(crate) struct Fields<'d, 'v> {
    document: &'d Document<'d>,
    entry: &'v Value,
    members: &'v [Member],
}

impl<'d, 'v> Fields<'d, 'v> {
    pub(crate) fn read(
        document: &'d Document<'d>,
        entry: &'v Value,
        known: &[&str],
    ) -> Result<Self, PolicyError> {
        let members = document.object(entry)?;
        for (index, member) in members.iter().enumerate() {
            let is_known = known.iter().any(|key| key.eq_ignore_ascii_case(&member.key));
            // Tools that write policies keep notes of their own under such keys, which mean nothing.
            if !is_known && !member.key.starts_with('#') {
                return Err(document.unknown_key(member, known.iter().copied()));
            }
            check_not_repeated(document, members, index)?;
        }
        Ok(Self { document, entry, members })
    }

    /// The same where tools keep no notes of their own.
    pub(crate) fn read_exactly(
        document: &'d Document<'d>,
        entry: &'v Value,
        known: &[&str],
    ) -> Result<Self, PolicyError> {
        let members = document.object(entry)?;
        match members.iter().find(|member| !known.contains(&member.key.as_str())) {
            Some(member) => Err(document.unknown_key(member, known.iter().copied())),
            None => Self::read(document, entry, known),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'v Value> {
        member(self.members, key).map(|member| &member.value)
    }

    /// Sources or destinations. A rule that has none grants nothing elsewhere; here it is no rule.
    fn end(&self, key: &str, old_key: Option<&str>) -> Result<Vec<Token<'v>>, PolicyError> {
        match (self.get(key), old_key.and_then(|old| self.get(old))) {
            (Some(value), None) | (None, Some(value)) => self.document.strings(value),
            (Some(_), Some(old)) => {
                let old_key = old_key.unwrap_or_default();
                let message = format!("{old_key:?} is the old name of {key:?}, which stands here too");
                Err(self.document.refuse(old.start, message))
            }
            (None, None) => {
                let message = format!("the key {key:?} is missing here, so the rule grants nothing");
                self.document.note_unsupported(self.entry.start, message);
                Ok(Vec::new())
            }
        }
    }

    pub(crate) fn required(&self, key: &str) -> Result<&'v Value, PolicyError> {
        self.get(key)
            .ok_or_else(|| self.document.refuse(self.entry.start, format!("the key {key:?} is missing here")))
    }
}

/// The member of an object with a key, whatever the case of its letters; one that is `null` says nothing.
pub(crate) fn member<'v>(members: &'v [Member], key: &str) -> Option<&'v Member> {
    let named = members.iter().find(|member| member.key.eq_ignore_ascii_case(key));
    named.filter(|member| !matches!(member.value.kind, Kind::Null))
}

/// Refuses a key that stands before it in other letters: readers would disagree on which counts.
pub(crate) fn check_not_repeated(
    document: &Document<'_>,
    members: &[Member],
    index: usize,
) -> Result<(), PolicyError> {
    let Some((member, before)) = members.get(index).zip(members.get(..index)) else { return Ok(()) };
    match before.iter().any(|other| other.key.eq_ignore_ascii_case(&member.key)) {
        false => Ok(()),
        true => {
            let message = format!("the key {:?} stands here a second time", member.key);
            Err(document.refuse(member.key_start, message))
        }
    }
}
