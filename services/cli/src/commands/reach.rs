//! `writ who-can-reach` and `writ reach`: who could, who was allowed, who did.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use writ_schema::NodeId;
use writ_schema::net::Protocol;

use super::connect;
use super::rows::Row;
use crate::moment::{self, AsOf};
use crate::output::{bytes, printable};
use crate::{App, Verdict};

/// What both questions have in common, after the field's name.
const ACCESS: &str = "asOf { seq size time checkpoint { origin size root note } }
    knownBy { seq size time }
    node { ...node }
    policy { version proposedBy activatedBy proposed { ...record } record { ...record } }
    couldReach {
      source { ...node } destination { ...node } route protocol ports rule ruleText conditions policy record { ...record }
    }
    authorized {
      authorization chain renews source { node { ...node } user } destination { ...node } route protocol ports rule policy expiresAt
      revocation acknowledgements { side action record { ...record } } record { ...record } revoked { ...record }
    }
    talked {
      source { node { ...node } user } destination { ...node }
      report { authorization side reason bytesSent bytesReceived path record { ...record } }
    }
    truncated limits
  }
}
fragment node on NodeRef { node name owner { user tags } }
fragment record on Record { seq time kind }";

/// Show who could reach a node at a moment, by which rule, who was authorised, and who did
///
/// Three levels that are never mixed: what the policy permitted, what was authorised, and what the agents reported.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ who-can-reach production-database
  writ who-can-reach production-database --protocol tcp --port 5432 --as-of '2026-03-14 10:02'")]
pub struct WhoCanReach {
    #[command(flatten)]
    question: Question,
}

/// Show what a node could reach at a moment, by which rule, what it was authorised to, and what it did
#[derive(Args)]
#[command(after_help = "\
Example:
  writ reach nod_… --as-of '2026-03-14 10:02'")]
pub struct Reach {
    #[command(flatten)]
    question: Question,
}

#[derive(Args)]
struct Question {
    /// The node: its name at that moment, or its identifier.
    #[arg(value_name = "NAME|ID")]
    node: String,
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

/// Asks who can reach a node.
pub fn who_can_reach(arguments: &WhoCanReach, app: &App) -> Result<Verdict> {
    ask(app, &arguments.question, "whoCouldReach", "to")
}

/// Asks what a node can reach.
pub fn reach(arguments: &Reach, app: &App) -> Result<Verdict> {
    ask(app, &arguments.question, "reach", "from")
}

fn ask(app: &App, question: &Question, field: &str, end: &str) -> Result<Verdict> {
    let node = match question.node.parse::<NodeId>() {
        Ok(node) => json!({ "node": node }),
        Err(_) => json!({ "name": question.node }),
    };
    let variables = json!({
        "node": node, "protocol": question.protocol, "port": question.port, "asOf": moment::argument(question.as_of),
    });
    let data = connect(app)?.graphql_raw(&document(field, end), variables)?;
    let access = Row(&data).at(&format!("/{field}"));
    app.out.show(&text(app, access), access.0)?;
    Ok(Verdict::Good)
}

fn document(field: &str, end: &str) -> String {
    format!(
        "query Access($node: NodeInput!, $protocol: String, $port: Int, $asOf: AsOfInput) {{
  {field}({end}: $node, protocol: $protocol, port: $port, asOf: $asOf) {{
    {ACCESS}"
    )
}

fn text(app: &App, access: Row<'_>) -> String {
    let policy = access.at("/policy");
    let policy = if policy.is_some() {
        format!(
            "Policy version {} was in force since {} (record {}); proposed by {}, put in force by {}.",
            policy.text("/version"),
            policy.time("/record/time"),
            policy.text("/record/seq"),
            policy.text("/proposedBy"),
            policy.text("/activatedBy"),
        )
    } else {
        "No policy was in force: nobody could reach anything.".to_owned()
    };
    let mut text = format!(
        "{} at {} (as of record {})\n{policy}\n",
        access.node("/node"),
        access.time("/asOf/time"),
        access.text("/asOf/seq"),
    );
    text.push_str(&section(
        app,
        "Could reach: what the policy permitted",
        &["FROM", "TO", "BEHIND IT", "PROTOCOL", "PORTS", "RULE", "IF"],
        access.list("/couldReach").map(could),
    ));
    text.push_str(&section(
        app,
        "Was authorised: permissions in force at that moment",
        &["FROM", "TO", "BEHIND IT", "PROTOCOL", "PORTS", "RULE", "UNTIL", "AGENTS", "RECORD"],
        access.list("/authorized").map(authorized),
    ));
    text.push_str(&section(
        app,
        "Did talk: what agents reported of these connections",
        &["FROM", "TO", "SAYS", "SENT", "RECEIVED", "PATH", "ENDED", "RECORD"],
        access.list("/talked").map(talked),
    ));
    if access.flag("/truncated") {
        text.push_str("\nThe lists were cut: ask by protocol and port.\n");
    }
    let limits: String =
        access.list("/limits").map(|limit| format!("  - {}\n", printable(&limit.text("")))).collect();
    if !limits.is_empty() {
        text.push_str(&format!("\nWhat this does not say:\n{limits}"));
    }
    text
}

fn section(app: &App, title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return format!("\n{title}\n  nobody\n");
    }
    format!("\n{title}\n{}\n", app.out.table(header, rows))
}

fn could(row: Row<'_>) -> Vec<String> {
    vec![
        row.node("/source"),
        row.node("/destination"),
        row.text("/route"),
        row.text("/protocol"),
        ports(row),
        row.text("/rule"),
        row.text("/conditions"),
    ]
}

fn authorized(row: Row<'_>) -> Vec<String> {
    vec![
        source(row),
        row.node("/destination"),
        row.text("/route"),
        row.text("/protocol"),
        ports(row),
        format!("{} of version {}", row.text("/rule"), row.text("/policy")),
        row.time("/expiresAt"),
        acknowledged(row),
        row.text("/record/seq"),
    ]
}

/// Which ends have said that they carried it out.
pub fn acknowledged(row: Row<'_>) -> String {
    let said = |ack: Row<'_>| format!("{} {}", ack.word("/side"), ack.word("/action"));
    let said: Vec<String> = row.list("/acknowledgements").map(said).collect();
    if said.is_empty() { "silent".to_owned() } else { said.join(", ") }
}

fn talked(row: Row<'_>) -> Vec<String> {
    let report = row.at("/report");
    vec![
        source(row),
        row.node("/destination"),
        report.word("/side"),
        bytes(report.number("/bytesSent").unwrap_or(0)),
        bytes(report.number("/bytesReceived").unwrap_or(0)),
        report.word("/path"),
        report.word("/reason"),
        report.text("/record/seq"),
    ]
}

/// Where a connection came from, if that is still readable.
pub fn source(row: Row<'_>) -> String {
    if matches!(row.at("/source").0, Value::Null) { "(sealed)".to_owned() } else { row.node("/source/node") }
}

/// Ports in the words of people.
pub fn ports(row: Row<'_>) -> String {
    match row.text("/ports").as_str() {
        "0" | "" => String::new(),
        "0-65535" => "every".to_owned(),
        ports => ports.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(&document("whoCouldReach", "to"));
        crate::contract::assert_fits(&document("reach", "from"));
    }
}
