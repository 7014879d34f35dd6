//! `writ verify`: checking evidence offline: a bundle, or the proof that a log was split.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use writ_ledger::bundle::{Entry, MAX_BUNDLE_BYTES};
use writ_ledger::trust_policy::{Standing, StandingError};
use writ_ledger::{
    Bundle, BundleReport, Checkpoint, CosignedHistory, LogKeys, Rotation, RotationError, SignedCheckpoint,
    SplitView, TrustPolicy, VerifierKey,
};
use writ_schema::seal::HeldKey;
use writ_schema::{DecodeError, Record};

use super::{split_view, trust};
use crate::client::Client;
use crate::failure::advised;
use crate::output::{counted, local_time, printable};
use crate::{App, Verdict, credentials, describe};

/// Most records that are shown to people one by one.
const MAX_SHOWN_RECORDS: usize = 1000;

/// Longest text of a query or result that is shown to people.
const MAX_SHOWN_CHARS: usize = 4000;

/// Check evidence offline and show what it says: a bundle, or an agent's proof of a split view
///
/// Of a bundle it checks every record, the proof that all of them stand in the log, the log's signature, and the seal over question and
/// answer; of a split view, that the log's key has signed two histories. Nothing is asked of a server. Exit code 1 means that the
/// file proves nothing, and says which part was altered.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ verify evidence.json
  writ verify split-view.json
  writ verify evidence.json --key 'example.org/log+1a2b3c4d+Aa…'
  writ verify evidence.json --policy trust.policy")]
pub struct Arguments {
    /// The bundle, or the proof of a split view.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The log's public key (name+hash+base64), or a file that holds it; by default the one that a sign-in or an earlier
    /// check on this machine has kept.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// A trust policy (c2sp.org/tlog-policy): the checkpoint must be cosigned by the quorum that it demands.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// An earlier cosigned checkpoint of the log, or the history of them that `writ log export` writes (`checkpoints.cosigned`):
    /// records that it does not cover were logged after it.
    #[arg(long, value_name = "FILE", requires = "policy")]
    earlier: Option<PathBuf>,
}

/// What witnesses say about a bundle.
struct Witnessed {
    standing: Standing,
    /// Of the earlier checkpoint.
    earlier: Option<Standing>,
}

/// Checks and shows.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let bytes = read(&arguments.file)?;
    let name = arguments.file.display().to_string();
    if SplitView::is_named_by(&bytes) {
        let split = SplitView::parse(&bytes);
        let named = split.as_ref().map_or("", SplitView::vkey);
        let key = trusted_key(arguments.key.as_deref(), named)?;
        return split_view::verify(app, &name, &split, &key);
    }
    let bundle = match Bundle::parse(&bytes) {
        Ok(bundle) => bundle,
        Err(error) => return refuse(app, &name, &error),
    };
    let policy = arguments.policy.as_deref().map(trust::read_policy).transpose()?;
    let key = match (arguments.key.as_deref(), policy.as_ref().and_then(trust::only_log)) {
        (None, Some(key)) => key,
        (given, _) => trusted_key(given, bundle.vkey())?,
    };
    let keys = match keys_of(key, &bundle) {
        Ok(keys) => keys,
        Err(error) => return refuse(app, &name, &error),
    };
    let report = match bundle.verify_under(&keys) {
        Ok(report) => report,
        Err(error) => return refuse(app, &name, &error),
    };
    let signed = match keys.open(bundle.checkpoint()) {
        Ok(signed) => signed,
        Err(error) => return refuse(app, &name, &error),
    };
    let first = bundle.entries().first().map_or(0, |entry| entry.index);
    let earlier = (first, arguments.earlier.as_deref());
    match policy.map(|policy| witnessed(&policy, &signed, &keys, earlier)).transpose()? {
        Some(Err(error)) => refuse(app, &name, &error),
        Some(Ok(witnessed)) => show(app, &name, &bundle, &report, Some(&witnessed)),
        None => show(app, &name, &bundle, &report, None),
    }
}

/// The keys of the log, from the trusted one on, as the records of a bundle change them. That these records are in the log is
/// checked with all others.
pub fn keys_of(trusted: VerifierKey, bundle: &Bundle) -> Result<LogKeys, RotationError> {
    let rotations = bundle.entries().iter().filter_map(|entry| {
        let statement = Record::log_key_rotation(entry.record.as_bytes())?;
        Some(Rotation { index: entry.index, statement })
    });
    LogKeys::trace(trusted, &rotations.collect::<Vec<_>>())
}

/// What a policy's witnesses say of the bundle's checkpoint, and of an earlier one.
fn witnessed(
    policy: &TrustPolicy,
    signed: &SignedCheckpoint,
    keys: &LogKeys,
    (first, earlier): (u64, Option<&Path>),
) -> Result<Result<Witnessed, StandingError>> {
    let standing = match policy.check_cosignatures(signed) {
        Ok(standing) => standing,
        Err(error) => return Ok(Err(error)),
    };
    let earlier = match earlier {
        None => None,
        Some(path) => {
            let name = path.display();
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
            match CosignedHistory::parse(&text) {
                Ok(history) => Some(newest_before(first, &history, policy, keys).ok_or_else(|| {
                    let problem = format!("{name} holds no checkpoint from before record {first} that the policy's quorum cosigned");
                    advised(problem, "leave --earlier out, or give the history of an export that was made later")
                })?),
                Err(_) => {
                    let earlier = keys.open(&text).with_context(|| name.to_string())?;
                    Some(policy.check_cosignatures(&earlier).with_context(|| name.to_string())?)
                }
            }
        }
    };
    Ok(Ok(Witnessed { standing, earlier }))
}

