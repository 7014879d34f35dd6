//! `writ users`: the people of the network.

mod leave;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use writ_schema::UserId;

use super::rows::{Row, fetch};
use super::{command_id, connect, recorded};
use crate::moment::{self, AsOf};
use crate::{App, Verdict, confirm};

const LIST: &str = "query Users($first: Int, $after: String, $asOf: AsOfInput, $status: UserStatus) {
  users(first: $first, after: $after, asOf: $asOf, status: $status) {
    nodes {
      user status decidedAt record { seq time } leaver { seq time } disabled { seq time } erased { seq time }
    }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}";

const ADD: &str = "mutation CreateUser($login: String!, $name: String!, $command: ID) {
  createUser(login: $login, displayName: $name, commandId: $command) {
    user done { command repeated recordCount records { seq time kind actor cause } }
  }
}";

const ERASE: &str = "mutation EraseUser($user: ID!, $command: ID) {
  eraseUser(user: $user, commandId: $command) { command repeated recordCount records { seq time kind actor cause } }
}";

const REVEAL: &str = "mutation RevealPersons($users: [ID!]!, $purpose: String!, $command: ID) {
  revealPersons(users: $users, purpose: $purpose, commandId: $command) {
    persons { user login displayName nodes { node name } }
    done { command repeated recordCount records { seq time kind actor cause } }
  }
}";

/// Add people, let them leave, erase their data, see who is behind a pseudonym
///
/// Without a command, the users are listed: by pseudonyms, for that is all that the log holds in the clear.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  writ users
  writ users add ada@example.com --name 'Ada Lovelace'
  writ users leave ada@example.com"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Command {
    List(List),
    Add(Add),
    Leave(leave::Arguments),
    Erase(Erase),
    Reveal(Reveal),
}

/// Where a person stands.
#[derive(Clone, Copy, ValueEnum)]
enum Status {
    /// Can own nodes.
    Active,
    /// The news of leaving has arrived.
    Leaving,
    /// May do nothing any more.
    Disabled,
}

/// List the users by their pseudonyms
#[derive(Args)]
#[command(after_help = "\
Example:
  writ users list --status active --as-of 2026-03-14")]
struct List {
    /// The moment to look at: a time, or the number of a record.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
    /// Only those who stand there.
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Most rows that are shown.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// Make a person known, under a new pseudonym
#[derive(Args)]
#[command(after_help = "\
Example:
  writ users add ada@example.com --name 'Ada Lovelace'")]
struct Add {
    /// Sign-in name, an e-mail address: what a policy file calls the person.
    #[arg(value_name = "LOGIN")]
    login: String,
    /// Name for people.
    #[arg(long)]
    name: String,
}

/// Make everything personal about somebody who has left unreadable, for ever
///
/// Their keys are destroyed. The records stay, and so does every proof; nobody can read the person in them any more.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ users erase usr_…")]
struct Erase {
    /// The pseudonym.
    #[arg(value_name = "USER")]
    user: UserId,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Show who is behind pseudonyms; that you asked, and for what, is recorded
#[derive(Args)]
#[command(after_help = "\
Example:
  writ users reveal usr_… --purpose 'incident 42: unusual access to production-database'")]
struct Reveal {
    /// The pseudonyms.
    #[arg(value_name = "USER", required = true)]
    users: Vec<UserId>,
    /// For what, in your words.
    #[arg(long)]
    purpose: String,
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        None => list(&arguments.list, app),
        Some(Command::List(arguments)) => list(&arguments, app),
        Some(Command::Add(arguments)) => add(&arguments, app),
        Some(Command::Leave(arguments)) => leave::run(&arguments, app),
        Some(Command::Erase(arguments)) => erase(&arguments, app),
        Some(Command::Reveal(arguments)) => reveal(&arguments, app),
    }
}

fn list(arguments: &List, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let status = arguments.status.map(|status| match status {
        Status::Active => "ACTIVE",
        Status::Leaving => "LEAVING",
        Status::Disabled => "DISABLED",
    });
    let mut variables = Map::new();
    variables.insert("asOf".to_owned(), moment::argument(arguments.as_of));
    variables.insert("status".to_owned(), json!(status));
    let listing =
        fetch(&client, &moment::document(LIST, arguments.as_of), "users", variables, arguments.limit)?;
    let cells = |row: Row<'_>| {
        let status = if row.at("/erased").is_some() { "erased".to_owned() } else { row.word("/status") };
        vec![
            row.text("/user"),
            status,
            row.time("/record/time"),
            row.time("/leaver/time"),
            row.time("/erased/time"),
        ]
    };
    let rows = listing.rows.iter().map(|row| cells(Row(row))).collect();
    let table = app.out.table(&["USER", "STATUS", "ADDED", "LEFT", "ERASED"], rows);
    app.out.show(&format!("{table}\n{}", listing.basis()), &listing.value("users"))?;
    Ok(Verdict::Good)
}

fn add(arguments: &Add, app: &App) -> Result<Verdict> {
    let variables = json!({ "login": arguments.login, "name": arguments.name, "command": command_id()? });
    let data = connect(app)?.graphql_raw(ADD, variables)?;
    let made = Row(&data).at("/createUser");
    let text = format!("{} is {}.\n{}", arguments.login, made.text("/user"), recorded(made.at("/done")));
    app.out.show(&text, made.0)?;
    Ok(Verdict::Good)
}

fn erase(arguments: &Erase, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let question =
        format!("Make everything personal about {} unreadable? This cannot be undone.", arguments.user);
    if !confirm::agreed(app, &question, arguments.yes)? {
        return Ok(Verdict::Bad);
    }
    let data = client.graphql_raw(ERASE, json!({ "user": arguments.user, "command": command_id()? }))?;
    let done = Row(&data).at("/eraseUser");
    let text = format!(
        "The keys of {} are destroyed: nothing personal is left readable.\n{}",
        arguments.user,
        recorded(done)
    );
    app.out.show(&text, done.0)?;
    Ok(Verdict::Good)
}

fn reveal(arguments: &Reveal, app: &App) -> Result<Verdict> {
    let variables =
        json!({ "users": arguments.users, "purpose": arguments.purpose, "command": command_id()? });
    let data = connect(app)?.graphql_raw(REVEAL, variables)?;
    let revealed = Row(&data).at("/revealPersons");
    let rows = revealed.list("/persons").map(person).collect();
    let table = app.out.table(&["USER", "LOGIN", "NAME", "NODES"], rows);
    app.out.show(&format!("{table}\n\n{}", recorded(revealed.at("/done"))), revealed.0)?;
    Ok(Verdict::Good)
}

fn person(row: Row<'_>) -> Vec<String> {
    let known = |pointer: &str| match row.at(pointer).0 {
        Value::String(text) => text.clone(),
        _ => "(erased)".to_owned(),
    };
    let nodes = row.list("/nodes").map(|node| match node.text("/name") {
        name if name.is_empty() => node.text("/node"),
        name => format!("{name} ({})", node.text("/node")),
    });
    let nodes = nodes.collect::<Vec<_>>().join(", ");
    vec![row.text("/user"), known("/login"), known("/displayName"), nodes]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(&moment::document(LIST, None));
        [LIST, ADD, ERASE, REVEAL].into_iter().for_each(crate::contract::assert_fits);
    }
}
