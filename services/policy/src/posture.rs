//! Device postures: Tailscale's `postures` section.
//!
//! A posture is a list of assertions about attributes of the source's device, all of which have to hold:
//! `node:os == 'linux'`, `node:osVersion >= '13.4'`, `custom:tier IN ['prod', 'staging']`, `node:tsVersion IS SET`. An
//! attribute that nobody reported meets `NOT SET` and nothing else.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::document::{Document, Token};
use crate::error::PolicyError;
use crate::hujson::Value;

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A text; versions are texts and compare by their numbers.
    Text(String),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Text(text) => write!(f, "'{text}'"),
            Attribute::Number(number) => number.fmt(f),
            Attribute::Flag(flag) => flag.fmt(f),
        }
    }
}

/// A named list of assertions.
#[derive(Debug, PartialEq)]
pub(crate) struct Posture {
    pub(crate) name: String,
    assertions: Vec<Assertion>,
}

// Numbers in assertions are read from decimal text and never NaN.
impl Eq for Posture {}

/// One assertion.
#[derive(Debug, PartialEq)]
struct Assertion {
    attribute: String,
    test: Test,
    /// As written.
    text: String,
}

#[derive(Debug, PartialEq)]
enum Test {
    IsSet,
    NotSet,
    Compare(Operator, Attribute),
    In(Vec<Attribute>),
    NotIn(Vec<Attribute>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The postures of a policy by name, and those that every rule asks for that names none.
#[derive(Debug, Default)]
pub(crate) struct Postures {
    by_name: BTreeMap<String, Arc<Posture>>,
    default: Vec<Arc<Posture>>,
}

impl Posture {
    /// Which assertion does not hold, and what is known instead.
    pub(crate) fn unmet(&self, attributes: &BTreeMap<String, Attribute>) -> Option<String> {
        let failing = self.assertions.iter().find(|assertion| !assertion.holds(attributes))?;
        let Assertion { attribute, text, .. } = failing;
        Some(match attributes.get(attribute) {
            Some(known) => format!("{text}, and it is {known}"),
            None => format!("{text}, and {attribute} is not known"),
        })
    }
}

impl Assertion {
    fn holds(&self, attributes: &BTreeMap<String, Attribute>) -> bool {
        let Some(known) = attributes.get(&self.attribute) else { return self.test == Test::NotSet };
        match &self.test {
            Test::IsSet => true,
            Test::NotSet => false,
            Test::In(values) => values.iter().any(|value| order(known, value) == Some(Ordering::Equal)),
            Test::NotIn(values) => values.iter().all(|value| order(known, value) != Some(Ordering::Equal)),
            Test::Compare(operator, value) => operator.holds(order(known, value)),
        }
    }
}

impl Operator {
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Operator::Equal => order == Some(Ordering::Equal),
            Operator::NotEqual => order != Some(Ordering::Equal),
            Operator::Less => order == Some(Ordering::Less),
            Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Operator::Greater => order == Some(Ordering::Greater),
            Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The order of two values of one kind. Texts that are versions compare number by number: `13.10` comes after `13.9`.
fn order(left: &Attribute, right: &Attribute) -> Option<Ordering> {
    match (left, right) {
        (Attribute::Text(left), Attribute::Text(right)) => Some(match (version(left), version(right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => left.cmp(right),
        }),
        (Attribute::Number(left), Attribute::Number(right)) => left.partial_cmp(right),
        (Attribute::Flag(left), Attribute::Flag(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The numbers of a version, without zeros at its end.
fn version(text: &str) -> Option<Vec<u64>> {
    let mut numbers = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

impl Postures {
    /// Reads the `postures` section and `defaultSrcPosture`.
    pub(crate) fn read(
        document: &Document<'_>,
        section: Option<&Value>,
        default: Option<&Value>,
    ) -> Result<Self, PolicyError> {
        let mut postures = Self::default();
        let members = section.map(|section| document.object(section)).transpose()?;
        for member in members.into_iter().flatten() {
            if member.key.strip_prefix("posture:").is_none_or(str::is_empty) {
                let message = format!("postures[{:?}]: posture names must start with 'posture:'", member.key);
                return Err(document.refuse(member.key_start, message));
            }
            let tokens = document.strings(&member.value)?;
            let read = |token: Token<'_>| Assertion::read(document, token);
            let assertions = tokens.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
            if assertions.is_empty() {
                let message = format!("postures[{:?}]: it asserts nothing", member.key);
                return Err(document.refuse(member.value.start, message));
            }
            let posture = Arc::new(Posture { name: member.key.clone(), assertions });
            postures.by_name.insert(member.key.clone(), posture);
        }
        if let Some(value) = default {
            postures.default = postures.named(document, value)?;
        }
        Ok(postures)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The postures of a rule: those that it names, or those that every rule asks for.
    pub(crate) fn of_rule(
        &self,
        document: &Document<'_>,
        value: Option<&Value>,
    ) -> Result<Vec<Arc<Posture>>, PolicyError> {
        match value {
            Some(value) => self.named(document, value),
            None => Ok(self.default.clone()),
        }
    }

    fn named(&self, document: &Document<'_>, value: &Value) -> Result<Vec<Arc<Posture>>, PolicyError> {
        let mut named = Vec::new();
        for token in document.strings(value)? {
            let Some(posture) = self.by_name.get(token.text) else {
                let known = self.by_name.keys().map(String::as_str);
                let message = format!("posture not found: {:?}", token.text);
                return Err(document.refuse(token.offset, message).with_nearest(token.text, known));
            };
            named.push(Arc::clone(posture));
        }
        Ok(named)
    }
}

impl Assertion {
    fn read(document: &Document<'_>, token: Token<'_>) -> Result<Self, PolicyError> {
        let refuse = |message: String| {
            document
                .refuse(token.offset, format!("{:?}: {message}", token.text))
                .with_help("an assertion is such as \"node:os == 'linux'\", \"custom:tier IN ['a', 'b']\" or \"node:os IS SET\"")
        };
        let text = token.text.trim();
        let end = text.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).unwrap_or(text.len());
        let (attribute, rest) = text.split_at(end);
        let has_namespace = attribute.split_once(':').is_some_and(|(namespace, name)| {
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            };
            is_word(namespace) && is_word(name)
        });
        if !has_namespace {
            return Err(refuse("it names no attribute, such as node:os or custom:tier".to_owned()));
        }
        let test = read_test(rest.trim()).map_err(refuse)?;
        Ok(Self { attribute: attribute.to_owned(), test, text: text.to_owned() })
    }
}

fn read_test(text: &str) -> Result<Test, String> {
    const SYMBOLS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    for (symbol, operator) in SYMBOLS {
        if let Some(value) = text.strip_prefix(symbol) {
            return Ok(Test::Compare(operator, read_value(value.trim())?));
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let rest_after = |count: usize| {
        let mut rest = text;
        for word in words.iter().take(count) {
            rest = rest.trim_start().strip_prefix(word).unwrap_or("");
        }
        rest.trim().to_owned()
    };
    match words.as_slice() {
        ["IS", "SET"] => Ok(Test::IsSet),
        ["NOT", "SET"] | ["IS", "NOT", "SET"] => Ok(Test::NotSet),
        ["IN", ..] => Ok(Test::In(read_list(&rest_after(1))?)),
        ["NOT", "IN", ..] => Ok(Test::NotIn(read_list(&rest_after(2))?)),
        _ => Err("it has no operator: ==, !=, <, <=, >, >=, IN, NOT IN, IS SET or NOT SET".to_owned()),
    }
}

fn read_list(text: &str) -> Result<Vec<Attribute>, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or_else(|| "a list in brackets is expected after IN".to_owned())?;
    let mut values = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let end = match rest.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                rest.get(1..).and_then(|tail| tail.find(quote)).map_or(rest.len(), |at| at + 2)
            }
            _ => rest.find(',').unwrap_or(rest.len()),
        };
        let (value, tail) = rest.split_at(end);
        values.push(read_value(value.trim())?);
        let tail = tail.trim_start();
        rest = match tail.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if tail.is_empty() => "",
            None => return Err("values of a list are separated by commas".to_owned()),
        };
    }
    if values.is_empty() { Err("the list is empty".to_owned()) } else { Ok(values) }
}

fn read_value(text: &str) -> Result<Attribute, String> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
            && !inner.contains(quote)
        {
            return Ok(Attribute::Text(inner.to_owned()));
        }
    }
    match text {
        "true" => Ok(Attribute::Flag(true)),
        "false" => Ok(Attribute::Flag(false)),
        number if number.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-') => number
            .parse()
            .map(Attribute::Number)
            .map_err(|_| format!("{:?} is no value", number.chars().take(32).collect::<String>())),
        other => Err(format!(
            "{:?} is no value: texts stand in quotes, numbers and true or false without",
            other.chars().take(32).collect::<String>()
        )),
    }
}

/// The value of an attribute as a file writes it.
pub(crate) fn read_attribute(document: &Document<'_>, value: &Value) -> Result<Attribute, PolicyError> {
    use crate::hujson::Kind;
    match &value.kind {
        Kind::String(text) => Ok(Attribute::Text(text.clone())),
        Kind::Bool(flag) => Ok(Attribute::Flag(*flag)),
        Kind::Number(text) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Attribute::Number(number)),
            _ => Err(document.refuse(value.start, "this number is out of range")),
        },
        other => {
            let message = format!("a text, a number, true or false is expected here, not {}", other.name());
            Err(document.refuse(value.start, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(text: &str) -> Result<Test, String> {
        read_test(text)
    }

    #[test]
    fn versions_compare_number_by_number_and_other_texts_by_letters() {
        let text = |text: &str| Attribute::Text(text.to_owned());
        for (left, right, expected) in [
            ("13.10", "13.9", Ordering::Greater),
            ("1.60", "1.60.0", Ordering::Equal),
            ("linux", "macos", Ordering::Less),
            ("1.60-rc", "1.60", Ordering::Greater),
        ] {
            assert_eq!(order(&text(left), &text(right)), Some(expected), "{left} {right}");
        }
        assert_eq!(order(&text("1"), &Attribute::Number(1.0)), None);
    }

    #[test]
    fn every_operator_is_read() {
        let text = |text: &str| Attribute::Text(text.to_owned());
        assert_eq!(test("== 'linux'"), Ok(Test::Compare(Operator::Equal, text("linux"))));
        assert_eq!(test(">= 30"), Ok(Test::Compare(Operator::GreaterOrEqual, Attribute::Number(30.0))));
        assert_eq!(test("!=true"), Ok(Test::Compare(Operator::NotEqual, Attribute::Flag(true))));
        assert_eq!(test("IS SET"), Ok(Test::IsSet));
        assert_eq!(test("NOT SET"), Ok(Test::NotSet));
        assert_eq!(test("IN ['a, b', \"c\"]"), Ok(Test::In(vec![text("a, b"), text("c")])));
        assert_eq!(
            test("NOT IN [1, 2,]"),
            Ok(Test::NotIn(vec![Attribute::Number(1.0), Attribute::Number(2.0)]))
        );
        for bad in
            ["", "= 'x'", "== x", "== 'x", "IN 'a'", "IN []", "IN ['a' 'b']", "LIKE 'x'", "== 1-2", "== ''' "]
        {
            assert!(test(bad).is_err(), "{bad}");
        }
    }
}
