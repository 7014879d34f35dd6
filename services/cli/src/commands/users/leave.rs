//! `writ users leave`: somebody leaves, and it is seen how long that took.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use writ_schema::UserId;

use crate::client::Client;
use crate::commands::rows::Row;
use crate::commands::{command_id, connect, recorded};
use crate::moment;
use crate::output::{counted, duration};
use crate::{App, Verdict, confirm};

const LEAVE: &str = "mutation UserLeaves($who: UserInput!, $decided: Timestamp, $command: ID) {
  userLeaves(who: $who, decidedAt: $decided, commandId: $command) {
    command repeated recordCount records { seq time kind actor cause }
  }
}";

const WITHDRAWALS: &str = "query Withdrawals($from: Timestamp, $to: Timestamp) {
  withdrawals(from: $from, to: $to, first: 50) {
    nodes {
      cause { seq time kind } revoked ends endsAcknowledged lastAcknowledgement { seq time } tookMilliseconds openUntil
    }
  }
}";

/// The first look comes after this; each further one after twice the time, for every look is a record itself.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A person leaves: their nodes are removed, their connections cut, at once
///
/// Waits until the agents have acknowledged, and prints what ended and how long it took, by the records.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ users leave ada@example.com --wait 30s")]
pub struct Arguments {
    /// Who: sign-in name or pseudonym.
    #[arg(value_name = "LOGIN|USER")]
    who: String,
    /// When it was decided elsewhere.
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    decided_at: Option<Timestamp>,
    /// How long to wait for the agents.
    #[arg(long, value_name = "LENGTH", default_value = "10s", value_parser = moment::length)]
    wait: SignedDuration,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Lets somebody leave and watches it happen.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let question = format!("Remove the nodes of {} and cut their connections?", arguments.who);
    if !confirm::agreed_or_scripted(app, &question, arguments.yes)? {
        return Ok(Verdict::Bad);
    }
    let who = match arguments.who.parse::<UserId>() {
        Ok(user) => json!({ "user": user }),
        Err(_) => json!({ "login": arguments.who }),
    };
    let variables = json!({ "who": who, "decided": arguments.decided_at, "command": command_id()? });
    let data = client.graphql_raw(LEAVE, variables)?;
    let done = Row(&data).at("/userLeaves");
    let withdrawal = watch(&client, done, arguments.wait.unsigned_abs())?;
    let text = text(&arguments.who, done, Row(&withdrawal));
    app.out.show(&text, &json!({ "done": done.0, "withdrawal": withdrawal }))?;
    Ok(Verdict::Good)
}

/// Looks at the withdrawal until every end has acknowledged, or there is no more patience.
fn watch(client: &Client, done: Row<'_>, patience: Duration) -> Result<Value> {
    let Some(cause) = done.list("/records").find(|record| record.text("/kind") == "user.leaver_received")
    else {
        return Ok(Value::Null);
    };
    let (seq, since) = (cause.number("/seq"), cause.text("/time"));
    let until =
        since.parse::<Timestamp>().ok().and_then(|time| time.checked_add(SignedDuration::from_secs(1)).ok());
    let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let data = client.graphql_raw(WITHDRAWALS, json!({ "from": since, "to": until }))?;
        let found = Row(&data).list("/withdrawals/nodes").find(|row| row.number("/cause/seq") == seq);
        let withdrawal = found.map(|row| row.0.clone()).unwrap_or_default();
        let row = Row(&withdrawal);
        let is_complete = row.is_some() && row.number("/endsAcknowledged") >= row.number("/ends");
        let left = patience.saturating_sub(start.elapsed());
        if is_complete || left.is_zero() {
            return Ok(withdrawal);
        }
        thread::sleep(pause.min(left));
        pause = pause.saturating_mul(2);
    }
}

fn text(who: &str, done: Row<'_>, withdrawal: Row<'_>) -> String {
    let nodes = done.list("/records").filter(|record| record.text("/kind") == "node.removed").count() as u64;
    let number = |pointer| withdrawal.number(pointer).unwrap_or(0);
    let (revoked, ends, acknowledged) = (number("/revoked"), number("/ends"), number("/endsAcknowledged"));
    let mut text = format!(
        "{who} has left: {} removed, {} cut.\n",
        counted(nodes, "node"),
        counted(revoked, "live connection")
    );
    if revoked > 0 && acknowledged >= ends {
        let took =
            withdrawal.number("/tookMilliseconds").and_then(|took| i64::try_from(took).ok()).unwrap_or(0);
        text.push_str(&format!(
            "Both agents of each have acknowledged, {} after the news (last: record {}).\n",
            duration(took),
            withdrawal.text("/lastAcknowledgement/seq"),
        ));
    } else if revoked > 0 {
        text.push_str(&format!(
            "{acknowledged} of {ends} agents' acknowledgements have come so far. An agent that is away is refused when it comes \
             back; what it holds ends by itself at {}.\n",
            withdrawal.time("/openUntil"),
        ));
    }
    text.push_str(&recorded(done));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_the_published_schema() {
        [LEAVE, WITHDRAWALS].into_iter().for_each(crate::contract::assert_fits);
    }

    fn done() -> Value {
        json!({ "recordCount": 4, "records": [
            { "seq": 40, "kind": "user.leaver_received" }, { "seq": 41, "kind": "user.disabled" },
            { "seq": 42, "kind": "node.removed" }, { "seq": 43, "kind": "connection.revoked" },
        ]})
    }

    #[test]
    fn what_ended_and_how_long_it_took_is_told() {
        let withdrawal = json!({
            "revoked": 1, "ends": 2, "endsAcknowledged": 2, "tookMilliseconds": 84, "lastAcknowledgement": { "seq": 45 },
        });
        let text = text("ada", Row(&done()), Row(&withdrawal));
        assert!(
            text.contains("1 node removed, 1 live connection cut") && text.contains("84 ms after"),
            "{text}"
        );
        assert!(text.contains("4 records from 40 on"), "{text}");
    }

    #[test]
    fn a_missing_acknowledgement_is_not_passed_over() {
        let withdrawal =
            json!({ "revoked": 1, "ends": 2, "endsAcknowledged": 1, "openUntil": "2026-03-14T10:00:00Z" });
        let text = text("ada", Row(&done()), Row(&withdrawal));
        assert!(text.contains("1 of 2") && text.contains("ends by itself"), "{text}");
    }
}
