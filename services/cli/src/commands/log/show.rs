//! `writ log show`: records, in order.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use writ_schema::Record;

use crate::client::Client;
use crate::commands::connect;
use crate::commands::rows::{Row, fetch};
use crate::moment::{self, AsOf};
use crate::output::printable;
use crate::{App, Verdict, describe};

const RECORDS: &str = "query Records(
  $first: Int, $after: String, $asOf: AsOfInput, $filter: RecordFilterInput, $newestFirst: Boolean!
) {
  records(first: $first, after: $after, asOf: $asOf, filter: $filter, newestFirst: $newestFirst) {
    nodes { seq time kind actor cause command json }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}";

const FOLLOW: &str = "subscription Records($kinds: [String!]) {
  records(kinds: $kinds) { seq time kind actor cause command json }
}";

/// Show records: the newest, or those from a time on
///
/// Sealed fields stay sealed. With --follow, records are shown as they are committed, until Ctrl-C; with --json, one JSON value
/// for each.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ log show
  writ log show --kind connection.denied --from '1 hour ago'
  writ log show --cause 57
  writ log show --follow")]
pub struct Arguments {
    /// Only records of this kind, such as node.joined; may be given several times.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only those from this time on.
    #[arg(long, value_name = "TIME", value_parser = moment::time, visible_alias = "since")]
    from: Option<Timestamp>,
    /// Only those before this time.
    #[arg(long, value_name = "TIME", value_parser = moment::time, visible_alias = "until")]
    to: Option<Timestamp>,
    /// Only those that this actor caused: an identifier, system, agent or anonymous.
    #[arg(long)]
    actor: Option<String>,
    /// Only those that this record brought about.
    #[arg(long, value_name = "RECORD")]
    cause: Option<u64>,
    /// Only those that name this identifier.
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Only those after this record.
    #[arg(long, value_name = "RECORD")]
    after: Option<u64>,
    /// The moment to look from: a time, or the number of a record; by default now.
    #[arg(long, value_name = "TIME|RECORD", conflicts_with = "follow")]
    as_of: Option<AsOf>,
    /// Most records that are shown.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Go on showing what is committed.
    #[arg(long, conflicts_with_all = ["to", "actor", "cause", "subject"])]
    follow: bool,
}

/// Shows records.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    if arguments.follow {
        return follow(arguments, &client, app);
    }
    let (rows, value) = past(arguments, &client)?;
    let table = rows.iter().map(|row| cells(Row(row))).collect();
    let table = app.out.table(&["RECORD", "TIME", "KIND", "ACTOR", "CAUSE", "WHAT"], table);
    app.out.show(&table, &value)?;
    Ok(Verdict::Good)
}

/// The records asked for, oldest first.
fn past(arguments: &Arguments, client: &Client) -> Result<(Vec<Value>, Value)> {
    // Without a place to begin, the newest are meant.
    let newest_first = arguments.from.is_none() && arguments.after.is_none() && arguments.cause.is_none();
    let filter = json!({
        "kinds": (!arguments.kinds.is_empty()).then_some(&arguments.kinds), "from": arguments.from, "to": arguments.to,
        "actor": arguments.actor, "cause": arguments.cause, "subject": arguments.subject,
    });
    let mut variables = Map::new();
    variables.insert("asOf".to_owned(), moment::argument(arguments.as_of));
    variables.insert("filter".to_owned(), filter);
    variables.insert("newestFirst".to_owned(), json!(newest_first));
    variables.insert("after".to_owned(), json!(arguments.after.map(|seq| seq.to_string())));
    let mut listing = fetch(client, RECORDS, "records", variables, arguments.limit)?;
    listing.rows.iter_mut().for_each(unfold);
    if newest_first {
        listing.rows.reverse();
    }
    let value = listing.value("records");
    Ok((listing.rows, value))
}

/// Puts the record itself where its exact text was, for programs; the text is what was hashed.
fn unfold(row: &mut Value) {
    let record =
        row.get("json").and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let (Some(record), Some(members)) = (record, row.as_object_mut()) {
        members.insert("record".to_owned(), record);
    }
}

fn cells(row: Row<'_>) -> Vec<String> {
    vec![
        row.text("/seq"),
        row.time("/time"),
        row.text("/kind"),
        row.text("/actor"),
        row.text("/cause"),
        what(row),
    ]
}

fn what(row: Row<'_>) -> String {
    match Record::decode(row.text("/json").as_bytes()) {
        Ok(record) => describe::event(&record),
        Err(error) => error.to_string(),
    }
}

fn follow(arguments: &Arguments, client: &Client, app: &App) -> Result<Verdict> {
    let kinds = (!arguments.kinds.is_empty()).then_some(&arguments.kinds);
    // Subscribed before the past is read, so that nothing falls between the two.
    let mut live = client.subscribe(FOLLOW, json!({ "kinds": kinds }))?;
    let mut last = None;
    for row in past(arguments, client)?.0 {
        last = last.max(Row(&row).number("/seq"));
        print(&row, app)?;
    }
    loop {
        let mut row = live.next()?.get_mut("records").map(Value::take).unwrap_or_default();
        // What was committed while both began comes twice.
        if Row(&row).number("/seq") > last {
            unfold(&mut row);
            print(&row, app)?;
        }
    }
}

fn print(row: &Value, app: &App) -> Result<()> {
    if app.out.is_json() {
        return app.out.line(&row.to_string());
    }
    let [seq, time, kind, actor, _, what] = <[String; 6]>::try_from(cells(Row(row))).unwrap_or_default();
    app.out.line(&printable(&format!("{seq:>8}  {time}  {kind:<24} {actor}  {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        [RECORDS, FOLLOW].into_iter().for_each(crate::contract::assert_fits);
    }
}
