//! `writ retention`: how long records of connections can be read.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;
use writ_schema::seal::Quarter;

use super::rows::Row;
use super::{command_id, connect, recorded};
use crate::{App, Verdict, confirm};

const LAPSE: &str = "mutation LapseRetention($quarter: String!, $command: ID) {
  lapseRetention(quarter: $quarter, commandId: $command) {
    command repeated recordCount records { seq time kind actor cause }
  }
}";

/// End the time in which it can be read whose connections were recorded
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Lapse(Lapse),
}

/// Make it unreadable, for ever, whose the connections of a quarter were
///
/// The keys of the quarter's connection records are destroyed. The records stay, and so does every proof: what was allowed
/// to which destination, by which rule and when. The source cannot be read any more, by anybody.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ retention lapse 2025q4")]
struct Lapse {
    /// A calendar quarter in UTC that is over, such as 2025q4.
    #[arg(value_name = "QUARTER", value_parser = quarter)]
    quarter: Quarter,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

fn quarter(text: &str) -> Result<Quarter, String> {
    text.to_owned().try_into()
}

/// Runs a command of the family.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let Command::Lapse(arguments) = &arguments.command;
    let client = connect(app)?;
    let Lapse { quarter, yes } = arguments;
    let question =
        format!("Make it unreadable whose the connections of {quarter} were? This cannot be undone.");
    if !confirm::agreed(app, &question, *yes)? {
        return Ok(Verdict::Bad);
    }
    let variables = json!({ "quarter": quarter, "command": command_id()? });
    let data = client.graphql_raw(LAPSE, variables)?;
    let done = Row(&data).at("/lapseRetention");
    let text = format!(
        "The keys of the connection records of {quarter} are destroyed: nobody can read whose they were.\n{}",
        recorded(done)
    );
    app.out.show(&text, done.0)?;
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(LAPSE);
    }
}
