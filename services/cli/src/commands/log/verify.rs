//! `writ log verify`: checking a whole log: on a server, in its own folder, or in a tlog-tiles directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use writ_ledger::cosigned::COSIGNED_HISTORY;
use writ_ledger::rotation::read_rotations;
use writ_ledger::store::COSIGNED;
use writ_ledger::trust_policy::{Standing, StandingError};
use writ_ledger::{
    Checkpoint, CosignedHistory, FileLog, Finding as FileFinding, LogKeys, Rotation, SignedCheckpoint,
    TilesDirectory, TrustPolicy, VerifierKey, verify_log,
};

use super::audit::{Audit, Contents, audit};
use super::seen::Sights;
use super::served::Served;
use crate::client::Client;
use crate::commands::trust;
use crate::commands::verify::{parse_key, served_key};
use crate::credentials::Server;
use crate::failure::advised;
use crate::output::{counted, printable};
use crate::{App, Verdict, credentials};

/// Check the whole log: every record, the tree over them, and the signature
///
/// Over a server, everything is fetched and computed anew here, and it has to continue what was verified here before: a log
/// that was rewritten, rolled back or forked is found. In a folder, the files themselves are checked: a log's own folder (a
/// copy or a backup), or a directory in the format tlog-tiles, made by `writ log export` or by any other program.
/// Exit code 1 means that something is wrong, and says which record in which file.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ log verify
  writ log verify /backup/writ/log --key 'example.org/log+1a2b3c4d+Aa…'
  writ log verify /srv/log --key log.vkey --continues checkpoint-of-last-month")]
pub struct Arguments {
    /// Check the log in this folder instead of a server's.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The same.
    #[arg(long, value_name = "DIR", conflicts_with = "folder", hide = true)]
    dir: Option<PathBuf>,
    /// The log's public key (name+hash+base64), or a file that holds it; by default the one that is kept from `writ init`,
    /// or from the first check of this server.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// A file with a checkpoint of this log that was kept from before: the log has to continue it.
    #[arg(long, value_name = "FILE")]
    continues: Option<PathBuf>,
    /// A trust policy (c2sp.org/tlog-policy): a checkpoint must be cosigned by the quorum that it demands. Those that it
    /// cosigned before bound when records were logged, so that a record which is dated otherwise is found.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Checks and reports.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let policy = arguments.policy.as_deref().map(trust::read_policy).transpose()?;
    let of_policy = policy.as_ref().and_then(trust::only_log).map(|key| key.to_string());
    let key = arguments.key.as_deref().or(of_policy.as_deref());
    let asked = Asked { key, older: arguments.continues.as_deref(), policy: policy.as_ref() };
    let Some(dir) = arguments.folder.as_deref().or(arguments.dir.as_deref()) else {
        return server(&asked, app);
    };
    match TilesDirectory::at(dir) {
        Some(tiles) => directory(&tiles, dir, &asked, app),
        None => folder(dir, &asked, app),
    }
}

/// What the log is to be checked against.
struct Asked<'a> {
    key: Option<&'a str>,
    /// A file with a checkpoint that was kept from before.
    older: Option<&'a Path>,
    policy: Option<&'a TrustPolicy>,
}

impl Asked<'_> {
    /// The checkpoint that was kept from before, which a key of the log has to have signed.
    fn kept(&self, keys: &LogKeys) -> Result<Option<Checkpoint>> {
        let Some(file) = self.older else { return Ok(None) };
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        let kept = keys.open(&text).map_err(|error| {
            advised(
                format!("{name} is no checkpoint of this log: {error}"),
                "give the file as it was kept, with its signature, and the key that the log had then",
            )
        })?;
        Ok(Some(kept.checkpoint().clone()))
    }

    /// What the policy's witnesses have seen before, as a folder keeps it.
    fn sights(&self, dir: &Path, keys: &LogKeys) -> Result<Sights> {
        let Some(policy) = self.policy else { return Ok(Sights::default()) };
        let history = CosignedHistory::load(dir);
        let history =
            history.with_context(|| format!("cannot read {}", dir.join(COSIGNED_HISTORY).display()))?;
        Ok(Sights::of(&history, keys, policy))
    }

    /// Who has cosigned a checkpoint, if a policy asks for it.
    fn witnessed(&self, signed: &SignedCheckpoint) -> Option<Result<Standing, StandingError>> {
        self.policy.map(|policy| policy.check_cosignatures(signed))
    }
}