/// The newest checkpoint of a history that does not cover a record yet and that the policy's quorum has cosigned.
fn newest_before(
    seq: u64,
    history: &CosignedHistory,
    policy: &TrustPolicy,
    keys: &LogKeys,
) -> Option<Standing> {
    let standings = history.notes().filter_map(|note| policy.check_cosignatures(&keys.open(note).ok()?).ok());
    standings
        .filter(|standing| standing.checkpoint.size <= seq)
        .max_by_key(|standing| standing.checkpoint.size)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let mut bytes = Vec::new();
    let limit = MAX_BUNDLE_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    Ok(bytes)
}

/// The key that was given, or the one that this machine knows. Never the file's own word for it.
fn trusted_key(given: Option<&str>, named: &str) -> Result<VerifierKey> {
    if let Some(given) = given {
        return parse_key(given);
    }
    let known: Vec<String> =
        credentials::load()?.servers.into_values().filter_map(|server| server.log_key).collect();
    let fits = |key: &&String| key.as_str() == named;
    match known.iter().find(fits).or(known.first()) {
        Some(key) => parse_key(key),
        None => Err(advised(
            "no log key is known on this machine, and a file cannot vouch for its own",
            format!(
                "the file names the key {}: compare it with the one that the operator published, then run `writ verify FILE \
                 --key KEY`",
                printable(named)
            ),
        )),
    }
}

/// Reads a log key: the key itself, or the name of a file that holds it.
pub fn parse_key(text: &str) -> Result<VerifierKey> {
    let path = Path::new(text);
    let held = if path.is_file() {
        fs::read_to_string(path).with_context(|| format!("cannot read the key file {text}"))?
    } else {
        text.to_owned()
    };
    held.trim().parse().map_err(|error| {
        advised(
            format!("this is neither a log key nor a file with one: {error}"),
            "a log key looks like example.org/log+1a2b3c4d+Aa…; `writ init` shows it, and the server publishes it at \
             /log/vkey",
        )
    })
}

/// The key that the server itself publishes: worth as much as the way to the server.
pub fn served_key(client: &Client) -> Result<VerifierKey> {
    parse_key(client.get_text("/log/vkey")?.trim())
}

fn refuse(app: &App, name: &str, error: &dyn std::error::Error) -> Result<Verdict> {
    let problem = error.to_string();
    let text =
        format!("{} {name} proves nothing: {}", app.out.paint().red("NOT VERIFIED"), printable(&problem));
    app.out.show(&text, &json!({ "verified": false, "file": name, "problems": [problem] }))?;
    Ok(Verdict::Bad)
}

/// What the records of a proven bundle say, and what is wrong with them in spite of the proof.
#[derive(Default)]
struct Contents {
    rows: Vec<Vec<String>>,
    records: Vec<Value>,
    problems: Vec<String>,
}

impl Contents {
    fn of(bundle: &Bundle) -> Self {
        let mut contents = Self::default();
        let keys: BTreeMap<String, Vec<HeldKey>> = match serde_json::from_str::<Option<_>>(bundle.keys()) {
            Ok(keys) => keys.unwrap_or_default(),
            Err(error) => {
                contents.problems.push(format!("the keys for sealed fields cannot be read: {error}"));
                BTreeMap::new()
            }
        };
        for entry in bundle.entries() {
            let held = keys.get(&entry.index.to_string()).map_or(&[][..], Vec::as_slice);
            contents.add(entry, open(entry, held));
        }
        contents
    }

    fn add(&mut self, entry: &Entry, opened: Result<Record, Unreadable>) {
        let seq = entry.index.to_string();
        let problem = match opened {
            Ok(record) => {
                let (kind, summary) = (record.event.kind(), describe::event(&record));
                self.records.push(json!({
                    "seq": entry.index, "time": record.time, "kind": kind, "summary": summary, "record": raw(&entry.record),
                }));
                return self.rows.push(vec![seq, local_time(record.time), kind.to_owned(), summary]);
            }
            Err(Unreadable::Later(problem)) => problem,
            Err(Unreadable::Wrong(problem)) => {
                self.problems.push(format!("record {seq}: {problem}"));
                problem
            }
        };
        self.records.push(json!({ "seq": entry.index, "problem": problem, "record": raw(&entry.record) }));
        self.rows.push(vec![seq, String::new(), String::new(), problem]);
    }
}

