//! `writ nodes`: the endpoints of the network.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use writ_schema::{NodeId, UserId};

use super::rows::{Row, fetch};
use super::{command_id, connect, recorded};
use crate::client::Client;
use crate::failure::advised;
use crate::moment::{self, AsOf};
use crate::{App, Verdict, confirm};

const LIST: &str = "query Nodes($first: Int, $after: String, $asOf: AsOfInput, $owner: ID, $tag: String, $removed: Boolean!) {
  nodes(first: $first, after: $after, asOf: $asOf, owner: $owner, tag: $tag, withRemoved: $removed) {
    nodes {
      node name owner { user tags } addresses identityKey wireguardKey keyGeneration keySince enrolmentKey
      session { agent record { seq time } } removal
      record { seq time } removed { seq time }
    }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}";

const REMOVE: &str = "mutation RemoveNode($node: ID!, $command: ID) {
  removeNode(node: $node, commandId: $command) { command repeated recordCount records { seq time kind actor cause } }
}";

/// Most rows that are looked through for a name.
const MAX_LOOKED_THROUGH: usize = 100_000;

/// List and remove nodes
///
/// Without a command, the nodes are listed.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  writ nodes
  writ nodes --tag tag:prod --as-of '2026-03-14 10:02'
  writ nodes remove staging-cluster"
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
    Remove(Remove),
}

/// List the nodes
#[derive(Args)]
#[command(after_help = "\
Example:
  writ nodes list --as-of 2026-03-14T10:02:00Z")]
struct List {
    /// The moment to look at: a time, or the number of a record.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
    /// Only nodes of this user.
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
    /// Only nodes with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Those that were removed as well.
    #[arg(long)]
    removed: bool,
    /// Most rows that are shown.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// Take a node out of the network and cut its connections
#[derive(Args)]
#[command(after_help = "\
Example:
  writ nodes remove staging-cluster")]
struct Remove {
    /// The node: its name or its identifier.
    #[arg(value_name = "ID|NAME")]
    node: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        None => list(&arguments.list, app),
        Some(Command::List(arguments)) => list(&arguments, app),
        Some(Command::Remove(arguments)) => remove(&arguments, app),
    }
}

fn list(arguments: &List, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let variables =
        variables(arguments.as_of, arguments.user.as_ref(), arguments.tag.as_deref(), arguments.removed);
    let listing =
        fetch(&client, &moment::document(LIST, arguments.as_of), "nodes", variables, arguments.limit)?;
    let rows = listing.rows.iter().map(|row| cells(Row(row))).collect();
    let table = app.out.table(&["NODE", "NAME", "OWNER", "ADDRESS", "STATE", "KEY", "JOINED"], rows);
    app.out.show(&format!("{table}\n{}", listing.basis()), &listing.value("nodes"))?;
    Ok(Verdict::Good)
}

fn variables(
    as_of: Option<AsOf>,
    user: Option<&UserId>,
    tag: Option<&str>,
    removed: bool,
) -> Map<String, Value> {
    let mut variables = Map::new();
    variables.insert("asOf".to_owned(), moment::argument(as_of));
    variables.insert("owner".to_owned(), json!(user));
    variables.insert("tag".to_owned(), json!(tag));
    variables.insert("removed".to_owned(), json!(removed));
    variables
}

fn cells(row: Row<'_>) -> Vec<String> {
    let state = if row.at("/removed").is_some() {
        format!("removed ({})", row.word("/removal"))
    } else if row.at("/session").is_some() {
        "connected".to_owned()
    } else {
        "away".to_owned()
    };
    vec![
        row.text("/node"),
        row.text("/name"),
        row.owner("/owner"),
        row.text("/addresses/0"),
        state,
        row.text("/keyGeneration"),
        row.time("/record/time"),
    ]
}

fn remove(arguments: &Remove, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let node = find(&client, &arguments.node, None)?;
    let question = format!("Remove {} ({node}) and cut its connections?", arguments.node);
    if !confirm::agreed_or_scripted(app, &question, arguments.yes)? {
        return Ok(Verdict::Bad);
    }
    let data = client.graphql_raw(REMOVE, json!({ "node": node, "command": command_id()? }))?;
    let done = Row(&data).at("/removeNode");
    app.out.show(&format!("{node} is removed.\n{}", recorded(done)), done.0)?;
    Ok(Verdict::Good)
}

/// The node that is meant by an identifier or a name.
pub fn find(client: &Client, text: &str, as_of: Option<AsOf>) -> Result<NodeId> {
    if let Ok(node) = text.parse() {
        return Ok(node);
    }
    let variables = variables(as_of, None, None, false);
    let listing = fetch(client, &moment::document(LIST, as_of), "nodes", variables, MAX_LOOKED_THROUGH)?;
    let named = |row: &&Value| Row(row).text("/name").eq_ignore_ascii_case(text);
    let found = listing.rows.iter().find(named).and_then(|row| Row(row).text("/node").parse().ok());
    found.ok_or_else(|| {
        advised(
            format!("no node is called `{text}`"),
            "`writ nodes` lists them; names of people's machines are shown to those who run the network only, others use \
             identifiers",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(&moment::document(LIST, None));
        [LIST, REMOVE].into_iter().for_each(crate::contract::assert_fits);
    }
}