/// A log in its own folder.
fn folder(dir: &Path, asked: &Asked<'_>, app: &App) -> Result<Verdict> {
    let key = folder_key(asked.key, app)?;
    let keys = LogKeys::load(dir, key.clone()).with_context(|| format!("cannot check {}", dir.display()))?;
    let (older, sights) = (asked.kept(&keys)?, asked.sights(dir, &keys)?);
    let report = verify_log(dir, &key).with_context(|| format!("cannot check {}", dir.display()))?;
    let mut findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let mut details: Vec<Value> = report.findings.iter().map(detail).collect();
    let mut meaning = Audit::default();
    if report.is_sound() {
        // The bytes hold: what they say is checked as well.
        let reader =
            FileLog::open_read_only(dir, &key).with_context(|| format!("cannot read {}", dir.display()))?;
        meaning = audit(&reader, Contents::Writ, &keys, &reader.checkpoint(), older.as_ref(), &sights)?;
        findings.extend(meaning.findings.iter().map(ToString::to_string));
        details.extend(meaning.findings.iter().map(|finding| json!(finding)));
    }
    let witnessed = asked.policy.map(|policy| cosigned_in(dir, &key, policy));
    if let Some(Err(problem)) = &witnessed {
        findings.push(problem.clone());
        details.push(json!({ "place": COSIGNED, "problem": problem }));
    }
    let standing = witnessed.and_then(Result::ok);
    let is_sound = findings.is_empty() && report.checkpoint.is_some();
    let omitted = report.findings_omitted.saturating_add(meaning.findings_omitted);
    let mut text = verdict_line(app, is_sound, &dir.display().to_string());
    text.push_str(&format!(
        "{} in {} were read.\n",
        counted(report.records, "record"),
        counted(report.segments as u64, "segment")
    ));
    if report.unsigned_records() > 0 {
        text.push_str(&format!("{} after the checkpoint are not signed yet.\n", report.unsigned_records()));
    }
    if report.unfinished_bytes > 0 {
        text.push_str(&format!(
            "{} bytes of an unfinished commit at the end are no part of the log.\n",
            report.unfinished_bytes
        ));
    }
    text.push_str(&told(report.checkpoint.as_ref(), &meaning));
    text.push_str(&continued(older.as_ref().filter(|_| is_sound)));
    text.push_str(&standing.as_ref().map(trust::told).unwrap_or_default());
    text.push_str(&sights.told());
    text.push_str(&listed(&findings, omitted));
    let value = json!({
        "verified": is_sound, "dir": dir, "checkpoint": report.checkpoint.as_ref().map(checkpoint_value),
        "continues": older.as_ref().map(checkpoint_value),
        "records": report.records, "segments": report.segments, "unsignedRecords": report.unsigned_records(),
        "unknownKinds": meaning.unknown_kinds, "findings": details, "findingsOmitted": omitted,
        "witnessed": standing.as_ref().map(trust::value),
    });
    app.out.show(&text, &value)?;
    Ok(if is_sound { Verdict::Good } else { Verdict::Bad })
}

/// Who has cosigned the newest checkpoint in a log's folder that witnesses have seen, which the log has to continue.
fn cosigned_in(dir: &Path, key: &VerifierKey, policy: &TrustPolicy) -> Result<Standing, String> {
    let told = |error: &dyn std::fmt::Display| format!("{COSIGNED}: {error}");
    let text = std::fs::read_to_string(dir.join(COSIGNED)).map_err(|error| told(&error))?;
    let keys = LogKeys::load(dir, key.clone()).map_err(|error| told(&error))?;
    let signed = keys.open(&text).map_err(|error| told(&error))?;
    let reader = FileLog::open_read_only(dir, key).map_err(|error| told(&error))?;
    let checkpoint = signed.checkpoint();
    match reader.root(checkpoint.size) {
        Ok(root) if root == checkpoint.root => {
            policy.check_cosignatures(&signed).map_err(|error| told(&error))
        }
        _ => Err(told(&format!(
            "witnesses have seen {} records that this log does not continue: it was rolled back or replaced",
            checkpoint.size
        ))),
    }
}

