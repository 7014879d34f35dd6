//! `writ admins`: who may run the network.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, json};
use writ_schema::AdminId;

use super::rows::{Row, fetch};
use super::{command_id, connect, recorded};
use crate::moment::{self, AsOf};
use crate::{App, Verdict, confirm};

const LIST: &str = "query Admins($first: Int, $after: String, $asOf: AsOfInput) {
  admins(first: $first, after: $after, asOf: $asOf) {
    nodes { admin role name record { seq time } revoked { seq time } }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}";

const CREATE: &str = "mutation CreateAdmin($name: String!, $role: Role!, $command: ID) {
  createAdmin(name: $name, role: $role, commandId: $command) {
    admin secret done { command repeated recordCount records { seq time kind actor cause } }
  }
}";

const REVOKE: &str = "mutation RevokeAdmin($admin: ID!, $command: ID) {
  revokeAdmin(admin: $admin, commandId: $command) { command repeated recordCount records { seq time kind actor cause } }
}";

/// Add, list and revoke administrators and auditors
///
/// Without a command, they are listed.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  writ admins
  writ admins add --name 'Grace Hopper' --role auditor"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Command {
    Add(Add),
    List(List),
    Revoke(Revoke),
}

/// What an administrator may do; each may do what the ones after it may.
#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Everything, administrators included.
    Owner,
    /// Users, nodes, keys and policy.
    Admin,
    /// Nodes, keys and policy.
    NetworkAdmin,
    /// Reads everything, changes nothing.
    Auditor,
    /// Reads the present state.
    Viewer,
}

/// Make an administrator and show their secret once
#[derive(Args)]
#[command(after_help = "\
Example:
  writ admins add --name 'Grace Hopper' --role auditor")]
struct Add {
    /// Name for people.
    #[arg(long)]
    name: String,
    /// What they may do.
    #[arg(long, value_enum)]
    role: Role,
}

/// List the administrators
#[derive(Args)]
#[command(after_help = "\
Example:
  writ admins list --as-of 2026-03-14")]
struct List {
    /// The moment to look at: a time, or the number of a record.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
    /// Most rows that are shown.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// End an administrator's rights and tokens
#[derive(Args)]
#[command(after_help = "\
Example:
  writ admins revoke adm_…")]
struct Revoke {
    /// Who.
    #[arg(value_name = "ID")]
    admin: AdminId,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        None => list(&arguments.list, app),
        Some(Command::Add(arguments)) => add(&arguments, app),
        Some(Command::List(arguments)) => list(&arguments, app),
        Some(Command::Revoke(arguments)) => revoke(&arguments, app),
    }
}

fn add(arguments: &Add, app: &App) -> Result<Verdict> {
    let role = match arguments.role {
        Role::Owner => "OWNER",
        Role::Admin => "ADMIN",
        Role::NetworkAdmin => "NETWORK_ADMIN",
        Role::Auditor => "AUDITOR",
        Role::Viewer => "VIEWER",
    };
    let variables = json!({ "name": arguments.name, "role": role, "command": command_id()? });
    let data = connect(app)?.graphql_raw(CREATE, variables)?;
    let made = Row(&data).at("/createAdmin");
    let text = format!(
        "Administrator  {}\nSecret         {}\n\nThe secret is shown this once: hand it over by a safe way. They sign in with:\n  \
         writ login --admin {}\n{}",
        made.text("/admin"),
        made.text("/secret"),
        made.text("/admin"),
        recorded(made.at("/done")),
    );
    app.out.show(&text, made.0)?;
    Ok(Verdict::Good)
}

fn list(arguments: &List, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let mut variables = Map::new();
    variables.insert("asOf".to_owned(), moment::argument(arguments.as_of));
    let listing =
        fetch(&client, &moment::document(LIST, arguments.as_of), "admins", variables, arguments.limit)?;
    let cells = |row: Row<'_>| {
        vec![
            row.text("/admin"),
            row.word("/role"),
            row.text("/name"),
            row.time("/record/time"),
            row.time("/revoked/time"),
        ]
    };
    let rows = listing.rows.iter().map(|row| cells(Row(row))).collect();
    let table = app.out.table(&["ADMINISTRATOR", "ROLE", "NAME", "SINCE", "REVOKED"], rows);
    app.out.show(&format!("{table}\n{}", listing.basis()), &listing.value("admins"))?;
    Ok(Verdict::Good)
}

fn revoke(arguments: &Revoke, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let question = format!("End the rights and tokens of {}?", arguments.admin);
    if !confirm::agreed_or_scripted(app, &question, arguments.yes)? {
        return Ok(Verdict::Bad);
    }
    let data = client.graphql_raw(REVOKE, json!({ "admin": arguments.admin, "command": command_id()? }))?;
    let done = Row(&data).at("/revokeAdmin");
    app.out.show(&format!("{} may do nothing any more.\n{}", arguments.admin, recorded(done)), done.0)?;
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(&moment::document(LIST, None));
        [LIST, CREATE, REVOKE].into_iter().for_each(crate::contract::assert_fits);
    }
}
