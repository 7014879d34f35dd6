//! `writ connections` and `writ denials`: what was allowed and refused.

use anyhow::Result;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use writ_schema::UserId;
use writ_schema::net::Protocol;

use super::reach::{acknowledged, ports, source};
use super::rows::{Row, fetch};
use super::{connect, nodes};
use crate::client::Client;
use crate::moment::{self, AsOf};
use crate::{App, Verdict};

const CONNECTIONS: &str = "query Connections(
  $first: Int, $after: String, $asOf: AsOfInput, $filter: ConnectionFilterInput
) {
  connections(first: $first, after: $after, asOf: $asOf, filter: $filter, newestFirst: true) {
    nodes {
      authorization chain renews source { node { ...node } user } destination { ...node } route protocol ports rule policy expiresAt
      live revocation acknowledgements { side action record { seq time } }
      reports { side reason bytesSent bytesReceived path record { seq time } }
      record { seq time kind } revoked { seq time }
    }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}
fragment node on NodeRef { node name owner { user tags } }";

const DENIALS: &str =
    "query Denials($first: Int, $after: String, $asOf: AsOfInput, $filter: DenialFilterInput) {
  denials(first: $first, after: $after, asOf: $asOf, filter: $filter, newestFirst: true) {
    nodes {
      source { node { ...node } user } address destination { ...node } protocol port reason policy count
      record { seq time kind }
    }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}
fragment node on NodeRef { node name owner { user tags } }";

/// List authorised connections and what became of them, newest first
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ connections --live
  writ connections --to production-database --since '1 day ago'")]
pub struct Connections {
    #[command(flatten)]
    which: Which,
    /// Only those in force at the moment.
    #[arg(long)]
    live: bool,
    /// Only by this protocol: tcp, udp, icmp or a number.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Only those that this port is among.
    #[arg(long)]
    port: Option<u16>,
}

/// List refused connections, newest first
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ denials --since '1 hour ago'
  writ denials --to production-database --reason no-rule")]
pub struct Denials {
    #[command(flatten)]
    which: Which,
    /// Only those that were refused for this reason.
    #[arg(long, value_enum)]
    reason: Option<Reason>,
}

#[derive(Args)]
struct Which {
    /// Only from this node: name or identifier.
    #[arg(long, value_name = "NAME|ID")]
    source: Option<String>,
    /// Only from nodes of this user.
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
    /// Only to this node: name or identifier.
    #[arg(long, value_name = "NAME|ID")]
    to: Option<String>,
    /// Only those from this time on.
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    since: Option<Timestamp>,
    /// Only those before this time.
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    until: Option<Timestamp>,
    /// The moment to look from: a time, or the number of a record; by default now.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
    /// Most rows that are shown.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// Why a connection was refused.
#[derive(Clone, Copy, ValueEnum)]
enum Reason {
    /// No policy is in force.
    NoPolicy,
    /// No rule allows it.
    NoRule,
    /// No node has the address.
    UnknownDestination,
    /// The destination's agent is not connected.
    DestinationOffline,
    /// The source has too many live authorizations.
    TooManyAuthorizations,
    /// The rule asks for a fresher sign-in.
    SignInTooOld,
    /// The rule asks for a sign-in with a second factor.
    MfaRequired,
    /// The rule asks for a posture that the device does not meet.
    PostureNotMet,
    /// The rule does not hold yet, or no longer.
    OutsideValidity,
}

impl Which {
    fn filter(&self, client: &Client) -> Result<Map<String, Value>> {
        let find = |text: &Option<String>| {
            text.as_deref().map(|text| nodes::find(client, text, self.as_of)).transpose()
        };
        let mut filter = Map::new();
        filter.insert("source".to_owned(), json!(find(&self.source)?));
        filter.insert("user".to_owned(), json!(self.user));
        filter.insert("destination".to_owned(), json!(find(&self.to)?));
        filter.insert("from".to_owned(), json!(self.since));
        filter.insert("to".to_owned(), json!(self.until));
        Ok(filter)
    }

    fn variables(&self, filter: Map<String, Value>) -> Map<String, Value> {
        let mut variables = Map::new();
        variables.insert("asOf".to_owned(), moment::argument(self.as_of));
        variables.insert("filter".to_owned(), Value::Object(filter));
        variables
    }
}

/// Lists authorizations.
pub fn connections(arguments: &Connections, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let mut filter = arguments.which.filter(&client)?;
    filter.insert("live".to_owned(), json!(arguments.live));
    filter.insert("protocol".to_owned(), json!(arguments.protocol));
    filter.insert("port".to_owned(), json!(arguments.port));
    let variables = arguments.which.variables(filter);
    let listing = fetch(&client, CONNECTIONS, "connections", variables, arguments.which.limit)?;
    let rows = listing.rows.iter().map(|row| connection(Row(row))).collect();
    let header = ["RECORD", "TIME", "FROM", "TO", "PROTOCOL", "PORTS", "RULE", "STATE", "AGENTS"];
    let table = app.out.table(&header, rows);
    app.out.show(&format!("{table}\n{}", listing.basis()), &listing.value("connections"))?;
    Ok(Verdict::Good)
}

/// The node, or what is meant behind it.
fn destination(row: Row<'_>) -> String {
    let (node, route) = (row.node("/destination"), row.text("/route"));
    if route.is_empty() { node } else { format!("{route} through {node}") }
}

fn connection(row: Row<'_>) -> Vec<String> {
    let state = if row.at("/revoked").is_some() {
        format!("revoked: {} (record {})", row.word("/revocation"), row.text("/revoked/seq"))
    } else if row.flag("/live") {
        format!("live until {}", row.time("/expiresAt"))
    } else {
        format!("ended {}", row.time("/expiresAt"))
    };
    vec![
        row.text("/record/seq"),
        row.time("/record/time"),
        source(row),
        destination(row),
        row.text("/protocol"),
        ports(row),
        format!("{} of version {}", row.text("/rule"), row.text("/policy")),
        state,
        acknowledged(row),
    ]
}

/// Lists denials.
pub fn denials(arguments: &Denials, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let mut filter = arguments.which.filter(&client)?;
    let reason = arguments.reason.map(|reason| match reason {
        Reason::NoPolicy => "NO_POLICY",
        Reason::NoRule => "NO_RULE",
        Reason::UnknownDestination => "UNKNOWN_DESTINATION",
        Reason::DestinationOffline => "DESTINATION_OFFLINE",
        Reason::TooManyAuthorizations => "TOO_MANY_AUTHORIZATIONS",
        Reason::SignInTooOld => "SIGN_IN_TOO_OLD",
        Reason::MfaRequired => "MFA_REQUIRED",
        Reason::PostureNotMet => "POSTURE_NOT_MET",
        Reason::OutsideValidity => "OUTSIDE_VALIDITY",
    });
    filter.insert("reason".to_owned(), json!(reason));
    let variables = arguments.which.variables(filter);
    let listing = fetch(&client, DENIALS, "denials", variables, arguments.which.limit)?;
    let rows = listing.rows.iter().map(|row| denial(Row(row))).collect();
    let header = ["RECORD", "TIME", "FROM", "TO", "PROTOCOL", "PORT", "REASON", "POLICY", "TIMES"];
    let table = app.out.table(&header, rows);
    app.out.show(&format!("{table}\n{}", listing.basis()), &listing.value("denials"))?;
    Ok(Verdict::Good)
}

fn denial(row: Row<'_>) -> Vec<String> {
    let destination = row.at("/destination");
    let address = row.text("/address");
    vec![
        row.text("/record/seq"),
        row.time("/record/time"),
        source(row),
        if destination.is_some() { format!("{} {address}", row.node("/destination")) } else { address },
        row.text("/protocol"),
        row.text("/port"),
        row.word("/reason"),
        row.text("/policy"),
        row.text("/count"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        [CONNECTIONS, DENIALS].into_iter().for_each(crate::contract::assert_fits);
    }
}
