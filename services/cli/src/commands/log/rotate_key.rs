//! `writ log rotate-key`: changing the log's signing key while the server runs.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::commands::rows::Row;
use crate::commands::{command_id, connect, recorded};
use crate::{App, Verdict, confirm};

const ROTATE: &str = "mutation RotateLogKey($newKey: String, $command: ID) {
  rotateLogKey(newKey: $newKey, commandId: $command) {
    oldKey newKey done { command repeated recordCount records { seq time kind actor cause } }
  }
}";

/// Change the log's signing key while the server runs
///
/// The key that `writd log next-key` has prepared on the server takes over, or a new one; the old one is destroyed. The change is a
/// record that both keys sign: agents, bundles and `writ log verify` follow it from whichever key they trust. Witnesses do
/// not: have them add the new key first.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ log rotate-key
  writ log rotate-key --to 'example.org/log+1a2b3c4d+Aa…' --yes")]
pub struct Arguments {
    /// The public key that was prepared (name+hash+base64): the log is changed to this one or not at all.
    #[arg(long, value_name = "VKEY")]
    to: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Asks for the change and shows it.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let client = connect(app)?;
    if !confirm::agreed(app, "Change the log's key, and destroy the present one?", arguments.yes)? {
        return Ok(Verdict::Bad);
    }
    let data = client.graphql_raw(ROTATE, json!({ "newKey": arguments.to, "command": command_id()? }))?;
    let changed = Row(&data).at("/rotateLogKey");
    let text = format!(
        "The log's key is changed.\nUntil then  {}\nFrom then   {}\n\nPublish the new key, make a backup at once, and look at the \
         witnesses (`writ log witnesses`).\n{}",
        changed.text("/oldKey"),
        changed.text("/newKey"),
        recorded(changed.at("/done")),
    );
    app.out.show(&text, changed.0)?;
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    #[test]
    fn documents_fit_the_published_schema() {
        crate::contract::assert_fits(super::ROTATE);
    }
}
