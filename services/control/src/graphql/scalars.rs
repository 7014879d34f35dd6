//! Scalars, and reading identifiers from arguments.

use std::str::FromStr;

use async_graphql::{Error, ID, InputValueError, InputValueResult, Number, Scalar, ScalarType, Value};
use jiff::Timestamp;
use writ_schema::Seq;

use super::error::bad_input;

/// Longest piece of an argument that an error repeats.
const ECHO_CHARS: usize = 48;

/// A moment in UTC, RFC 3339: `2026-03-14T10:02:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

#[Scalar(name = "Timestamp")]
impl ScalarType for Time {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => text.parse().map(Self).map_err(|_| {
                InputValueError::custom("expected a moment in RFC 3339 such as 2026-03-14T10:02:00Z")
            }),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

/// A whole number that is never negative and may exceed 32 bits: a record's position, a count of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UInt(pub u64);

#[Scalar(name = "UInt")]
impl ScalarType for UInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| InputValueError::custom("expected a whole number from 0 on"))
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

impl From<u64> for UInt {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<usize> for UInt {
    fn from(number: usize) -> Self {
        Self(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<Seq> for UInt {
    fn from(seq: Seq) -> Self {
        Self(seq.0)
    }
}

impl From<UInt> for Seq {
    fn from(number: UInt) -> Self {
        Self(number.0)
    }
}

/// Reads an identifier, a protocol, a tag: whatever is written as text.
pub(super) fn read<T: FromStr>(text: &str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(bad_input)
}

/// The same where the argument may be absent.
pub(super) fn read_optional<T: FromStr>(text: Option<&ID>) -> Result<Option<T>, Error>
where
    T::Err: std::fmt::Display,
{
    text.map(|text| read(text)).transpose()
}

/// Reads a cursor: the position of a record.
pub(super) fn read_cursor(text: Option<String>) -> Result<Option<Seq>, Error> {
    let Some(text) = text else { return Ok(None) };
    let echo: String = text.chars().take(ECHO_CHARS).collect();
    text.parse().map(|seq| Some(Seq(seq))).map_err(|_| {
        bad_input(format!("`{echo}` is not a cursor: take `endCursor` or the `cursor` of an edge as it is"))
    })
}
