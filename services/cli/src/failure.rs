//! Saying what went wrong: what happened, why, and what to do.

use std::io::{self, IsTerminal, Write};

use crate::client_error::ClientError;
use crate::output::{Paint, printable};

/// An error with advice.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Advised {
    what: String,
    help: String,
    is_usage: bool,
}

/// A refusal with advice on what to do.
pub fn advised(what: impl Into<String>, help: impl Into<String>) -> anyhow::Error {
    Advised { what: what.into(), help: help.into(), is_usage: false }.into()
}

/// Arguments that do not make sense together: exit code 2.
pub fn usage(what: impl Into<String>, help: impl Into<String>) -> anyhow::Error {
    Advised { what: what.into(), help: help.into(), is_usage: true }.into()
}

/// Prints an error on standard error and returns the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return 0;
    }
    let paint = Paint::for_stream(io::stderr().is_terminal());
    let mut text = format!("{} {}\n", paint.red("error:"), printable(&error.to_string()));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {}\n", printable(&cause.to_string())));
    }
    if let Some(help) = help(error) {
        text.push_str(&format!("{} {}\n", paint.bold("  help:"), printable(&help)));
    }
    // There is nobody left to tell if this fails.
    let _ = io::stderr().write_all(text.as_bytes());
    let is_usage = error.chain().any(|e| e.downcast_ref::<Advised>().is_some_and(|a| a.is_usage));
    if is_usage { 2 } else { 1 }
}

fn help(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            return Some(advised.help.clone());
        }
        cause.downcast_ref::<ClientError>().and_then(ClientError::help)
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<crate::output::PrintError>().map(|print| print.0.kind())
    };
    error.chain().filter_map(kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn advice_is_found_below_context() {
        let error = Err::<(), _>(advised("no token", "run `writ login`")).context("cannot list").unwrap_err();
        assert_eq!(help(&error).as_deref(), Some("run `writ login`"));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let pipe = crate::output::PrintError(io::ErrorKind::BrokenPipe.into());
        assert_eq!(report(&anyhow::Error::from(pipe)), 0);
        assert_eq!(report(&usage("both", "give one")), 2);
        assert_eq!(report(&advised("a", "b")), 1);
    }
}
