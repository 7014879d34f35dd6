//! `writ nodes`: the endpoints of the network.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use writ_schema::net::Prefix;
use writ_schema::{NodeId, UserId};

use super::rows::{Row, fetch};
use super::{command_id, connect, recorded};
use crate::client::Client;
use crate::failure::advised;
use crate::moment::{self, AsOf};
use crate::{App, Verdict, confirm};

const LIST: &str = "query Nodes(
  $first: Int, $after: String, $asOf: AsOfInput, $node: ID, $owner: ID, $tag: String, $removed: Boolean!
) {
  nodes(first: $first, after: $after, asOf: $asOf, node: $node, owner: $owner, tag: $tag, withRemoved: $removed) {
    nodes {
      node name owner { user tags } addresses identityKey wireguardKey keyGeneration keySince enrolmentKey
      routes { prefix advertised approved } session { agent record { seq time } } removal
      record { seq time } removed { seq time }
    }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}";

const REMOVE: &str = "mutation RemoveNode($node: ID!, $command: ID) {
  removeNode(node: $node, commandId: $command) { command repeated recordCount records { seq time kind actor cause } }
}";

const APPROVE: &str = "mutation ApproveRoutes($node: ID!, $routes: [String!]!, $command: ID) {
  approveRoutes(node: $node, routes: $routes, commandId: $command) {
    command repeated recordCount records { seq time kind actor cause }
  }
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
  writ nodes approve office-gateway 10.20.0.0/16
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
    /// Let a node carry packets for prefixes behind it
    #[command(after_help = "\
Example:
  writ nodes approve office-gateway 10.20.0.0/16
  writ nodes approve exit-frankfurt 0.0.0.0/0,::/0")]
    Approve(Routes),
    /// End that, and cut what leads there
    #[command(after_help = "\
Example:
  writ nodes disapprove office-gateway 10.20.0.0/16")]
    Disapprove(Routes),
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

/// The routes of a node.
#[derive(Args)]
struct Routes {
    /// The node: its name or its identifier.
    #[arg(value_name = "ID|NAME")]
    node: String,
    /// The prefixes, such as 10.20.0.0/16; of an exit node 0.0.0.0/0 and ::/0.
    #[arg(required = true, value_name = "PREFIX", value_delimiter = ',')]
    routes: Vec<Prefix>,
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        None => list(&arguments.list, app),
        Some(Command::List(arguments)) => list(&arguments, app),
        Some(Command::Approve(arguments)) => approve(&arguments, app, true),
        Some(Command::Disapprove(arguments)) => approve(&arguments, app, false),
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
    let table =
        app.out.table(&["NODE", "NAME", "OWNER", "ADDRESS", "ROUTES", "STATE", "KEY", "JOINED"], rows);
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
        routes(row),
        state,
        row.text("/keyGeneration"),
        row.time("/record/time"),
    ]
}

/// What the node carries packets for; what waits for approval, or for the node to offer it, in brackets.
fn routes(row: Row<'_>) -> String {
    let all = row.list("/routes");
    let one = |route: Row<'_>| {
        let prefix = route.text("/prefix");
        if route.flag("/advertised") && route.flag("/approved") { prefix } else { format!("({prefix})") }
    };
    all.map(one).collect::<Vec<_>>().join(" ")
}

/// Adds to what a node may carry packets for, or takes from it.
fn approve(arguments: &Routes, app: &App, adds: bool) -> Result<Verdict> {
    let client = connect(app)?;
    let known = look_up(&client, &arguments.node, None)?;
    let node = Row(&known).text("/node");
    let approved = Row(&known).list("/routes").filter(|route| route.flag("/approved"));
    let mut wanted: BTreeSet<Prefix> =
        approved.filter_map(|route| route.text("/prefix").parse().ok()).collect();
    for route in &arguments.routes {
        if adds {
            wanted.insert(*route)
        } else {
            wanted.remove(route)
        };
    }
    let variables = json!({ "node": node, "routes": wanted, "command": command_id()? });
    let data = client.graphql_raw(APPROVE, variables)?;
    let done = Row(&data).at("/approveRoutes");
    let names: Vec<String> = wanted.iter().map(Prefix::to_string).collect();
    let now = if names.is_empty() { "nothing".to_owned() } else { names.join(" ") };
    app.out.show(&format!("{} may carry packets for {now}.\n{}", arguments.node, recorded(done)), done.0)?;
    Ok(Verdict::Good)
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
    let found = look_up(client, text, as_of)?;
    Row(&found).text("/node").parse().map_err(|_| unknown(text))
}

/// The row of a node that is meant by an identifier or a name. For a name all of them are looked through.
fn look_up(client: &Client, text: &str, as_of: Option<AsOf>) -> Result<Value> {
    let mut variables = variables(as_of, None, None, false);
    let id = text.parse::<NodeId>().ok();
    variables.insert("node".to_owned(), json!(id));
    let listing = fetch(client, &moment::document(LIST, as_of), "nodes", variables, MAX_LOOKED_THROUGH)?;
    let is_meant = |row: &Value| id.is_some() || Row(row).text("/name").eq_ignore_ascii_case(text);
    listing.rows.into_iter().find(is_meant).ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> anyhow::Error {
    advised(
        format!("no node is called `{text}`"),
        "`writ nodes` lists them; names of people's machines are shown to those who run the network only, others use \
         identifiers",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(&moment::document(LIST, None));
        [LIST, APPROVE, REMOVE].into_iter().for_each(crate::contract::assert_fits);
    }
}