fn detail(finding: &FileFinding) -> Value {
    match finding {
        FileFinding::Record(damage) => json!({
            "record": damage.seq, "place": damage.segment, "offset": damage.offset, "problem": damage.problem.to_string(),
        }),
        FileFinding::Tile { level, .. } => {
            json!({ "place": format!("tiles/{level}"), "problem": finding.to_string() })
        }
        other => json!({ "place": "checkpoint", "problem": other.to_string() }),
    }
}

/// A log in a directory of tiles.
fn directory(tiles: &TilesDirectory, dir: &Path, asked: &Asked<'_>, app: &App) -> Result<Verdict> {
    let name = dir.display();
    let key = match folder_key(asked.key, app) {
        Err(_) if asked.key.is_none() && tiles.vkey()?.is_some() => {
            return Err(advised(
                "no log key is known on this machine, and a directory cannot vouch for its own",
                format!(
                    "compare {name}/log.vkey with the key that the log's operator published, then give it with --key"
                ),
            ));
        }
        other => other?,
    };
    let keys = LogKeys::load(dir, key.clone()).with_context(|| format!("cannot check {name}"))?;
    let (older, sights) = (asked.kept(&keys)?, asked.sights(dir, &keys)?);
    let mut checked = Audit::default();
    let mut witnessed = None;
    let signed = keys.open(&tiles.checkpoint()?);
    match &signed {
        Ok(signed) => {
            checked = audit(tiles, Contents::Any, &keys, signed, older.as_ref(), &sights)?;
            witnessed = asked.witnessed(signed);
        }
        Err(error) => checked.refuse(error.to_string()),
    }
    if let Some(Err(error)) = &witnessed {
        checked.refuse(error.to_string());
    }
    let standing = witnessed.and_then(Result::ok);
    let checkpoint = signed.as_ref().ok().map(SignedCheckpoint::checkpoint);
    let mut text = verdict_line(app, checked.is_sound(), &name.to_string());
    text.push_str(&format!("{} were read and computed anew.\n", counted(checked.records_read, "record")));
    text.push_str(&told(checkpoint, &checked));
    text.push_str(&continued(older.as_ref().filter(|_| checked.is_sound())));
    text.push_str(&followed(&keys));
    text.push_str(&standing.as_ref().map(trust::told).unwrap_or_default());
    text.push_str(&sights.told());
    text.push_str(&findings_of(&checked));
    let value = json!({
        "verified": checked.is_sound(), "dir": dir, "logKey": keys.current().to_string(),
        "checkpoint": checkpoint.map(checkpoint_value), "continues": older.as_ref().map(checkpoint_value),
        "records": checked.records_read, "opaque": checked.is_opaque, "unknownKinds": checked.unknown_kinds,
        "findings": checked.findings, "findingsOmitted": checked.findings_omitted,
        "witnessed": standing.as_ref().map(trust::value),
    });
    app.out.show(&text, &value)?;
    Ok(if checked.is_sound() { Verdict::Good } else { Verdict::Bad })
}

/// The key that was given, or the one that this machine knows.
pub fn folder_key(given: Option<&str>, app: &App) -> Result<VerifierKey> {
    given.map_or_else(|| known_key(app), parse_key)
}

fn known_key(app: &App) -> Result<VerifierKey> {
    let (_, server) = credentials::chosen(app.server.as_deref())?;
    let key = server.log_key.ok_or_else(|| {
        advised("no log key is known on this machine", "give it with --key, as `writ init` showed it")
    })?;
    parse_key(&key)
}

