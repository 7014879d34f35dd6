//! `check`: what of this host's network stands in the way.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;
use writ_agent::shell::local::Request;

use super::output::{Output, items, text};
use super::{Asking, NO, ask, show_answer};

pub(super) fn run(asking: &Asking) -> Result<ExitCode> {
    let findings = ask(&asking.at, &Request::Check)?;
    let has_failed = items(&findings).any(|finding| finding["health"] == "failed");
    show_answer(asking, &findings, print)?;
    Ok(if has_failed { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

fn print(findings: &Value, out: &mut Output) {
    for finding in items(findings) {
        out.line(format!(
            "{:9}  {:7}  {}",
            text(&finding["health"]),
            text(&finding["check"]),
            text(&finding["found"])
        ));
        if let Some(remedy) = finding["remedy"].as_str() {
            out.line(format!("{:20}{remedy}", ""));
        }
    }
}
