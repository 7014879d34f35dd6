//! The `tests` of a policy: what it promises about itself.

use std::collections::BTreeMap;

use crate::document::{Document, Token};
use crate::error::PolicyError;
use crate::hujson::{Member, Value};
use crate::posture::{self, Attribute};
use crate::rules::{self, Fields};
use crate::selector::{Names, Selector, SelectorKind};
use crate::service::{PortRange, Protocol};

/// One promise: from this source, these destinations can be reached and those cannot.
#[derive(Debug)]
pub(crate) struct PolicyTest {
    pub(crate) src: Selector,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) accept: Vec<TestDestination>,
    pub(crate) deny: Vec<TestDestination>,
    /// What the source's device is taken to be.
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

/// A destination with one port.
#[derive(Debug)]
pub(crate) struct TestDestination {
    pub(crate) dst: Selector,
    pub(crate) port: u16,
    pub(crate) text: String,
}

pub(crate) fn read(
    document: &Document<'_>,
    names: &Names,
    value: &Value,
) -> Result<Vec<PolicyTest>, PolicyError> {
    // A test that cannot be read fails like one that does not hold, and Tailscale's words for it come first.
    let read = |entry| read_test(document, names, entry).map_err(|error| error.prefixed("test(s) failed"));
    document.array(value)?.iter().map(read).collect()
}

fn read_test(document: &Document<'_>, names: &Names, entry: &Value) -> Result<PolicyTest, PolicyError> {
    let fields = Fields::read(document, entry, &["src", "accept", "deny", "proto", "srcPostureAttrs"])?;
    let src = fields.required("src")?;
    let token = Token { text: document.string(src)?, offset: src.start };
    let protocol = match fields.get("proto") {
        Some(value) => read_test_protocol(document, value)?,
        None => None,
    };
    let destinations = |key: &str| match fields.get(key) {
        Some(value) => document
            .strings(value)?
            .into_iter()
            .map(|token| read_destination(document, names, token))
            .collect(),
        None => Ok(Vec::new()),
    };
    let test = PolicyTest {
        src: names.selector(document, token, &format!("src={:?}", token.text))?,
        protocol,
        accept: destinations("accept")?,
        deny: destinations("deny")?,
        attributes: match fields.get("srcPostureAttrs") {
            Some(value) => read_attributes(document, value)?,
            None => BTreeMap::new(),
        },
    };
    if test.accept.is_empty() && test.deny.is_empty() {
        return Err(document.refuse(entry.start, "a test needs destinations in \"accept\" or \"deny\""));
    }
    Ok(test)
}

fn read_attributes(
    document: &Document<'_>,
    value: &Value,
) -> Result<BTreeMap<String, Attribute>, PolicyError> {
    let read = |member: &Member| Ok((member.key.clone(), posture::read_attribute(document, &member.value)?));
    document.object(value)?.iter().map(read).collect()
}

/// A test tries one connection, so only protocols with ports can be tried.
fn read_test_protocol(document: &Document<'_>, value: &Value) -> Result<Option<Protocol>, PolicyError> {
    match rules::read_protocol(document, value)? {
        Some(protocol) if !protocol.has_ports() => {
            Err(document.refuse(value.start, format!("a test tries tcp, udp or sctp, not {protocol}")))
        }
        protocol => Ok(protocol),
    }
}

fn read_destination(
    document: &Document<'_>,
    names: &Names,
    token: Token<'_>,
) -> Result<TestDestination, PolicyError> {
    let (dst, ports) = rules::read_destination(document, names, token)?;
    let is_wide = match &dst.kind {
        SelectorKind::Addresses(_) => dst.text.contains('/') || dst.text.contains('-'),
        SelectorKind::Host(name) => !names.host(name).is_one_address(),
        _ => false,
    };
    if is_wide {
        let message = format!("{:?}: a test names a single host, not a range of addresses", token.text);
        return Err(document.refuse(token.offset, message));
    }
    match ports.as_slice() {
        [PortRange { first, last }] if first == last => {
            Ok(TestDestination { dst, port: *first, text: token.text.to_owned() })
        }
        _ => Err(document.refuse(token.offset, format!("{:?}: a test names a single port", token.text))),
    }
}
