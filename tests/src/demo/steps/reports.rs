//! What the auditor gets: a report for each framework, on paper and on screen, with its evidence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::{Stage, Verified};
use crate::parts::START_LIMIT;

/// Controls that both reports have at least between them.
const CONTROLS: usize = 12;

/// The controls that judge the log itself. On this log they can be anything but contradicted: it was verified in step 1.
const OF_THE_LOG: [&str; 2] = ["nis2.3.2.5", "dora.rts.12.2.d"];

/// Both reports exist in both forms, say something of every control, and claim nothing.
pub(super) fn two_frameworks(stage: &mut Stage) -> anyhow::Result<Verified> {
    let mut controls = Vec::new();
    let mut counts = Vec::new();
    let mut bundles = Vec::new();
    for framework in ["nis2", "dora"] {
        let written = write(stage, framework)?;
        let found = statuses(&written.json)?;
        let of_the_log = found.iter().find(|(id, _)| OF_THE_LOG.contains(&id.as_str()));
        let (id, status) = of_the_log.context("no control judges the log itself")?;
        ensure!(status != "contradicted", "{id} is contradicted by a log that was verified");
        let found: Vec<_> = found.into_iter().map(|(_, status)| status).collect();
        counts.push(format!("{} for {}", found.len(), if framework == "nis2" { "NIS-2" } else { "DORA" }));
        controls.extend(found);
        check_text(stage, &written)?;
        bundles.push(written.bundle);
    }
    ensure!(controls.len() >= CONTROLS, "the reports have {} controls, not {CONTROLS}", controls.len());
    let of = |slug: &str| controls.iter().filter(|status| *status == slug).count();
    let tally: Vec<_> = ["supported", "attention", "contradicted", "no_data", "not_assessable"]
        .into_iter()
        .map(|slug| (of(slug), slug.replace('_', " ")))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    ensure!(of("supported") > 0, "no control is supported by a log full of evidence: {controls:?}");
    stage.notes.bundles.extend(bundles);
    Ok(Verified::new(
        format!(
            "Reports for NIS-2 and DORA were written as PDF and HTML, with an evidence bundle each: {} controls ({}), {}",
            controls.len(),
            counts.join(", "),
            tally.join(", ")
        ),
        "every statement names the records it was judged by, each report says what the log cannot show, and neither contains the \
         word \"compliant\"",
    ))
}

/// The files of one report.
struct Written {
    html: PathBuf,
    pdf: PathBuf,
    json: PathBuf,
    bundle: PathBuf,
}

fn write(stage: &Stage, framework: &str) -> anyhow::Result<Written> {
    let folder = stage.directory().join("reports");
    let out = folder.to_str().context("the folder's name is no text")?;
    let now = Timestamp::now();
    let (from, to) = (now.saturating_sub(SignedDuration::from_hours(1)), now);
    let (from, to) = (from?.to_string(), to.to_string());
    let cast = stage.cast()?;
    let args = ["report", "--framework", framework, "--from", &from, "--to", &to, "--out", out, "--bundle"];
    let answer: Value = cast.operator.json(&args)?;
    let files = answer["files"].as_array().context("`writ report` names no files")?;
    let files: Vec<_> = files.iter().filter_map(Value::as_str).map(PathBuf::from).collect();
    let find = |end: &str| {
        let file = files.iter().find(|file| file.to_string_lossy().ends_with(end));
        let file = file.with_context(|| format!("no {end} was written, only {files:?}"))?;
        ensure!(fs::metadata(file)?.len() > 0, "{} is empty", file.display());
        Ok(file.clone())
    };
    let bundle = files.iter().find(|file| file.to_string_lossy().contains("bundle"));
    Ok(Written {
        html: find("-en.html")?,
        pdf: find("-en.pdf")?,
        json: find("-en.json")?,
        bundle: bundle.with_context(|| format!("no bundle was written, only {files:?}"))?.clone(),
    })
}

/// Name and status of every control.
fn statuses(report: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = fs::read(report).with_context(|| format!("cannot read {}", report.display()))?;
    let report: Value = serde_json::from_slice(&text).context("the report is not JSON")?;
    let mut found = Vec::new();
    for chapter in report["chapters"].as_array().context("the report has no chapters")? {
        for control in chapter["controls"].as_array().context("a chapter has no controls")? {
            let status = control["status"].as_str().context("a control has no status")?;
            let id = control["id"].as_str().context("a control has no name")?;
            found.push((id.to_owned(), status.to_ascii_lowercase().replace([' ', '-'], "_")));
        }
    }
    Ok(found)
}

/// The PDF can be read, says something, and neither form makes the claim that no log can support.
fn check_text(stage: &Stage, written: &Written) -> anyhow::Result<()> {
    let mut command = Command::new("pdftotext");
    command.arg(&written.pdf).arg("-");
    let output = stage.scene.control.spawn(&command)?.output(START_LIMIT)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pdftotext {}: {complaint}", written.pdf.display());
    let pdf = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(pdf.len() > 2000, "{} says next to nothing", written.pdf.display());
    let html = fs::read_to_string(&written.html).context("the report cannot be read")?;
    for (name, text) in [("the PDF", pdf), ("the HTML", html)] {
        ensure!(!text.to_lowercase().contains("compliant"), "{name} says \"compliant\"");
    }
    Ok(())
}
