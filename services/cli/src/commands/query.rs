//! `writ query`: any question that the GraphQL API answers.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value};

use super::connect;
use crate::failure::{advised, usage};
use crate::{App, Verdict};

/// Largest document that is sent.
const MAX_QUERY_BYTES: u64 = 256 * 1024;

/// Words that a GraphQL document begins with, where it is given instead of a file.
const BEGINNINGS: [&str; 4] = ["{", "query", "mutation", "fragment"];

/// Send a GraphQL query and print its data as JSON
///
/// The schema is shown by the explorer at the server's /graphql.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ query who.graphql --var node=nod_… --var 'asOf={\"time\":\"2026-03-14T10:02:00Z\"}'
  writ query '{ network { name asOf { size } } }'")]
pub struct Arguments {
    /// File with the query, `-` for standard input, or the query itself.
    #[arg(value_name = "FILE|QUERY")]
    query: String,
    /// A variable. The value is JSON if it reads as such, otherwise text.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// All variables as one JSON object.
    #[arg(long = "variables", value_name = "JSON", conflicts_with = "variables")]
    object: Option<String>,
}

/// Asks and prints.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let document = document(&arguments.query)?;
    let variables = match &arguments.object {
        Some(object) => serde_json::from_str::<Map<String, Value>>(object).map_err(|error| {
            usage(format!("--variables is not a JSON object: {error}"), "write it as '{\"name\": …}'")
        })?,
        None => variables(&arguments.variables)?,
    };
    let data = connect(app)?.graphql_raw(&document, Value::Object(variables))?;
    app.out.value(&data)?;
    Ok(Verdict::Good)
}

/// Reads a query: the text itself, standard input, or a file.
pub fn document(given: &str) -> Result<String> {
    let trimmed = given.trim_start();
    if BEGINNINGS.iter().any(|word| trimmed.starts_with(word)) && !Path::new(given).exists() {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    let limit = MAX_QUERY_BYTES + 1;
    if given == "-" {
        io::stdin().take(limit).read_to_string(&mut text).context("cannot read the query")?;
    } else {
        let file = File::open(given).with_context(|| format!("cannot read {given}"))?;
        file.take(limit).read_to_string(&mut text).with_context(|| format!("cannot read {given}"))?;
    }
    if text.len() as u64 > MAX_QUERY_BYTES {
        return Err(advised(format!("{given} has more than {MAX_QUERY_BYTES} bytes"), "is this a query?"));
    }
    Ok(text)
}

/// Reads `name=value` pairs.
pub fn variables(pairs: &[String]) -> Result<Map<String, Value>> {
    let read = |pair: &String| {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| usage(format!("`{pair}` is not a variable"), "write it as --var name=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok((name.to_owned(), value))
    };
    pairs.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_are_json_or_text() {
        let pairs = ["n=5".to_owned(), "s=nod_x".to_owned(), "o={\"a\":1}".to_owned(), "e=".to_owned()];
        assert_eq!(
            Value::Object(variables(&pairs).unwrap()),
            json!({"n": 5, "s": "nod_x", "o": {"a": 1}, "e": ""})
        );
        assert!(variables(&["x".to_owned()]).is_err() && variables(&["=x".to_owned()]).is_err());
    }

    #[test]
    fn a_query_may_be_given_itself() {
        assert_eq!(document("{ network { name } }").unwrap(), "{ network { name } }");
        assert!(document("no-such-file.graphql").unwrap_err().to_string().contains("no-such-file"));
    }
}
