//! Lists of the API: fetching them page by page, and reading their rows.

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::output::local_time;

/// Rows that are asked for at once.
const PAGE: usize = 100;

/// A list with the moment that it is about.
pub struct Listing {
    /// The rows, as they came.
    pub rows: Vec<Value>,
    /// The moment.
    pub as_of: Value,
    /// Whether the list goes on.
    pub has_more: bool,
}

impl Listing {
    /// What programs get: the rows under a name, and what they stand on.
    pub fn value(&self, name: &str) -> Value {
        json!({ name: self.rows, "asOf": self.as_of, "hasMore": self.has_more })
    }

    /// What people are told below the rows.
    pub fn basis(&self) -> String {
        let as_of = Row(&self.as_of);
        let more = if self.has_more { "There are more: raise --limit. " } else { "" };
        match as_of.number("/seq") {
            Some(seq) => format!("\n{more}As of record {seq}, {}.", as_of.time("/time")),
            None => format!("\n{more}"),
        }
    }
}

/// Fetches a list: the document takes `$first` and `$after`, and its one field is `field`. It begins after the variable
/// `after`, if there is one.
pub fn fetch(
    client: &Client,
    document: &str,
    field: &str,
    variables: Map<String, Value>,
    limit: usize,
) -> Result<Listing> {
    let mut listing = Listing { rows: Vec::new(), as_of: Value::Null, has_more: false };
    let mut after = variables.get("after").cloned().unwrap_or_default();
    loop {
        let wanted = limit.saturating_sub(listing.rows.len()).min(PAGE);
        let mut variables = variables.clone();
        variables.insert("first".to_owned(), json!(wanted));
        variables.insert("after".to_owned(), after);
        let mut data = client.graphql_raw(document, Value::Object(variables))?;
        let mut page = data
            .get_mut(field)
            .map(Value::take)
            .filter(Value::is_object)
            .ok_or_else(|| anyhow!("the server sent no list of {field}"))?;
        if listing.as_of.is_null() {
            listing.as_of = page.pointer_mut("/asOf").map(Value::take).unwrap_or_default();
        }
        let rows = page.pointer_mut("/nodes").map(Value::take);
        let Some(Value::Array(mut rows)) = rows else {
            return Err(anyhow!("the server sent no rows of {field}"));
        };
        let is_empty = rows.is_empty();
        listing.rows.append(&mut rows);
        listing.has_more = page.pointer("/pageInfo/hasNextPage").and_then(Value::as_bool).unwrap_or(false);
        after = page.pointer("/pageInfo/endCursor").cloned().unwrap_or_default();
        if !listing.has_more || is_empty || listing.rows.len() >= limit {
            return Ok(listing);
        }
    }
}

/// A row, read by JSON pointers. What is absent is empty.
#[derive(Clone, Copy)]
pub struct Row<'a>(pub &'a Value);

impl<'a> Row<'a> {
    /// What stands at a place.
    pub fn at(self, pointer: &str) -> Row<'a> {
        Row(self.0.pointer(pointer).unwrap_or(&Value::Null))
    }

    /// Whether there is something.
    pub fn is_some(self) -> bool {
        !self.0.is_null()
    }

    /// Text, or a number as text.
    pub fn text(self, pointer: &str) -> String {
        match self.at(pointer).0 {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// An enumerated value in words: `NETWORK_ADMIN` is `network admin`.
    pub fn word(self, pointer: &str) -> String {
        self.text(pointer).to_ascii_lowercase().replace('_', " ")
    }

    /// A number.
    pub fn number(self, pointer: &str) -> Option<u64> {
        self.at(pointer).0.as_u64()
    }

    /// Yes or no; no if absent.
    pub fn flag(self, pointer: &str) -> bool {
        self.at(pointer).0.as_bool().unwrap_or(false)
    }

    /// A moment in the zone of the reader.
    pub fn time(self, pointer: &str) -> String {
        let text = self.text(pointer);
        text.parse::<Timestamp>().map_or(text, local_time)
    }

    /// The rows of a list.
    pub fn list(self, pointer: &str) -> impl Iterator<Item = Row<'a>> {
        self.at(pointer).0.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(Row)
    }

    /// An owner: a user or tags.
    pub fn owner(self, pointer: &str) -> String {
        let owner = self.at(pointer);
        let tags: Vec<String> = owner.list("/tags").map(|tag| tag.text("")).collect();
        if tags.is_empty() { owner.text("/user") } else { tags.join(", ") }
    }

    /// A node that is mentioned: its name where it may be shown, its identifier, its owner.
    pub fn node(self, pointer: &str) -> String {
        let node = self.at(pointer);
        let (id, name) = (node.text("/node"), node.text("/name"));
        let shown = if name.is_empty() { id } else { name };
        let owner = node.owner("/owner");
        if owner.is_empty() { shown } else { format!("{shown} ({owner})") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_things_are_empty() {
        let value = json!({ "a": { "b": 5, "role": "NETWORK_ADMIN" }, "n": null });
        let row = Row(&value);
        assert_eq!(
            (row.text("/a/b"), row.text("/x/y"), row.text("/n")),
            ("5".to_owned(), String::new(), String::new())
        );
        assert_eq!((row.word("/a/role"), row.number("/a/b")), ("network admin".to_owned(), Some(5)));
        assert_eq!(row.list("/x").count(), 0);
    }

    #[test]
    fn a_node_is_called_by_its_name_where_that_may_be_shown() {
        let value = json!({
            "db": { "node": "nod_a", "name": "production-database", "owner": { "user": null, "tags": ["tag:prod"] } },
            "laptop": { "node": "nod_b", "name": null, "owner": { "user": "usr_c", "tags": [] } },
        });
        assert_eq!(Row(&value).node("/db"), "production-database (tag:prod)");
        assert_eq!(Row(&value).node("/laptop"), "nod_b (usr_c)");
    }
}
