//! Reading and writing values of our types in SQLite's.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;
use writ_schema::event::NodeOwner;

use super::ViewError;

/// A time as it is stored: nanoseconds since 1970, which an `i64` holds until the year 2262.
pub(super) fn to_nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

pub(super) fn to_timestamp(nanos: i64) -> Result<Timestamp, ViewError> {
    Timestamp::from_nanosecond(i128::from(nanos)).map_err(|_| ViewError::Damaged("time"))
}

/// Reads the time in a column.
pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    convert(column, to_timestamp(row.get(column)?).ok())
}

/// Reads the time in a column that may be empty.
pub(super) fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(|nanos| convert(column, to_timestamp(nanos).ok())).transpose()
}

/// Reads what is written as text: an identifier, a protocol, an address.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    convert(column, row.get::<_, String>(column)?.parse().ok())
}

/// The same where the column may be empty.
pub(super) fn optional<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|text| convert(column, text.parse().ok())).transpose()
}

/// Reads a word of an enum as serde writes it.
pub(super) fn word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    convert(column, serde_json::from_value(serde_json::Value::String(text)).ok())
}

/// The same where the column may be empty.
pub(super) fn optional_word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| convert(column, serde_json::from_value(serde_json::Value::String(text)).ok())).transpose()
}

/// Writes a word of an enum as serde writes it.
pub(super) fn to_word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(rusqlite::Error::ToSqlConversionFailure("a value that is not one word".into())),
    }
}

/// Reads what is written as JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    convert(column, serde_json::from_str(&row.get::<_, String>(column)?).ok())
}

/// Writes a value as JSON.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Reads an owner: a user, or tags.
pub(super) fn owner(row: &Row<'_>) -> rusqlite::Result<NodeOwner> {
    if let Some(user) = optional(row, "owner_user")? {
        return Ok(NodeOwner::User(user));
    }
    let tags: String = row.get("owner_tags")?;
    convert("owner_tags", serde_json::from_str(&tags).ok().map(NodeOwner::Tags))
}

/// Writes an owner into its two columns.
pub(super) fn owner_columns(owner: &NodeOwner) -> (Option<String>, Option<String>) {
    match owner {
        NodeOwner::User(user) => (Some(user.to_string()), None),
        NodeOwner::Tags(tags) => (None, serde_json::to_string(tags).ok()),
    }
}

fn convert<T>(column: &str, value: Option<T>) -> rusqlite::Result<T> {
    value.ok_or_else(|| {
        let problem = format!("unreadable {column}").into();
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, problem)
    })
}
