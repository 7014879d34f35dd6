//! What a policy change does: asked of the server, and shown to people.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::Client;
use crate::client_error::ClientError;
use crate::commands::rows::Row;
use crate::failure::advised;
use crate::output::{Paint, counted, printable};

const DIFFERENCE: &str = "query PolicyDifference($text: String!) {
  policyDifference(text: $text) {
    asOf { seq size time } base acceptable allowsEverything failedTests tests gainedCount lostCount connectionsCutCount
    gained { ...permission } lost { ...permission }
    connectionsCut {
      authorization source { node { ...node } user } destination { ...node } protocol ports rule expiresAt record { seq }
    }
  }
}
fragment permission on Permission { source { ...node } destination { ...node } protocol ports conditions }
fragment node on NodeRef { node name owner { user tags } }";

/// Asks what a policy would change.
pub fn ask(client: &Client, text: &str) -> Result<Value> {
    let data = client.graphql_raw(DIFFERENCE, json!({ "text": text })).map_err(not_readable)?;
    Ok(data.pointer("/policyDifference").cloned().unwrap_or_default())
}

/// A policy that the server cannot read is best looked at here, where the line can be shown.
fn not_readable(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(ClientError::Refused { code, message }) if code == "BAD_INPUT" => advised(
            format!("the policy cannot be put in force: {message}"),
            "`writ policy check FILE` shows the place; people have to be added with `writ users add` first",
        ),
        _ => error,
    }
}

/// Whether it could be put in force.
pub fn is_acceptable(difference: &Value) -> bool {
    Row(difference).flag("/acceptable")
}

/// Whether the file says nothing of access, and nothing else is wrong with it.
pub fn is_everything(difference: &Value) -> bool {
    let row = Row(difference);
    row.flag("/allowsEverything") && row.list("/failedTests").next().is_none()
}

/// Whether anything would change for anybody.
pub fn is_empty(difference: &Value) -> bool {
    let difference = Row(difference);
    ["/gainedCount", "/lostCount", "/connectionsCutCount"]
        .iter()
        .all(|count| difference.number(count).unwrap_or(0) == 0)
}

/// The difference in words: what is gained and lost, by pairs of owners, and what is cut.
pub fn text(difference: &Value, paint: Paint) -> String {
    let row = Row(difference);
    let base = row.number("/base").map_or("no policy".to_owned(), |version| format!("version {version}"));
    let mut text = format!("Compared with {base}, for the nodes of now:\n");
    for (pointer, count, sign, title) in
        [("/gained", "/gainedCount", '+', "Gained"), ("/lost", "/lostCount", '-', "Lost")]
    {
        let count = row.number(count).unwrap_or(0);
        if count > 0 {
            text.push_str(&format!("\n{title} ({}):\n", counted(count, "permission")));
            let groups = grouped(row.list(pointer));
            for line in &groups {
                let line = format!("  {sign} {}", printable(line));
                let line = if sign == '+' { paint.green(&line) } else { paint.red(&line) };
                text.push_str(&format!("{line}\n"));
            }
            let listed = row.list(pointer).count() as u64;
            if count > listed {
                text.push_str(&format!("  and {} more\n", count - listed));
            }
        }
    }
    text.push_str(&cut(row, paint));
    if is_empty(difference) {
        text.push_str("\nNothing changes: every pair of nodes may reach what it could before.\n");
    }
    if row.flag("/allowsEverything") {
        let words = "the file has neither \"acls\" nor \"grants\", which allows everything to everybody; it is put in force \
                     with --allow-everything only";
        text.push_str(&format!("\n{} {words}\n", paint.red("everything is allowed:")));
    }
    let failed: Vec<String> = row.list("/failedTests").map(|test| test.text("")).collect();
    for test in &failed {
        text.push_str(&format!("\n{} {}", paint.red("test failed:"), printable(test)));
    }
    let tests = row.number("/tests").unwrap_or(0);
    if failed.is_empty() && tests > 0 {
        text.push_str(&format!("\n{} of the file: every one holds.\n", counted(tests, "test")));
    }
    text
}

fn cut(row: Row<'_>, paint: Paint) -> String {
    let count = row.number("/connectionsCutCount").unwrap_or(0);
    if count == 0 {
        return String::new();
    }
    let mut text = format!("\nCut at once ({}):\n", counted(count, "live connection"));
    for connection in row.list("/connectionsCut") {
        let source = if connection.at("/source").is_some() {
            connection.node("/source/node")
        } else {
            "(sealed)".to_owned()
        };
        let line = format!(
            "  ! {source} -> {}: {} {} by {} (record {})",
            connection.node("/destination"),
            connection.text("/protocol"),
            connection.text("/ports"),
            connection.text("/rule"),
            connection.text("/record/seq"),
        );
        text.push_str(&format!("{}\n", paint.red(&printable(&line))));
    }
    text
}

/// One line for each pair of nodes, with everything that changes between them.
fn grouped<'a>(permissions: impl Iterator<Item = Row<'a>>) -> Vec<String> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for permission in permissions {
        let pair = format!("{} -> {}", permission.node("/source"), permission.node("/destination"));
        let mut service = service(&permission.text("/protocol"), &permission.text("/ports"));
        if permission.at("/conditions").is_some() {
            service.push_str(&format!(" if {}", permission.text("/conditions")));
        }
        match groups.iter_mut().find(|(known, _)| *known == pair) {
            Some((_, services)) if services.contains(&service) => {}
            Some((_, services)) => services.push(service),
            None => groups.push((pair, vec![service])),
        }
    }
    groups.into_iter().map(|(pair, services)| format!("{pair}: {}", services.join(", "))).collect()
}

/// A protocol with its ports, in as few words as say it.
fn service(protocol: &str, ports: &str) -> String {
    match ports {
        "0" | "" => protocol.to_owned(),
        "0-65535" => format!("{protocol} every port"),
        ports => format!("{protocol} {ports}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        [DIFFERENCE].into_iter().for_each(crate::contract::assert_fits);
    }

    fn node(id: &str, tag: &str) -> Value {
        json!({ "node": id, "name": id, "owner": { "user": null, "tags": [tag] } })
    }

    #[test]
    fn changes_are_grouped_by_pair_and_cuts_are_named() {
        let permission = |ports: &str| {
            json!({
                "source": node("laptop", "tag:dev"), "destination": node("db", "tag:prod"), "protocol": "tcp", "ports": ports,
            })
        };
        let difference = json!({
            "base": 3, "acceptable": true, "tests": 2, "failedTests": [], "gainedCount": 0, "gained": [],
            "lostCount": 3, "lost": [permission("22"), permission("5432")], "connectionsCutCount": 1,
            "connectionsCut": [{
                "source": null, "destination": node("db", "tag:prod"), "protocol": "tcp", "ports": "22", "rule": "acls[0]",
                "record": { "seq": 41 },
            }],
        });
        let text = text(&difference, Paint::for_stream(false));
        assert!(
            text.contains("  - laptop (tag:dev) -> db (tag:prod): tcp 22, tcp 5432\n  and 1 more"),
            "{text}"
        );
        assert!(text.contains("  ! (sealed) -> db (tag:prod): tcp 22 by acls[0] (record 41)"), "{text}");
        assert!(text.contains("2 tests of the file") && !text.contains("Nothing changes"), "{text}");
    }
}
