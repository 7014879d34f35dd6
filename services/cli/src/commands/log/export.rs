//! `writ log export`: the log as a directory that anybody's tools can check.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use writ_ledger::directory::{Exported, export};
use writ_ledger::{CosignedHistory, FileLog, LogKeys};

use super::served::Served;
use super::verify::{folder_key, history_of, key_of, keys_of, signed};
use crate::client::Client;
use crate::output::counted;
use crate::{App, Verdict, credentials};

/// Write the log as a static directory in the format tlog-tiles
///
/// The directory holds the signed checkpoint, the tiles of the tree, the records, and the key that verifies them as `log.vkey`:
/// what any web server can publish and any tlog-tiles client can check; and, in `checkpoints.cosigned`, what witnesses have cosigned before. Run it again to continue the directory: only what is
/// new is read, the checkpoint is replaced last, and a directory of another log or another history is refused. The records
/// are in it: whoever may read it reads what an auditor reads.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ log export /srv/www/log
  writ log export /srv/www/log --from /var/lib/writ/log --key 'example.org/log+1a2b3c4d+Aa…'
  writ log verify /srv/www/log")]
pub struct Arguments {
    /// The directory; it is made, or continued if it holds an earlier export of this log.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Read the log from its own folder (or a copy) instead of a server, which may run meanwhile.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// The log's public key (name+hash+base64), or a file that holds it; by default the one that is kept on this machine.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
}

/// Writes and reports.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let (dir, key) = (&arguments.dir, arguments.key.as_deref());
    let done = match &arguments.from {
        Some(folder) => from_folder(folder, dir, key, app)?,
        None => from_server(dir, key, app)?,
    };
    let Exported { before, size, tiles } = done;
    let continued = match before {
        0 => String::new(),
        before => format!(" It continues the {} that were there.", counted(before, "record")),
    };
    let name = dir.display();
    let text = format!(
        "{name} holds the log with {} ({} written).{continued}\nCheck it with `writ log verify {name}`, or with any tlog-tiles \
         client.",
        counted(size, "record"),
        counted(tiles, "tile"),
    );
    app.out.show(&text, &json!({ "dir": dir, "before": before, "size": size, "tiles": tiles }))?;
    Ok(Verdict::Good)
}

fn from_folder(folder: &Path, dir: &Path, key: Option<&str>, app: &App) -> Result<Exported> {
    let key = folder_key(key, app)?;
    let log = FileLog::open_read_only(folder, &key)
        .with_context(|| format!("cannot read the log in {}", folder.display()))?;
    let rotations = LogKeys::kept(folder)?;
    let exported = export(&log, &log.checkpoint(), &rotations, dir)?;
    keep(&CosignedHistory::load(folder)?, dir)?;
    Ok(exported)
}

fn from_server(dir: &Path, key: Option<&str>, app: &App) -> Result<Exported> {
    let (url, known) = credentials::chosen(app.server.as_deref())?;
    let client = match known.live_token(Timestamp::now()) {
        Some(_) => Client::signed_in(&url, &known)?,
        None => Client::anonymous(&url, &known)?,
    };
    let (key, _) = key_of(key, &known, &client)?;
    let (keys, rotations) = keys_of(&client, key)?;
    let history = history_of(&client)?;
    let (signed, _) = signed(&client, &url, &keys)?;
    let exported = export(&Served::by(&client), &signed, &rotations, dir)?;
    keep(&history, dir)?;
    Ok(exported)
}

/// What witnesses have cosigned goes with the log, where there is any.
fn keep(history: &CosignedHistory, dir: &Path) -> Result<()> {
    if history.notes().next().is_none() {
        return Ok(());
    }
    history
        .store(dir)
        .with_context(|| format!("cannot write the cosigned checkpoints into {}", dir.display()))
}