fn show(
    app: &App,
    name: &str,
    bundle: &Bundle,
    report: &BundleReport,
    witnessed: Option<&Witnessed>,
) -> Result<Verdict> {
    let Contents { mut rows, records, problems } = Contents::of(bundle);
    let not_shown = rows.len().saturating_sub(MAX_SHOWN_RECORDS);
    rows.truncate(MAX_SHOWN_RECORDS);
    let more = match not_shown {
        0 => String::new(),
        more => format!("\n… and {} more (the whole with --json)", counted(more as u64, "record")),
    };
    let limits = limits(report);
    let paint = app.out.paint();
    let verdict = if problems.is_empty() { paint.green("VERIFIED") } else { paint.red("NOT VERIFIED") };
    let listed =
        |items: &[String]| items.iter().map(|item| format!("  - {}\n", printable(item))).collect::<String>();
    let wrong =
        if problems.is_empty() { String::new() } else { format!("\nWhat is wrong:\n{}", listed(&problems)) };
    let text = format!(
        "{verdict} {name}\n{wrong}\n{}.\n{}\nSubject: {}\nMade:    {}\nQuery:   {}\nResult:  {}\n\n{}\n\nWhat it does not show:\n{}",
        capitalised(&report.to_string()),
        witnessed.map(|witnessed| witnessed.told(bundle)).unwrap_or_default(),
        shown(bundle.subject()),
        shown(bundle.time()),
        shown(bundle.query()),
        shown(bundle.result()),
        app.out.table(&["RECORD", "TIME", "KIND", "WHAT"], rows) + &more,
        listed(&limits),
    );
    let Checkpoint { origin, size, root } = &report.checkpoint;
    let value = json!({
        "verified": problems.is_empty(), "file": name, "logKey": bundle.vkey(), "problems": problems,
        "checkpoint": { "origin": origin, "size": size, "root": root }, "sealed": report.sealed,
        "subject": raw(bundle.subject()), "query": raw(bundle.query()), "result": raw(bundle.result()),
        "time": raw(bundle.time()), "records": records, "limits": limits,
        "witnessed": witnessed.map(|witnessed| trust::value(&witnessed.standing)),
        "notBefore": witnessed.and_then(|witnessed| witnessed.earlier.as_ref()).map(trust::value),
    });
    app.out.show(&text, &value)?;
    Ok(if problems.is_empty() { Verdict::Good } else { Verdict::Bad })
}

impl Witnessed {
    /// When the records were logged, as far as witnesses bound it.
    fn told(&self, bundle: &Bundle) -> String {
        let mut text = trust::told(&self.standing);
        let Some(earlier) = &self.earlier else { return text };
        let size = earlier.checkpoint.size;
        let since = earlier.cosigned.iter().map(|by| by.unix_seconds).min();
        let later = bundle.entries().iter().filter(|entry| entry.index >= size).count();
        let (Some(since), Some(until)) = (since, self.standing.witnessed_by) else { return text };
        text.push_str(&format!(
            "{} from number {size} on: logged between {} and {}, for no witness had seen it before.\n",
            counted(later as u64, "record"),
            trust::shown(since),
            trust::shown(until),
        ));
        text
    }
}

/// Why a proven record cannot be shown.
enum Unreadable {
    /// A later Writ wrote it: proven all the same.
    Later(String),
    /// It is not what it should be.
    Wrong(String),
}

/// Reads a proven record, with the fields open for which the bundle holds keys.
fn open(entry: &Entry, keys: &[HeldKey]) -> Result<Record, Unreadable> {
    let mut record = Record::decode(entry.record.as_bytes()).map_err(|error| match error {
        DecodeError::UnknownKind { .. } => Unreadable::Later(error.to_string()),
        DecodeError::Malformed(_) => Unreadable::Wrong(error.to_string()),
    })?;
    if record.seq.0 != entry.index {
        return Err(Unreadable::Wrong(format!("it calls itself number {}", record.seq)));
    }
    record
        .open(keys)
        .map_err(|error| Unreadable::Wrong(format!("a key of the bundle does not fit: {error}")))?;
    Ok(record)
}

fn limits(report: &BundleReport) -> Vec<String> {
    let size = report.checkpoint.size;
    let others = size.saturating_sub(report.records as u64);
    let mut limits = Vec::new();
    if others > 0 {
        limits.push(format!(
            "what the other {} of the log say: a bundle proves the records in it, not that there are no others",
            counted(others, "record")
        ));
    }
    limits.push(format!("anything after record {}: the checkpoint ends there", size.saturating_sub(1)));
    if report.sealed {
        limits.push(
            "that the answer follows from the records: the server's key stands for question and answer, the records can be \
             checked against them by reading"
                .to_owned(),
        );
    } else {
        limits.push("who asked and what was answered: nobody has signed question and answer".to_owned());
    }
    limits.push(
        "what was done inside a connection: Writ sees only who may reach whom, when, and how many bytes"
            .to_owned(),
    );
    limits
}

fn raw(text: &str) -> Value {
    // The text was JSON when the bundle was read.
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn shown(text: &str) -> String {
    let value = raw(text);
    let text = match &value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    let mut short: String = printable(&text).chars().take(MAX_SHOWN_CHARS).collect();
    if text.chars().count() > MAX_SHOWN_CHARS {
        short.push_str("… (the whole with --json)");
    }
    short.replace('\n', "\n         ")
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
