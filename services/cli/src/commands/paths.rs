//! `writ paths` and `writ blast-radius`: ways over time, and over several hops.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use writ_schema::net::Protocol;
use writ_schema::{NodeId, UserId};

use super::connect;
use super::reach::ports;
use super::rows::Row;
use crate::moment::{self, AsOf};
use crate::{App, Verdict};

const PATHS: &str = "query Paths(
  $from: EndInput!, $to: EndInput!, $since: Timestamp!, $until: Timestamp, $protocol: String, $port: Int
) {
  paths(from: $from, to: $to, since: $since, until: $until, protocol: $protocol, port: $port) {
    asOf { seq size time }
    paths {
      source { ...node } destination { ...node } route protocol ports conditions rule ruleText policy
      since opened { seq time kind } until closed { seq time kind }
    }
    lookedUntil truncated
  }
}
fragment node on NodeRef { node name owner { user tags } }";

const BLAST_RADIUS: &str = "query BlastRadius(
  $from: NodeInput!, $hops: Int!, $protocol: String, $port: Int, $asOf: AsOfInput
) {
  blastRadius(from: $from, hops: $hops, protocol: $protocol, port: $port, asOf: $asOf) {
    asOf { seq size time } node { ...node } policy { version }
    reached { hop node { ...node } through { ...node } protocol ports conditions rule ruleText }
    truncated
  }
}
fragment node on NodeRef { node name owner { user tags } }";

/// Show which ways were open between two ends during a period, since when and until when
///
/// An end is a tag, a user, or a node by name or identifier. A way that was open for a minute is shown too.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ paths --from tag:staging --to tag:database --since 2026-03-01
  writ paths --from usr_… --to production-database --since '2026-03-14 09:00' --until '2026-03-14 17:00'")]
pub struct Paths {
    /// Where the way begins: a tag, a user's pseudonym, or a node.
    #[arg(long, value_name = "TAG|USER|NODE")]
    from: String,
    /// Where it ends.
    #[arg(long, value_name = "TAG|USER|NODE")]
    to: String,
    /// The beginning of the period.
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    since: Timestamp,
    /// The end of the period; by default now.
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    until: Option<Timestamp>,
    /// Only by this protocol: tcp, udp, icmp or a number.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Only on this port.
    #[arg(long)]
    port: Option<u16>,
}

/// Show what can be reached from a node over several hops
///
/// What somebody who has taken the node over could go on to, if every node on the way were taken over too.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ blast-radius staging-cluster --hops 3")]
pub struct BlastRadius {
    /// The node: its name at that moment, or its identifier.
    #[arg(value_name = "NAME|ID")]
    node: String,
    /// How many hops are followed.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    hops: u8,
    /// Only by this protocol: tcp, udp, icmp or a number.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Only on this port.
    #[arg(long)]
    port: Option<u16>,
    /// The moment to look at: a time, or the number of a record; by default now.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
}

/// Asks for the ways of a period.
pub fn paths(arguments: &Paths, app: &App) -> Result<Verdict> {
    let variables = json!({
        "from": end(&arguments.from), "to": end(&arguments.to), "since": arguments.since, "until": arguments.until,
        "protocol": arguments.protocol, "port": arguments.port,
    });
    let data = connect(app)?.graphql_raw(PATHS, variables)?;
    let found = Row(&data).at("/paths");
    let rows: Vec<Vec<String>> = found.list("/paths").map(path).collect();
    let mut text = if rows.is_empty() {
        "No such way was open at any time of the period.\n".to_owned()
    } else {
        let header =
            ["FROM", "TO", "BEHIND IT", "PROTOCOL", "PORTS", "IF", "RULE", "SINCE", "UNTIL", "RECORDS"];
        format!("{}\n", app.out.table(&header, rows))
    };
    if found.flag("/truncated") {
        text.push_str(&format!(
            "\nThe answer was cut: everything was looked at up to {}. Ask about a shorter period or fewer nodes.\n",
            found.time("/lookedUntil")
        ));
    }
    app.out.show(&text, found.0)?;
    Ok(Verdict::Good)
}

fn path(row: Row<'_>) -> Vec<String> {
    let was_open = if row.at("/opened").is_some() { "" } else { " or before" };
    let until = if row.at("/until").is_some() { row.time("/until") } else { "still open".to_owned() };
    let records: Vec<String> = ["/opened/seq", "/closed/seq"]
        .iter()
        .filter_map(|pointer| row.number(pointer))
        .map(|seq| seq.to_string())
        .collect();
    vec![
        row.node("/source"),
        row.node("/destination"),
        row.text("/route"),
        row.text("/protocol"),
        ports(row),
        row.text("/conditions"),
        format!("{} of version {}", row.text("/rule"), row.text("/policy")),
        format!("{}{was_open}", row.time("/since")),
        until,
        records.join(", "),
    ]
}

/// An end as the API takes it.
fn end(text: &str) -> Value {
    if text.starts_with("tag:") {
        json!({ "tag": text })
    } else if text.parse::<UserId>().is_ok() {
        json!({ "user": text })
    } else if text.parse::<NodeId>().is_ok() {
        json!({ "node": text })
    } else {
        json!({ "name": text })
    }
}

/// Asks how far one goes from a node.
pub fn blast_radius(arguments: &BlastRadius, app: &App) -> Result<Verdict> {
    let variables = json!({
        "from": node(&arguments.node), "hops": arguments.hops, "protocol": arguments.protocol, "port": arguments.port,
        "asOf": moment::argument(arguments.as_of),
    });
    let document = moment::document(BLAST_RADIUS, arguments.as_of);
    let data = connect(app)?.graphql_raw(&document, variables)?;
    let found = Row(&data).at("/blastRadius");
    let rows: Vec<Vec<String>> = found.list("/reached").map(hop).collect();
    let count = rows.len();
    let mut text = match count {
        0 => format!("{} reaches nobody.\n", found.node("/node")),
        _ => {
            let header = ["HOP", "NODE", "THROUGH", "PROTOCOL", "PORTS", "IF", "RULE"];
            format!(
                "From {}, within {} hops:\n{}\n",
                found.node("/node"),
                arguments.hops,
                app.out.table(&header, rows)
            )
        }
    };
    if found.flag("/truncated") {
        text.push_str("\nThe list was cut: ask by protocol and port, or for fewer hops.\n");
    }
    app.out.show(&text, found.0)?;
    Ok(Verdict::Good)
}

fn hop(row: Row<'_>) -> Vec<String> {
    vec![
        row.text("/hop"),
        row.node("/node"),
        row.node("/through"),
        row.text("/protocol"),
        ports(row),
        row.text("/conditions"),
        row.text("/rule"),
    ]
}

/// A node as the API takes it.
fn node(text: &str) -> Value {
    match text.parse::<NodeId>() {
        Ok(node) => json!({ "node": node }),
        Err(_) => json!({ "name": text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        [PATHS, BLAST_RADIUS].into_iter().for_each(crate::contract::assert_fits);
        crate::contract::assert_fits(&moment::document(BLAST_RADIUS, None));
    }

    #[test]
    fn ends_are_told_apart_by_their_form() {
        assert_eq!(end("tag:web"), json!({ "tag": "tag:web" }));
        assert_eq!(end("web"), json!({ "name": "web" }));
        let user = UserId::from_bytes([1; 16]);
        assert_eq!(end(user.as_str()), json!({ "user": user }));
    }
}
