//! `writ bundle`: taking evidence out of the log, to be checked anywhere.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use writ_ledger::bundle::{BuildError, BundleSource, MAX_ENTRIES, PublishedLog, Statement};
use writ_ledger::store::COSIGNED;
use writ_ledger::{Bundle, FileLog, LogKeys, Rotation, SignedCheckpoint, TilesDirectory};

use super::log::folder_key;
use super::verify::{keys_of, parse_key};
use super::{connect, query};
use crate::failure::{advised, usage};
use crate::output::counted;
use crate::{App, Verdict, credentials};

/// Most records that a server takes one by one.
const MAX_NAMED: usize = 10_000;

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
  writ bundle --log /backup/writ/log --record 0-99999 --out evidence.json
  writ bundle --query who.graphql --var node=production-database --subject 'audit 2026' --out evidence.json")]
pub struct Arguments {
    /// A record to take, or all from one to another; may be given several times.
    #[arg(long = "record", value_name = "SEQ|FIRST-LAST", value_parser = positions)]
    records: Vec<Positions>,
    /// Take the records from this folder instead of a server: a log's own, a backup, or what `writ log export` has written. Up to a
    /// million of them; nobody vouches for the subject then.
    #[arg(long, value_name = "DIR", requires = "records", conflicts_with_all = ["query", "with_keys"])]
    log: Option<PathBuf>,
    /// With --log, the log's public key (name+hash+base64), or a file that holds it; by default the one that is kept here.
    #[arg(long, value_name = "VKEY", requires = "log")]
    key: Option<String>,
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

/// Records from one position to another, both of them too.
#[derive(Debug, Clone, Copy)]
struct Positions {
    first: u64,
    last: u64,
}

fn positions(text: &str) -> Result<Positions, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no position in the log"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("{first} comes after {last}"));
    }
    Ok(Positions { first, last })
}

/// The positions one by one; no more than a bundle, or one request, can hold.
fn one_by_one(asked: &[Positions], most: usize, otherwise: &str) -> Result<Vec<u64>> {
    let count: u64 =
        asked.iter().fold(0, |count, it| count.saturating_add(it.last - it.first).saturating_add(1));
    if count > most as u64 {
        return Err(usage(format!("{count} records are asked for, but at most {most} can be"), otherwise));
    }
    Ok(asked.iter().flat_map(|it| it.first..=it.last).collect())
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
    if let Some(dir) = &arguments.log {
        return from_folder(dir, arguments, app);
    }
    let question = match &arguments.query {
        Some(given) => json!({
            "document": query::document(given)?, "variables": Value::Object(query::variables(&arguments.variables)?).to_string(),
        }),
        None => Value::Null,
    };
    let seqs = one_by_one(&arguments.records, MAX_NAMED, "take more from a copy of the log, with --log DIR")?;
    let seqs = if seqs.is_empty() { Value::Null } else { json!(seqs) };
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

/// Makes the bundle of a log's folder or of an exported log, checks it, writes it.
fn from_folder(dir: &Path, arguments: &Arguments, app: &App) -> Result<Verdict> {
    let name = dir.display();
    let seqs = one_by_one(&arguments.records, MAX_ENTRIES, "make several bundles")?;
    let key = folder_key(arguments.key.as_deref(), app)?;
    let rotations = LogKeys::kept(dir).with_context(|| format!("cannot read the log in {name}"))?;
    let keys = LogKeys::trace(key, &rotations).with_context(|| format!("cannot check {name}"))?;
    let wanted = Wanted { seqs, rotations: &rotations, subject: &arguments.subject };
    let bundle = match TilesDirectory::at(dir) {
        Some(tiles) => {
            let newest = keys.open(&tiles.checkpoint()?).with_context(|| format!("cannot check {name}"))?;
            wanted.bundle(&PublishedLog::new(&tiles, newest.checkpoint().size), &newest)
        }
        None => {
            let log = FileLog::open_read_only(dir, keys.trusted());
            let log = log.with_context(|| format!("cannot read the log in {name}"))?;
            let newest = log.checkpoint();
            let cosigned = cosigned(dir, &keys, wanted.covered(newest.checkpoint().size));
            wanted.bundle(&log, cosigned.as_ref().unwrap_or(&newest))
        }
    };
    let bundle = bundle.with_context(|| format!("cannot make a bundle of the log in {name}"))?;
    let report = bundle.verify_under(&keys).with_context(|| {
        format!(
            "the log in {name} does not hold, and nothing was written: `writ log verify {name}` says where"
        )
    })?;
    let text = bundle.to_json()?;
    write(&arguments.out, text.as_bytes())?;
    let digest: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let out = arguments.out.display();
    let told = format!(
        "{out} holds {} (verified).\nSHA-256 {digest}\nCheck it anywhere with `writ verify {out}`.",
        counted(report.records as u64, "record"),
    );
    app.out.show(&told, &json!({ "file": arguments.out, "records": report.records, "digest": digest }))?;
    Ok(Verdict::Good)
}

/// What is taken from a folder.
struct Wanted<'a> {
    seqs: Vec<u64>,
    rotations: &'a [Rotation],
    subject: &'a str,
}

impl Wanted<'_> {
    /// The records to take from a log of so many. Whoever trusts a key that the log had before needs those that changed it, too.
    fn seqs(&self, size: u64) -> Vec<u64> {
        let changes = self.rotations.iter().map(|rotation| rotation.index).filter(|index| *index < size);
        self.seqs.iter().copied().chain(changes).collect()
    }

    /// How many records of a log of this size a checkpoint has to cover.
    fn covered(&self, size: u64) -> u64 {
        self.seqs(size).into_iter().max().map_or(0, |last| last.saturating_add(1))
    }

    fn bundle(&self, log: &impl BundleSource, signed: &SignedCheckpoint) -> Result<Bundle, BuildError> {
        let size = signed.checkpoint().size;
        let statement = Statement {
            subject: json!({ "text": self.subject, "asOf": size }),
            query: Value::Null,
            result: Value::Null,
            time: json!(Timestamp::now()),
            keys: Value::Null,
        };
        Bundle::build_under(log, signed, &self.seqs(size), &statement)
    }
}

/// The newest checkpoint in a log's folder that witnesses have cosigned, if it covers so many records.
fn cosigned(dir: &Path, keys: &LogKeys, needed: u64) -> Option<SignedCheckpoint> {
    let text = std::fs::read_to_string(dir.join(COSIGNED)).ok()?;
    keys.open(&text).ok().filter(|signed| signed.checkpoint().size >= needed)
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
