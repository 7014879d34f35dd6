//! The commands, one module per family.

pub mod admins;
pub mod bundle;
pub mod history;
pub mod init;
pub mod keys;
pub mod log;
pub mod login;
pub mod nodes;
pub mod paths;
pub mod policy;
mod programs;
pub mod query;
pub mod reach;
pub mod report;
pub mod retention;
mod rows;
mod split_view;
pub mod trust;
pub mod users;
pub mod verify;

use anyhow::{Result, anyhow};
use writ_schema::CommandId;

use self::rows::Row;
use crate::args::Command;
use crate::client::Client;
use crate::output::counted;
use crate::{App, Verdict, credentials};

/// Runs a command.
pub fn run(command: Command, app: &App) -> Result<Verdict> {
    match command {
        Command::Init(arguments) => init::run(&arguments, app),
        Command::Login(arguments) => login::run(&arguments, app),
        Command::Keys(arguments) => keys::run(arguments, app),
        Command::Policy(arguments) => policy::run(arguments, app),
        Command::Nodes(arguments) => nodes::run(arguments, app),
        Command::Users(arguments) => users::run(arguments, app),
        Command::Retention(arguments) => retention::run(&arguments, app),
        Command::Admins(arguments) => admins::run(arguments, app),
        Command::Log(arguments) => log::run(arguments, app),
        Command::Query(arguments) => query::run(&arguments, app),
        Command::WhoCanReach(arguments) => reach::who_can_reach(&arguments, app),
        Command::Reach(arguments) => reach::reach(&arguments, app),
        Command::Paths(arguments) => paths::paths(&arguments, app),
        Command::BlastRadius(arguments) => paths::blast_radius(&arguments, app),
        Command::Connections(arguments) => history::connections(&arguments, app),
        Command::Denials(arguments) => history::denials(&arguments, app),
        Command::Report(arguments) => report::run(&arguments, app),
        Command::Bundle(arguments) => bundle::run(&arguments, app),
        Command::Verify(arguments) => verify::run(&arguments, app),
    }
}

/// The connection to the server that is meant, signed in.
fn connect(app: &App) -> Result<Client> {
    let (url, server) = credentials::chosen(app.server.as_deref())?;
    Client::signed_in(&url, &server)
}

/// A name for a command, so that a repeat of it changes nothing.
fn command_id() -> Result<CommandId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    Ok(CommandId::from_bytes(bytes))
}

/// Which records a command brought about, in words.
fn recorded(done: Row<'_>) -> String {
    let count = done.number("/recordCount").unwrap_or(0);
    let seqs: Vec<u64> = done.list("/records").filter_map(|record| record.number("/seq")).collect();
    match (seqs.first(), seqs.last()) {
        (Some(first), Some(last)) if first != last => {
            // One command's records stand side by side; a long list is cut by the server.
            format!("Recorded: {} from {first} on ({}).", counted(count, "record"), kinds(done))
        }
        (Some(first), _) => format!("Recorded: record {first} ({}).", kinds(done)),
        _ => "Nothing had to be recorded.".to_owned(),
    }
}

/// The kinds of the records, each with how often it comes.
fn kinds(done: Row<'_>) -> String {
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for kind in done.list("/records").map(|record| record.text("/kind")) {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let shown = |(kind, count): &(String, u64)| match count {
        1 => kind.clone(),
        count => format!("{count} {kind}"),
    };
    kinds.iter().map(shown).collect::<Vec<_>>().join(", ")
}