/// The log of a server.
fn server(asked: &Asked<'_>, app: &App) -> Result<Verdict> {
    let (url, known) = credentials::chosen(app.server.as_deref())?;
    let client = match known.live_token(Timestamp::now()) {
        Some(_) => Client::signed_in(&url, &known)?,
        None => Client::anonymous(&url, &known)?,
    };
    let (key, is_first_use) = key_of(asked.key, &known, &client)?;
    let (keys, _) = keys_of(&client, key)?;
    // Before the newest checkpoint, which covers them all.
    let sights =
        asked.policy.map(|policy| Ok::<_, anyhow::Error>(Sights::of(&history_of(&client)?, &keys, policy)));
    let sights = sights.transpose()?.unwrap_or_default();
    let (signed, note) = signed(&client, &url, &keys)?;
    let older = match asked.kept(&keys)? {
        Some(kept) => Some(kept),
        None => verified_before(&known, &keys)?,
    };
    let audit = audit(&Served::by(&client), Contents::Writ, &keys, &signed, older.as_ref(), &sights)?;
    let witnessed = asked.witnessed(&signed);
    if audit.is_sound() && !matches!(witnessed, Some(Err(_))) {
        credentials::update(&url, |_, server| {
            server.log_key = Some(signed.key().to_string());
            server.checkpoint = Some(note.clone());
        })?;
    }
    let older = older.as_ref();
    let shown = Shown { keys: &keys, is_first_use, signed: &signed, older, sights: &sights, audit: &audit };
    show(app, &url, &shown, witnessed)
}

/// The keys that followed the trusted one, as the server publishes them, and the changes: each is signed by the key before it.
pub(super) fn keys_of(client: &Client, trusted: VerifierKey) -> Result<(LogKeys, Vec<Rotation>)> {
    let wrong = |error: &dyn std::fmt::Display| {
        advised(
            format!("the changes of the log's key do not hold: {error}"),
            "ask the operator which key is the log's, before you trust it",
        )
    };
    // Where nothing is published, nothing has changed: a key that did change would not have signed what is served.
    let published = client.get("/log/rotations")?.unwrap_or_default();
    let rotations = read_rotations(&String::from_utf8_lossy(&published)).map_err(|error| wrong(&error))?;
    let keys = LogKeys::trace(trusted, &rotations).map_err(|error| wrong(&error))?;
    Ok((keys, rotations))
}

/// The checkpoints that witnesses have cosigned before, as the server publishes them. They are checked one by one.
pub(super) fn history_of(client: &Client) -> Result<CosignedHistory> {
    let published = client.get(&format!("/log/{COSIGNED_HISTORY}"))?.unwrap_or_default();
    CosignedHistory::parse(&String::from_utf8_lossy(&published))
        .context("the server publishes a history of cosigned checkpoints that cannot be read")
}

/// The key that was given, is kept, or (the first time) is served. Whether it is the latter.
pub(super) fn key_of(given: Option<&str>, known: &Server, client: &Client) -> Result<(VerifierKey, bool)> {
    match (given, &known.log_key) {
        (Some(text), _) => Ok((parse_key(text)?, false)),
        (None, Some(kept)) => Ok((parse_key(kept)?, false)),
        (None, None) => Ok((served_key(client)?, true)),
    }
}

/// The newest checkpoint of a server, with its text.
pub(super) fn signed(client: &Client, url: &str, keys: &LogKeys) -> Result<(SignedCheckpoint, String)> {
    let note = client.get_text("/log/checkpoint")?;
    let signed = keys.open(&note).map_err(|error| {
        advised(
            format!("{url} serves a checkpoint that does not hold: {error}"),
            "ask the operator; do not rely on this log",
        )
    })?;
    Ok((signed, note))
}

/// The checkpoint of a server that was verified here last.
fn verified_before(known: &Server, keys: &LogKeys) -> Result<Option<Checkpoint>> {
    let Some(text) = &known.checkpoint else { return Ok(None) };
    let signed = keys.open(text).map_err(|_| {
        advised(
            format!("the checkpoint that was verified here before is not signed by {}", keys.trusted()),
            "the log's key was exchanged, or this is another log: ask the operator before you trust it",
        )
    })?;
    Ok(Some(signed.checkpoint().clone()))
}

/// What was found about a server's log.
struct Shown<'a> {
    keys: &'a LogKeys,
    is_first_use: bool,
    signed: &'a SignedCheckpoint,
    older: Option<&'a Checkpoint>,
    sights: &'a Sights,
    audit: &'a Audit,
}

