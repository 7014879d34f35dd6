//! `writ log backup` and `writ log restore`: copies of a log's folder that are verified before they count.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::verify::{checkpoint_value, folder_key};
use crate::output::{counted, printable};
use crate::{App, Verdict};

/// Copy a log's folder, also while the server writes to it
///
/// The copy is verified, and only then takes the place of an older one with this name. It holds the log only: keys, vault and
/// settings of the server are backed up by themselves, the vault on a medium of its own. `rsync` of the file `checkpoint`,
/// and then of the rest, will do as well; `writ log verify COPY` then says whether the copy holds.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ log backup /var/lib/writ/log /backup/writ/log
  writ log backup /var/lib/writ/log /backup/writ/log --key 'example.org/log+1a2b3c4d+Aa…'")]
pub struct Backup {
    /// The log's folder.
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Where the copy is to be.
    #[arg(value_name = "COPY")]
    copy: PathBuf,
    /// The log's public key (name+hash+base64), or a file that holds it; by default the one that is kept of this server.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
}

/// Put a copy of a log where a server is to find it
///
/// The copy is verified on the way, and nothing that is there is written over: move the damaged log away first. Records that
/// were written after the copy was made are not in it. Agents and witnesses that have seen a newer checkpoint will say so.
#[derive(Args)]
#[command(after_help = "\
Examples:
  mv /var/lib/writ/log /var/lib/writ/log.damaged
  writ log restore /backup/writ/log /var/lib/writ/log")]
pub struct Restore {
    /// The copy.
    #[arg(value_name = "COPY")]
    copy: PathBuf,
    /// The log's folder, which must not exist or be empty.
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The log's public key (name+hash+base64), or a file that holds it; by default the one that is kept of this server.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
}

/// Makes a copy.
pub fn back_up(arguments: &Backup, app: &App) -> Result<Verdict> {
    let key = folder_key(arguments.key.as_deref(), app)?;
    let checkpoint = writ_ledger::back_up(&arguments.log, &arguments.copy, &key)?;
    let text = format!(
        "{} verified and copied to {}.\n",
        counted(checkpoint.size, "record"),
        printable(&arguments.copy.display().to_string())
    );
    app.out.show(&text, &json!({ "copy": arguments.copy, "checkpoint": checkpoint_value(&checkpoint) }))?;
    Ok(Verdict::Good)
}

/// Puts one in its place.
pub fn restore(arguments: &Restore, app: &App) -> Result<Verdict> {
    let key = folder_key(arguments.key.as_deref(), app)?;
    let checkpoint = writ_ledger::restore(&arguments.copy, &arguments.log, &key)?;
    let text = format!(
        "{} verified and restored to {}.\n",
        counted(checkpoint.size, "record"),
        printable(&arguments.log.display().to_string())
    );
    app.out.show(&text, &json!({ "log": arguments.log, "checkpoint": checkpoint_value(&checkpoint) }))?;
    Ok(Verdict::Good)
}
