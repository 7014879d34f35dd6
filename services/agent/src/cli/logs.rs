//! `logs`: the agent's newest log lines.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use writ_agent::shell::local::{CallError, Request};

use super::output::{Output, items, text};
use super::{Asking, ask};

/// How often new lines are asked for.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(super) struct Logs {
    #[command(flatten)]
    pub asking: Asking,
    /// Go on with new lines as they come, until it is interrupted or the agent stops.
    #[arg(long, short)]
    follow: bool,
    /// Begin with so many lines; all that are kept (a thousand at most) by default.
    #[arg(long, short = 'n')]
    lines: Option<usize>,
}

pub(super) fn run(logs: &Logs) -> Result<ExitCode> {
    let last = print(logs, &ask(&logs.asking.at, &Request::Logs { after: 0 })?, logs.lines)?;
    if logs.follow {
        follow(logs, last.unwrap_or(0))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints new lines as they come, until the agent stops.
fn follow(logs: &Logs, mut last: u64) -> Result<()> {
    loop {
        std::thread::sleep(FOLLOW_INTERVAL);
        match ask(&logs.asking.at, &Request::Logs { after: last }) {
            Ok(lines) => last = print(logs, &lines, None)?.unwrap_or(last),
            Err(error) if matches!(error.downcast_ref(), Some(CallError::NotRunning(_))) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Prints the last lines. Gives the number of the last one.
fn print(logs: &Logs, lines: &Value, most: Option<usize>) -> Result<Option<u64>> {
    let lines: Vec<_> = items(lines).collect();
    let from = most.map_or(0, |most| lines.len().saturating_sub(most));
    let mut out = Output::default();
    for line in lines.iter().skip(from) {
        out.line(if logs.asking.json { line.to_string() } else { text(&line["text"]) });
    }
    print!("{out}");
    Ok(lines.last().and_then(|line| line["number"].as_u64()))
}
