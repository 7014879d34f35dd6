//! Asking before something is done that is hard to take back.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, Result};

use crate::App;
use crate::failure::advised;

/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 1024;

/// Asks the person at the terminal, unless that was waived. A script that has not waived it is refused.
pub fn agreed(app: &App, question: &str, is_waived: bool) -> Result<bool> {
    if !is_waived && !io::stdin().is_terminal() {
        return Err(advised(
            "this changes the network and nobody is there to confirm it",
            "give --yes to go ahead without being asked",
        ));
    }
    agreed_or_scripted(app, question, is_waived)
}

/// Asks the person at the terminal, if there is one: a script that names its target means it.
pub fn agreed_or_scripted(app: &App, question: &str, is_waived: bool) -> Result<bool> {
    if is_waived || !io::stdin().is_terminal() {
        return Ok(true);
    }
    write!(io::stderr(), "{question} [y/N] ").and_then(|()| io::stderr().flush()).context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut answer).context("cannot read the answer")?;
    let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !is_yes {
        app.out.note("Nothing was changed.");
    }
    Ok(is_yes)
}
