//! `writ bundle`: taking evidence out of the log, to be checked anywhere.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use writ_ledger::Bundle;

use super::verify::{keys_of, parse_key};
use super::{connect, query};
use crate::failure::{advised, usage};
use crate::output::counted;
use crate::{App, Verdict, credentials};

const BUNDLE: &str =
    "query Evidence($subject: String, $seqs: [UInt!], $query: EvidenceQueryInput, $keys: Boolean!) {
  evidenceBundle(subject: $subject, seqs: $seqs, query: $query, withKeys: $keys) {
    asOf { seq size time } records digest text
  }
}";

/// Write an evidence bundle: records, or a query with its answer, with proofs
///
/// The file holds everything that `writ verify` needs to check it offline, years later, without the server. A query's bundle
/// holds every record that the query asks for as `record { seq kind }`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ bundle --record 41 --record 57 --out evidence.json
  writ bundle --query who.graphql --var node=production-database --subject 'audit 2026' --out evidence.json")]
pub struct Arguments {
    /// A record to take; may be given several times.
    #[arg(long = "record", value_name = "SEQ")]
    records: Vec<u64>,
    /// A query whose answer, with the records that it stands on, is to be evidence: a file, `-`, or the query itself.
    #[arg(long, value_name = "FILE|QUERY", required_unless_present = "records")]
    query: Option<String>,
    /// A variable of the query.
    #[arg(long = "var", value_name = "NAME=VALUE", requires = "query")]
    variables: Vec<String>,
    /// What it is evidence of, in words.
    #[arg(long, default_value = "")]
    subject: String,
    /// Put the keys in that show from which node and pseudonym connections came. Names are never in it.
    #[arg(long)]
    with_keys: bool,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    evidence_bundle: Evidence,
}

#[derive(Deserialize)]
struct Evidence {
    records: u64,
    digest: String,
    text: String,
}

/// Gets the bundle, checks it, writes it.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    if arguments.out.exists() {
        return Err(usage(
            format!("{} exists already", arguments.out.display()),
            "evidence is never overwritten: choose another name",
        ));
    }
    let question = match &arguments.query {
        Some(given) => json!({
            "document": query::document(given)?, "variables": Value::Object(query::variables(&arguments.variables)?).to_string(),
        }),
        None => Value::Null,
    };
    let seqs = if arguments.records.is_empty() { Value::Null } else { json!(arguments.records) };
    let client = connect(app)?;
    let variables =
        json!({ "subject": arguments.subject, "seqs": seqs, "query": question, "keys": arguments.with_keys });
    let Answer { evidence_bundle: evidence } = client.graphql(BUNDLE, variables)?;
    let verified = check(app, &evidence.text)?;
    write(&arguments.out, evidence.text.as_bytes())?;
    let text = format!(
        "{} holds {} ({verified}).\nSHA-256 {}\nCheck it anywhere with `writ verify {}`.",
        arguments.out.display(),
        counted(evidence.records, "record"),
        evidence.digest,
        arguments.out.display(),
    );
    app.out.show(
        &text,
        &json!({ "file": arguments.out, "records": evidence.records, "digest": evidence.digest }),
    )?;
    Ok(Verdict::Good)
}

/// A bundle that does not hold is not written: it is checked with the key that this machine knows, where it knows one.
fn check(app: &App, text: &str) -> Result<&'static str> {
    let refused = |problem: String| {
        advised(
            format!("the server sent a bundle that proves nothing: {problem}"),
            "nothing was written; check the log with `writ log verify`",
        )
    };
    let bundle = Bundle::parse(text.as_bytes()).map_err(|error| refused(error.to_string()))?;
    let (_, server) = credentials::chosen(app.server.as_deref())?;
    match server.log_key {
        Some(key) => {
            let keys = keys_of(parse_key(&key)?, &bundle).map_err(|error| refused(error.to_string()))?;
            bundle.verify_under(&keys).map_err(|error| refused(error.to_string()))?;
            Ok("verified with the log key that is kept here")
        }
        None => {
            bundle.verify(&parse_key(bundle.vkey())?).map_err(|error| refused(error.to_string()))?;
            Ok("sound, but no log key is kept here to compare with its own: run `writ log verify`")
        }
    }
}

/// Evidence is for those who are meant to have it, and is never written over.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.display();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => advised(format!("{name} exists already"), "choose another name"),
        _ => anyhow::Error::from(error).context(format!("cannot write {name}")),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        [BUNDLE].into_iter().for_each(crate::contract::assert_fits);
    }
}
