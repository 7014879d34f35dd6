//! `writ log witnesses`: who cosigns the log, and how far they are.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::connect;
use crate::output::{local_time, printable};
use crate::{App, Verdict};

const WITNESSES: &str = "query Witnesses {
  witnesses {
    quorum
    cosigned { size note }
    witnesses { name vkey url cosignedSize cosignedAt failures problem }
  }
  checkpoint { size }
}";

/// Show who cosigns the log, how far they are, and what is wrong
///
/// A witness is another machine, best of another owner, that cosigns the log's checkpoints and never two histories.
/// Exit code 1 means that too few of them have cosigned anything since the server started.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ log witnesses
  writ log witnesses --json")]
pub struct Arguments {}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Witness {
    name: String,
    vkey: String,
    url: String,
    cosigned_size: Option<u64>,
    cosigned_at: Option<Timestamp>,
    failures: u64,
    problem: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Witnesses {
    quorum: u64,
    cosigned: Option<Value>,
    witnesses: Vec<Witness>,
}

#[derive(Serialize, Deserialize)]
struct Sized {
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    witnesses: Witnesses,
    checkpoint: Sized,
}

/// Asks and shows.
pub fn run(_: &Arguments, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let answer: Answer = client.graphql(WITNESSES, Value::Object(serde_json::Map::new()))?;
    let Witnesses { quorum, witnesses, .. } = &answer.witnesses;
    let value = serde_json::to_value(&answer)?;
    if witnesses.is_empty() {
        let text = "The log has no witnesses: only those who have kept a checkpoint would notice another history.\n\
                    Add them to the server's configuration as [[witness]] with `vkey` and `url`; `writd witness` is one.";
        app.out.show(text, &value)?;
        return Ok(Verdict::Good);
    }
    let row = |witness: &Witness| {
        vec![
            printable(&witness.name).to_string(),
            witness.cosigned_size.map_or_else(|| "-".to_owned(), |size| size.to_string()),
            witness.cosigned_at.map_or_else(|| "-".to_owned(), local_time),
            printable(&witness.vkey).to_string(),
            printable(witness.problem.as_deref().unwrap_or("-")).to_string(),
        ]
    };
    let rows = witnesses.iter().map(row).collect();
    let cosigning = witnesses.iter().filter(|witness| witness.cosigned_size.is_some()).count();
    let text = format!(
        "The log has {} records; a quorum is {quorum} of {}.\n\n{}",
        answer.checkpoint.size,
        witnesses.len(),
        app.out.table(&["WITNESS", "COSIGNED", "AT", "KEY", "LAST ERROR"], rows),
    );
    app.out.show(&text, &value)?;
    Ok(if cosigning as u64 >= *quorum { Verdict::Good } else { Verdict::Bad })
}

#[cfg(test)]
mod tests {
    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(super::WITNESSES);
    }
}
