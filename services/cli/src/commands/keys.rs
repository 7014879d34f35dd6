//! `writ keys`: the keys that nodes join with.

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use writ_schema::{EnrolmentKeyId, Tag, UserId};

use super::rows::{Row, fetch};
use super::{command_id, connect, recorded};
use crate::failure::{advised, usage};
use crate::moment::{self, AsOf};
use crate::{App, Verdict};

const LIST: &str = "query EnrolmentKeys($first: Int, $after: String, $asOf: AsOfInput) {
  enrolmentKeys(first: $first, after: $after, asOf: $asOf) {
    nodes {
      enrolmentKey owner { user tags } maxUses uses expiresAt usable createdBy
      record { seq time } lastUse { seq time } revoked { seq time }
    }
    pageInfo { hasNextPage endCursor }
    asOf { seq size time checkpoint { note } }
  }
}";

const CREATE: &str = "mutation CreateKey($owner: OwnerInput!, $uses: Int!, $life: Int!, $command: ID) {
  createEnrolmentKey(owner: $owner, maxUses: $uses, expiresIn: $life, commandId: $command) {
    enrolmentKey ticket expiresAt done { command repeated recordCount records { seq time kind actor cause } }
  }
}";

const REVOKE: &str = "mutation RevokeKey($key: ID!, $command: ID) {
  revokeEnrolmentKey(enrolmentKey: $key, commandId: $command) {
    command repeated recordCount records { seq time kind actor cause }
  }
}";

/// Make, list and revoke the keys that nodes join with
///
/// Without a command, the keys are listed.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  writ keys
  writ keys create --user ada@example.com
  writ keys create --tag tag:staging --uses 5 --expires 24h"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a key that nodes join with
///
/// Prints the text that is given to `writ-agent up`. It is shown this once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ keys create --user ada@example.com
  writ keys create --tag tag:staging --uses 5 --expires 24h")]
struct Create {
    /// The person whose nodes it makes: sign-in name or pseudonym.
    #[arg(long, value_name = "LOGIN|USER", required_unless_present = "tags", conflicts_with = "tags")]
    user: Option<String>,
    /// The tags of the service whose nodes it makes; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// How many nodes may join with it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How long it can be used.
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = moment::length)]
    expires: SignedDuration,
}

/// List the keys and how often they were used
#[derive(Args)]
#[command(after_help = "\
Example:
  writ keys list --as-of '1 day ago'")]
struct List {
    /// The moment to look at: a time, or the number of a record.
    #[arg(long, value_name = "TIME|RECORD")]
    as_of: Option<AsOf>,
    /// Most rows that are shown.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// End a key before its time
#[derive(Args)]
#[command(after_help = "\
Example:
  writ keys revoke enk_…")]
struct Revoke {
    /// The key's identifier.
    #[arg(value_name = "ID")]
    key: EnrolmentKeyId,
}

/// Runs a command of the family.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    match arguments.command {
        None => list(&arguments.list, app),
        Some(Command::Create(arguments)) => create(&arguments, app),
        Some(Command::List(arguments)) => list(&arguments, app),
        Some(Command::Revoke(arguments)) => revoke(&arguments, app),
    }
}

fn create(arguments: &Create, app: &App) -> Result<Verdict> {
    let owner = owner(arguments.user.as_deref(), &arguments.tags);
    let life = u32::try_from(arguments.expires.as_secs())
        .map_err(|_| usage("--expires is too long", "a key lives for at most 90 days"))?;
    let variables = json!({ "owner": owner, "uses": arguments.uses, "life": life, "command": command_id()? });
    let data = connect(app)?.graphql_raw(CREATE, variables)?;
    let made = Row(&data).at("/createEnrolmentKey");
    if made.at("/ticket").0.is_null() {
        let key = made.text("/enrolmentKey");
        return Err(advised(
            format!("the key {key} was made, and its ticket went out with an answer that did not arrive"),
            format!("nobody can show it again: end it with `writ keys revoke {key}`, and make another"),
        ));
    }
    let text = format!(
        "{}\n\nThe key {} is shown this once. It can be used {} until {}; on the node run:\n  writ-agent up --key-file FILE\n{}",
        made.text("/ticket"),
        made.text("/enrolmentKey"),
        if arguments.uses == 1 { "once".to_owned() } else { format!("{} times", arguments.uses) },
        made.time("/expiresAt"),
        recorded(made.at("/done")),
    );
    app.out.show(&text, made.0)?;
    Ok(Verdict::Good)
}

/// Whose nodes the key makes, as the API has it: a pseudonym, a login, or tags.
fn owner(user: Option<&str>, tags: &[Tag]) -> Value {
    match user {
        Some(user) if user.parse::<UserId>().is_ok() => json!({ "user": user }),
        Some(login) => json!({ "login": login }),
        None => json!({ "tags": tags }),
    }
}

fn list(arguments: &List, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    let mut variables = Map::new();
    variables.insert("asOf".to_owned(), moment::argument(arguments.as_of));
    let listing = fetch(
        &client,
        &moment::document(LIST, arguments.as_of),
        "enrolmentKeys",
        variables,
        arguments.limit,
    )?;
    let rows = listing.rows.iter().map(|row| cells(Row(row))).collect();
    let table = app.out.table(&["KEY", "OWNER", "USED", "STATE", "EXPIRES", "MADE BY", "MADE"], rows);
    app.out.show(&format!("{table}\n{}", listing.basis()), &listing.value("enrolmentKeys"))?;
    Ok(Verdict::Good)
}

fn cells(row: Row<'_>) -> Vec<String> {
    let state = if row.at("/revoked").is_some() {
        "revoked"
    } else if row.flag("/usable") {
        "usable"
    } else if row.number("/uses") >= row.number("/maxUses") {
        "used up"
    } else {
        "ended"
    };
    vec![
        row.text("/enrolmentKey"),
        row.owner("/owner"),
        format!("{} of {}", row.text("/uses"), row.text("/maxUses")),
        state.to_owned(),
        row.time("/expiresAt"),
        row.text("/createdBy"),
        row.time("/record/time"),
    ]
}

fn revoke(arguments: &Revoke, app: &App) -> Result<Verdict> {
    let data =
        connect(app)?.graphql_raw(REVOKE, json!({ "key": arguments.key, "command": command_id()? }))?;
    let done = Row(&data).at("/revokeEnrolmentKey");
    let text = format!("{} is revoked; nodes that joined with it stay.\n{}", arguments.key, recorded(done));
    app.out.show(&text, done.0)?;
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

    #[test]
    fn an_owner_is_a_pseudonym_a_login_or_tags() {
        let user = UserId::from_bytes([1; 16]).to_string();
        assert_eq!(owner(Some(&user), &[]), json!({ "user": user }));
        assert_eq!(owner(Some("ada@example.com"), &[]), json!({ "login": "ada@example.com" }));
        assert_eq!(owner(None, &["tag:web".parse().unwrap()]), json!({ "tags": ["tag:web"] }));
    }
}
