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
    gainedByIdentityCount gainedByIdentity { ...alike } lostByIdentityCount lostByIdentity { ...alike }
    connectionsCut {
      authorization source { node { ...node } user } destination { ...node } protocol ports rule expiresAt record { seq }
    }
  }
}
fragment alike on IdentityChange { source { ...node } destination { ...node } services pairs }
fragment permission on Permission { source { ...node } destination { ...node } route protocol ports conditions }
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

/// The difference in words: what is gained and lost, by identity, and what is cut.
pub fn text(difference: &Value, paint: Paint) -> String {
    let row = Row(difference);
    let base = row.number("/base").map_or("no policy".to_owned(), |version| format!("version {version}"));
    let mut text = format!("Compared with {base}, for the nodes of now:\n");
    for (kind, sign, title) in [("gained", '+', "Gained"), ("lost", '-', "Lost")] {
        let count = row.number(&format!("/{kind}Count")).unwrap_or(0);
        if count == 0 {
            continue;
        }
        text.push_str(&format!("\n{title} ({}):\n", counted(count, "permission")));
        let groups = format!("/{kind}ByIdentity");
        for change in row.list(&groups) {
            let line = format!("  {sign} {}", printable(&alike(change)));
            let line = if sign == '+' { paint.green(&line) } else { paint.red(&line) };
            text.push_str(&format!("{line}\n"));
        }
        let listed = row.list(&groups).count() as u64;
        let more = row.number(&format!("{groups}Count")).unwrap_or(0).saturating_sub(listed);
        if more > 0 {
            text.push_str(&format!("  and {more} more\n"));
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

/// What changes for nodes of two identities. A single pair of nodes is named.
fn alike(change: Row<'_>) -> String {
    let pairs = change.number("/pairs").unwrap_or(0);
    let services = change.text("/services");
    if pairs == 1 {
        return format!("{} -> {}: {services}", change.node("/source"), change.node("/destination"));
    }
    let (source, destination) = (change.owner("/source/owner"), change.owner("/destination/owner"));
    format!("{source} -> {destination}: {services} ({pairs} pairs of nodes)")
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
    fn changes_are_grouped_by_identity_and_cuts_are_named() {
        let change = |services: &str, pairs: u64| {
            json!({
                "source": node("laptop", "tag:dev"), "destination": node("db", "tag:prod"), "services": services, "pairs": pairs,
            })
        };
        let difference = json!({
            "base": 3, "acceptable": true, "tests": 2, "failedTests": [], "gainedCount": 0, "gained": [],
            "lostCount": 9, "lostByIdentityCount": 3, "lostByIdentity": [change("tcp 22, 5432", 1), change("udp 53", 7)],
            "connectionsCutCount": 1,
            "connectionsCut": [{
                "source": null, "destination": node("db", "tag:prod"), "protocol": "tcp", "ports": "22", "rule": "acls[0]",
                "record": { "seq": 41 },
            }],
        });
        let text = text(&difference, Paint::for_stream(false));
        let lost = "Lost (9 permissions):\n  - laptop (tag:dev) -> db (tag:prod): tcp 22, 5432\n  \
                    - tag:dev -> tag:prod: udp 53 (7 pairs of nodes)\n  and 1 more";
        assert!(text.contains(lost), "{text}");
        assert!(text.contains("  ! (sealed) -> db (tag:prod): tcp 22 by acls[0] (record 41)"), "{text}");
        assert!(text.contains("2 tests of the file") && !text.contains("Nothing changes"), "{text}");
    }
}
