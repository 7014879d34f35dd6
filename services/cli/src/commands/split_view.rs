//! The part of `writ verify` that checks the proof of a split view.

use anyhow::Result;
use serde_json::{Value, json};
use writ_ledger::split_view::FORMAT;
use writ_ledger::{Checkpoint, SplitView, SplitViewError, VerifierKey};

use crate::output::printable;
use crate::{App, Verdict};

/// What is shown besides the verdict.
const MEANING: &str = "Both checkpoints bear the signature of the log's key, and they cannot both be true. Whoever holds that \
    key has shown different people different histories, has let the log be restored from an older copy and grow again, or has \
    lost the key to somebody who did. Which history is the true one this file does not say.";

/// Checks the evidence and says what it proves.
pub(super) fn verify(
    app: &App,
    name: &str,
    split: &Result<SplitView, SplitViewError>,
    key: &VerifierKey,
) -> Result<Verdict> {
    let report = split.as_ref().map_err(Clone::clone).and_then(|split| split.verify(key));
    let paint = app.out.paint();
    match report {
        Ok(report) => {
            let text = format!(
                "{} {name}\n\nIt proves misbehaviour: {report}.\n\n{MEANING}",
                paint.green("VERIFIED"),
                report = printable(&report.to_string()),
            );
            let value = json!({
                "verified": true, "file": name, "format": FORMAT, "logKey": key.to_string(), "problems": [],
                "proves": report.to_string(), "older": shown(&report.older), "newer": shown(&report.newer),
                "rootInNewer": report.root_in_newer,
            });
            app.out.show(&text, &value)?;
            Ok(Verdict::Good)
        }
        Err(error) => {
            let problem = error.to_string();
            let text =
                format!("{} {name} proves nothing: {}", paint.red("NOT VERIFIED"), printable(&problem));
            let value = json!({ "verified": false, "file": name, "format": FORMAT, "problems": [problem] });
            app.out.show(&text, &value)?;
            Ok(Verdict::Bad)
        }
    }
}

fn shown(checkpoint: &Checkpoint) -> Value {
    let Checkpoint { origin, size, root } = checkpoint;
    json!({ "origin": origin, "size": size, "root": root })
}
