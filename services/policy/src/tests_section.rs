//! The `tests` of a policy: what it promises about itself.

use crate::document::{Document, Token};
use crate::error::PolicyError;
use crate::hujson::Value;
use crate::rules::{self, Fields};
use crate::selector::{Names, Selector};
use crate::service::{PortRange, Protocol};

/// One promise: from this source, these destinations can be reached and those cannot.
#[derive(Debug)]
pub(crate) struct PolicyTest {
    pub(crate) src: Selector,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) accept: Vec<TestDestination>,
    pub(crate) deny: Vec<TestDestination>,
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
    let fields = Fields::read(document, entry, &["src", "accept", "deny", "proto"])?;
    let src = fields.required("src")?;
    let token = Token { text: document.string(src)?, offset: src.start };
    let protocol = match fields.get("proto") {
        Some(value) => rules::read_protocol(document, value)?,
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
    };
    if test.accept.is_empty() && test.deny.is_empty() {
        return Err(document.refuse(entry.start, "a test needs destinations in \"accept\" or \"deny\""));
    }
    Ok(test)
}

fn read_destination(
    document: &Document<'_>,
    names: &Names,
    token: Token<'_>,
) -> Result<TestDestination, PolicyError> {
    let (dst, ports) = rules::read_destination(document, names, token)?;
    match ports.as_slice() {
        [PortRange { first, last }] if first == last => {
            Ok(TestDestination { dst, port: *first, text: token.text.to_owned() })
        }
        _ => Err(document.refuse(token.offset, format!("{:?}: a test names a single port", token.text))),
    }
}