fn show(
    app: &App,
    url: &str,
    shown: &Shown<'_>,
    witnessed: Option<Result<Standing, StandingError>>,
) -> Result<Verdict> {
    let Shown { keys, is_first_use, older, audit, .. } = *shown;
    let checkpoint = shown.signed.checkpoint();
    let mut findings: Vec<String> = audit.findings.iter().map(ToString::to_string).collect();
    let (standing, unwitnessed) = match witnessed {
        Some(Ok(standing)) => (Some(standing), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, None),
    };
    findings.extend(unwitnessed.clone());
    let is_sound = audit.is_sound() && unwitnessed.is_none();
    let mut text = verdict_line(app, is_sound, &format!("the log of {url}"));
    text.push_str(&format!("{} were read and computed anew.\n", counted(audit.records_read, "record")));
    if audit.hashes_only > 0 {
        text.push_str(&format!(
            "Of {} only the hashes were checked: reading records needs a sign-in with the role auditor.\n",
            counted(audit.hashes_only, "record")
        ));
    }
    text.push_str(&told(Some(checkpoint), audit));
    match older {
        Some(older) => text.push_str(&continued(Some(older).filter(|_| audit.is_sound()))),
        None => text
            .push_str("It is the first checkpoint that is verified here; the next one has to continue it.\n"),
    }
    text.push_str(&followed(keys));
    let key = keys.current();
    if is_first_use {
        text.push_str(&format!(
            "The key was taken from the server, and is kept from now on. Compare it with the one that the operator published:\n  \
             {key}\n"
        ));
    }
    text.push_str(&standing.as_ref().map(trust::told).unwrap_or_default());
    text.push_str(&shown.sights.told());
    text.push_str(&listed(&findings, audit.findings_omitted));
    let value = json!({
        "witnessed": standing.as_ref().map(trust::value), "unwitnessed": unwitnessed,
        "verified": is_sound, "server": url, "logKey": key.to_string(), "keyTakenFromServer": is_first_use,
        "checkpoint": checkpoint_value(checkpoint), "continues": older.map(checkpoint_value),
        "records": audit.records_read, "hashesOnly": audit.hashes_only, "unknownKinds": audit.unknown_kinds,
        "findings": audit.findings, "findingsOmitted": audit.findings_omitted,
    });
    app.out.show(&text, &value)?;
    Ok(if is_sound { Verdict::Good } else { Verdict::Bad })
}

fn verdict_line(app: &App, is_sound: bool, what: &str) -> String {
    let paint = app.out.paint();
    let verdict = if is_sound { paint.green("VERIFIED") } else { paint.red("NOT VERIFIED") };
    format!("{verdict} {what}\n")
}

fn told(checkpoint: Option<&Checkpoint>, audit: &Audit) -> String {
    let mut text = String::new();
    if let Some(Checkpoint { origin, size, root }) = checkpoint {
        text.push_str(&format!("The signed checkpoint of {origin} has size {size} and root {root}.\n"));
    }
    if audit.unknown_kinds > 0 {
        text.push_str(&format!(
            "{} came from a later Writ: proven, but not understood by this one.\n",
            counted(audit.unknown_kinds, "record")
        ));
    }
    if audit.is_opaque {
        text.push_str(
            "Its records are not those of a Writ network: their bytes were checked, not what they say.\n",
        );
    }
    text
}

fn continued(older: Option<&Checkpoint>) -> String {
    older.map_or_else(String::new, |older| {
        format!("It continues the checkpoint of size {} that was kept from before.\n", older.size)
    })
}

/// How the log's key came to be the present one, if it has changed.
fn followed(keys: &LogKeys) -> String {
    let times = match keys.rotations() {
        0 => return String::new(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    format!(
        "Its key was changed {times} since the one that is trusted here; each change is signed by the key before it. It is now:\n  \
         {}\n",
        keys.current()
    )
}

fn findings_of(audit: &Audit) -> String {
    let findings: Vec<String> = audit.findings.iter().map(ToString::to_string).collect();
    listed(&findings, audit.findings_omitted)
}

fn listed(findings: &[String], omitted: u64) -> String {
    let mut text: String = findings.iter().map(|finding| format!("  - {}\n", printable(finding))).collect();
    if !findings.is_empty() {
        text.insert_str(0, "What is wrong:\n");
    }
    if omitted > 0 {
        text.push_str(&format!("  and {omitted} more\n"));
    }
    text
}

pub(super) fn checkpoint_value(checkpoint: &Checkpoint) -> Value {
    json!({ "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root })
}
