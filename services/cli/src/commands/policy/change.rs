//! `writ policy diff`, `set`, `undo` and `show`: the policy in force.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::check;
use super::difference;
use crate::client::Client;
use crate::commands::rows::Row;
use crate::commands::{command_id, connect, recorded};
use crate::failure::advised;
use crate::moment::{self, AsOf};
use crate::output::{counted, printable};
use crate::{App, Verdict, confirm};

const POLICY: &str = "query Policy($version: UInt, $asOf: AsOfInput) {
  policy(version: $version, asOf: $asOf) {
    version text digest base restores effect { gained lost connectionsCut testsPassed } proposedBy activatedBy
    proposed { seq time } record { seq time } superseded { seq time }
  }
}";

const SET: &str =
    "mutation SetPolicy($text: String!, $base: UInt, $allowEverything: Boolean!, $command: ID) {
  setPolicy(text: $text, base: $base, allowEverything: $allowEverything, commandId: $command) {
    command repeated recordCount records { seq time kind actor cause }
  }
}";

const UNDO: &str = "mutation UndoPolicy($to: UInt, $command: ID) {
  undoPolicy(to: $to, commandId: $command) { command repeated recordCount records { seq time kind actor cause } }
}";

/// Show what a policy file would change, and change nothing
///
/// The server compares it with the policy in force, for the nodes of now: permissions gained and lost, live connections that would
/// be cut, tests of the file that fail.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ policy diff policy.hujson")]
pub struct Diff {
    /// The policy file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Put a policy file in force
///
/// Shows what it changes and asks first. Permissions that it takes away are withdrawn at once, with live connections. If
/// somebody else changed the policy in between, nothing is done.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ policy set policy.hujson")]
pub struct Set {
    /// The policy file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take a file with neither "acls" nor "grants", which allows everything to everybody.
    #[arg(long)]
    allow_everything: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Put an earlier policy in force again
///
/// It gets a version of its own; what is in the log stays there.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ policy undo
  writ policy undo --to 3")]
pub struct Undo {
    /// The version to restore; by default the one before the policy in force.
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Print the policy in force, or one that was
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ policy show > policy.hujson
  writ policy show --version 3")]
pub struct Show {
    /// Which version.
    #[arg(long, value_name = "VERSION", conflicts_with = "as_of")]
    version: Option<u64>,
    /// The one in force at this moment: a time, or the number of a record.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
}

/// Compares.
pub fn diff(arguments: &Diff, app: &App) -> Result<Verdict> {
    let text = check::read(&arguments.file)?;
    let difference = difference::ask(&connect(app)?, &text)?;
    app.out.show(&difference::text(&difference, app.out.paint()), &difference)?;
    Ok(if difference::is_acceptable(&difference) { Verdict::Good } else { Verdict::Bad })
}

/// Compares, asks, sets.
pub fn set(arguments: &Set, app: &App) -> Result<Verdict> {
    let text = check::read(&arguments.file)?;
    let client = connect(app)?;
    let difference = difference::ask(&client, &text)?;
    let change = Change { text, base: difference.pointer("/base").cloned().unwrap_or_default(), difference };
    put(app, &client, &change, arguments.allow_everything, arguments.yes)
}

/// Changes the text of the policy in force, and puts it in force as `set` does. Nothing is done if the edit gives nothing,
/// or if somebody else changed the policy in between.
pub fn rewrite(
    app: &App,
    yes: bool,
    edit: impl FnOnce(&str, &str) -> Result<Option<String>>,
) -> Result<Verdict> {
    let client = connect(app)?;
    let data = client.graphql_raw(&moment::document(POLICY, None), json!({ "version": null }))?;
    let policy = data.pointer("/policy").unwrap_or(&Value::Null);
    let Some(text) = policy.pointer("/text").and_then(Value::as_str) else {
        return Err(advised("no policy is in force", "set one with `writ policy set FILE`"));
    };
    let base = policy.pointer("/version").cloned().unwrap_or_default();
    let Some(text) = edit(&format!("version {}", Row(policy).text("/version")), text)? else {
        return Ok(Verdict::Bad);
    };
    let difference = difference::ask(&client, &text)?;
    put(app, &client, &Change { text, base, difference }, false, yes)
}

/// A policy to be put in force, the version that it changes, and what it does.
struct Change {
    text: String,
    base: Value,
    difference: Value,
}

fn put(app: &App, client: &Client, change: &Change, allow_everything: bool, yes: bool) -> Result<Verdict> {
    let difference = &change.difference;
    let is_meant = allow_everything && difference::is_everything(difference);
    if !difference::is_acceptable(difference) && !is_meant {
        app.out.show(
            &difference::text(difference, app.out.paint()),
            &json!({ "set": false, "difference": difference }),
        )?;
        return Ok(Verdict::Bad);
    }
    if !agreed(app, difference, "Put this policy in force?", yes)? {
        return Ok(Verdict::Bad);
    }
    let variables = json!({
        "text": change.text, "base": change.base, "allowEverything": allow_everything, "command": command_id()?,
    });
    let done = client.graphql_raw(SET, variables)?;
    told(app, client, Row(&done).at("/setPolicy"), difference)
}

/// Compares with the earlier version, asks, restores.
pub fn undo(arguments: &Undo, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let target = restored(&client, arguments.to)?;
    let difference = match target.pointer("/text").and_then(Value::as_str) {
        Some(text) => difference::ask(&client, text)?,
        None => Value::Null,
    };
    let question = format!("Put version {} in force again?", Row(&target).text("/version"));
    if !agreed(app, &difference, &question, arguments.yes)? {
        return Ok(Verdict::Bad);
    }
    let done =
        client.graphql_raw(UNDO, json!({ "to": target.pointer("/version"), "command": command_id()? }))?;
    told(app, &client, Row(&done).at("/undoPolicy"), &difference)
}

/// Prints a policy.
pub fn show(arguments: &Show, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let variables = json!({ "version": arguments.version, "asOf": moment::argument(arguments.as_of) });
    let document = moment::document(POLICY, arguments.as_of);
    let policy = client.graphql_raw(&document, variables)?.pointer("/policy").cloned().unwrap_or_default();
    let row = Row(&policy);
    if !row.is_some() {
        return Err(match arguments.version {
            Some(version) => advised(
                format!("there is no version {version} of the policy"),
                "`writ policy show` prints the one in force",
            ),
            None => advised(
                "no policy is in force, so nobody may reach anything",
                "set one with `writ policy set FILE`",
            ),
        });
    }
    app.out.note(&format!(
        "Version {}, in force since {} (record {}), proposed by {}.",
        row.text("/version"),
        row.time("/record/time"),
        row.text("/record/seq"),
        row.text("/proposedBy"),
    ));
    let text = row.at("/text").0.as_str().unwrap_or("// The text of this version was erased.");
    app.out.show(&printable(text), &policy)?;
    Ok(Verdict::Good)
}

/// The policy that an undo would restore.
fn restored(client: &Client, to: Option<u64>) -> Result<Value> {
    let get = |version: Option<u64>| -> Result<Value> {
        let data = client.graphql_raw(&moment::document(POLICY, None), json!({ "version": version }))?;
        Ok(data.pointer("/policy").cloned().unwrap_or_default())
    };
    let version = match to {
        Some(version) => Some(version),
        None => Row(&get(None)?).number("/version").and_then(|current| current.checked_sub(1)),
    };
    let found = match version {
        Some(version) if version > 0 => get(Some(version))?,
        _ => Value::Null,
    };
    if found.is_null() {
        return Err(advised(
            "there is no such policy to restore",
            "`writ policy show --version N` prints earlier ones; set a new text with `writ policy set FILE`",
        ));
    }
    Ok(found)
}

/// Shows what changes and asks, unless that was waived.
fn agreed(app: &App, difference: &Value, question: &str, yes: bool) -> Result<bool> {
    if !app.out.is_json() && !difference.is_null() {
        app.out.line(difference::text(difference, app.out.paint()).trim_end())?;
    }
    confirm::agreed(app, question, yes)
}

fn told(app: &App, client: &Client, done: Row<'_>, difference: &Value) -> Result<Verdict> {
    let activated = done.list("/records").find(|record| record.text("/kind") == "policy.activated");
    let seq = activated.and_then(|record| record.number("/seq"));
    let data = client.graphql_raw(&moment::document(POLICY, None), json!({ "version": null }))?;
    let is_ours = |policy: &&Value| Row(policy).number("/record/seq") == seq;
    let policy = data.pointer("/policy").filter(is_ours).cloned().unwrap_or_default();
    let row = Row(&policy);
    let cut = row.number("/effect/connectionsCut").unwrap_or(0);
    let text = match row.number("/version") {
        Some(version) => {
            let cut = counted(cut, "live connection");
            format!("Version {version} is in force; {cut} cut.\n{}", recorded(done))
        }
        None => format!("It was put in force; by now another policy is.\n{}", recorded(done)),
    };
    let value = json!({
        "set": true, "version": row.number("/version"), "record": seq, "effect": row.at("/effect").0, "done": done.0,
        "difference": difference,
    });
    app.out.show(&text, &value)?;
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(&moment::document(POLICY, None));
        [POLICY, SET, UNDO].into_iter().for_each(crate::contract::assert_fits);
    }
}
