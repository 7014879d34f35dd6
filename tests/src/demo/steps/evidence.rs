//! Offline: evidence and log are checked without the server, and a flipped byte is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use serde_json::Value;
use writ_schema::Seq;

use super::super::{Stage, Verified};
use crate::parts::START_LIMIT;

/// Every bundle and the log hold, and neither does with one byte changed.
pub(super) fn checked_offline(stage: &mut Stage) -> anyhow::Result<Verified> {
    let mut records = 0_usize;
    for bundle in &stage.notes.bundles {
        let (verified, verdict) = offline(stage, &["verify"], bundle)?;
        ensure!(verified, "{} does not verify: {verdict}", bundle.display());
        records = records.saturating_add(verdict["records"].as_array().map_or(0, Vec::len));
    }
    ensure!(records > 0, "the bundles hold no records");
    let bundle = stage.notes.bundles.first().context("no bundle was written")?;
    let forged = forge_bundle(stage, bundle)?;
    let (verified, verdict) = offline(stage, &["verify"], &forged)?;
    ensure!(!verified, "a bundle with another byte verifies");
    let bundle_problem = problem(&verdict, "problems")?;

    let copy = stage.directory().join("copy-of-the-log");
    copy_folder(&stage.cast()?.control.log_directory(), &copy)?;
    let (verified, verdict) = offline(stage, &["log", "verify"], &copy)?;
    ensure!(verified, "the copy of the log does not verify: {verdict}");
    let all = verdict["records"].as_u64().context("the verdict tells no records")?;
    let record = stage.notes.developer_record.context("no record was noted")?;
    forge_log(&copy, record)?;
    let (verified, verdict) = offline(stage, &["log", "verify"], &copy)?;
    ensure!(!verified, "a log with another byte verifies");
    let log_problem = problem(&verdict, "findings")?;
    ensure!(
        log_problem.starts_with(&format!("record {record} ")),
        "the finding does not name record {record}: {log_problem}"
    );
    Ok(Verified::new(
        format!(
            "{} evidence bundles ({records} records) and the whole log ({all} records) were checked without network and server, \
             and hold",
            stage.notes.bundles.len()
        ),
        format!(
            "with one letter of record {record} changed in a copy of the log, the same check said: \"{log_problem}\"; with one byte \
             of a bundle changed: \"{bundle_problem}\""
        ),
    ))
}

/// Runs `writ` in a network namespace without any interface, with nothing but the log's public key.
fn offline(stage: &Stage, words: &[&str], path: &Path) -> anyhow::Result<(bool, Value)> {
    let cast = stage.cast()?;
    let writ = stage.programs.command("writ")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(writ.get_program()).args(words).arg(path);
    command.args(["--key", &cast.control.made().log_key, "--json"]);
    command.env("WRIT_CONFIG", stage.directory().join("nobody-is-signed-in.toml"));
    let Output { status, stdout, stderr } = stage.scene.control.spawn(&command)?.output(START_LIMIT)?;
    let verdict: Value = serde_json::from_slice(&stdout)
        .with_context(|| format!("writ {words:?} said: {}", String::from_utf8_lossy(&stderr).trim()))?;
    let verified = verdict["verified"] == true;
    ensure!(verified == status.success(), "the exit code says otherwise than the verdict: {verdict}");
    Ok((verified, verdict))
}

/// What is wrong, in the program's own words: the finding that names a record, if one does.
fn problem(verdict: &Value, list: &str) -> anyhow::Result<String> {
    let findings = verdict[list].as_array().with_context(|| format!("nothing is named: {verdict}"))?;
    let named = findings.iter().find(|finding| finding["record"].is_u64()).or(findings.first());
    let found = named.with_context(|| format!("nothing is named: {verdict}"))?;
    let text = found.as_str().or(found["problem"].as_str()).unwrap_or_default();
    Ok(match (found["record"].as_u64(), found["place"].as_str()) {
        (Some(record), Some(place)) => format!("record {record} ({place}): {text}"),
        _ => text.to_owned(),
    })
}

/// Changes one digit of the time in the bundle's first record.
fn forge_bundle(stage: &Stage, bundle: &Path) -> anyhow::Result<PathBuf> {
    let mut bytes = fs::read(bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
    let needle = br#"\"time\":\"2"#;
    let place = find(&bytes, needle).context("the bundle holds no record")?;
    change(&mut bytes, place.saturating_add(needle.len()).saturating_sub(1))?;
    let forged = stage.directory().join("forged-bundle.json");
    fs::write(&forged, bytes).with_context(|| format!("cannot write {}", forged.display()))?;
    Ok(forged)
}

/// Changes one letter of the record in the file that holds it.
fn forge_log(log: &Path, record: Seq) -> anyhow::Result<()> {
    let needle = format!(r#"{{"seq":{record},"#);
    for entry in fs::read_dir(log.join("segments")).context("the copy has no segments")? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        let Some(start) = find(&bytes, needle.as_bytes()) else { continue };
        let rest = bytes.get(start..).unwrap_or_default();
        let letter = find(rest, b"connection.authorized").context("the record is of another kind")?;
        change(&mut bytes, start.saturating_add(letter))?;
        return fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()));
    }
    anyhow::bail!("record {record} is in no segment")
}

fn change(bytes: &mut [u8], place: usize) -> anyhow::Result<()> {
    let byte = bytes.get_mut(place).context("there is no such place")?;
    *byte ^= 1;
    Ok(())
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy to {}", target.display()))?;
        }
    }
    Ok(())
}
