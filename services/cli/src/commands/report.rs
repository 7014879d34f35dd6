//! `writ report`: evidence for a framework's controls.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::programs;
use crate::client::Client;
use crate::credentials::{Server, Token};
use crate::failure::advised;
use crate::{App, Verdict, credentials};

/// Write a report on the controls of NIS-2 or DORA, from the log of a period
///
/// Runs `writ-report`, which asks the server as you and writes HTML, PDF and JSON. What cannot be evidenced is said.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ report --framework nis2 --from 2026-10-01 --to 2027-01-01 --out reports --bundle")]
pub struct Arguments {
    /// The framework.
    #[arg(long, value_enum)]
    framework: Framework,
    /// First day of the period (2026-10-01, UTC), or its first moment (2026-10-01T00:00:00Z).
    #[arg(long, value_name = "DATE")]
    from: String,
    /// First day after the period, or the first moment after it.
    #[arg(long, value_name = "DATE")]
    to: String,
    /// Folder for the files; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Language: en or de.
    #[arg(long, default_value = "en")]
    lang: String,
    /// Write an evidence bundle of every record that the report stands on as well.
    #[arg(long)]
    bundle: bool,
    /// Further arguments for `writ-report`.
    #[arg(last = true, value_name = "ARGUMENT")]
    more: Vec<String>,
}

/// What is reported on.
#[derive(Clone, Copy, ValueEnum)]
enum Framework {
    /// Directive (EU) 2022/2555.
    Nis2,
    /// Regulation (EU) 2022/2554.
    Dora,
}

/// Has the report made.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let (url, server) = credentials::chosen(app.server.as_deref())?;
    // Says what to do if nobody is signed in.
    Client::signed_in(&url, &server)?;
    let token = server.live_token(Timestamp::now()).map(TokenFile::write).transpose()?;
    let mut command = command(arguments, &url, &server);
    if let Some(token) = &token {
        command.arg("--token-file").arg(&token.0);
    }
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => advised(
            "the program `writ-report` is neither beside `writ` nor in PATH",
            "install it there: reports are made in a program of their own",
        ),
        _ => anyhow::Error::from(error).context("cannot run `writ-report`"),
    })?;
    if !output.status.success() {
        return Err(advised("no report was made", "what `writ-report` said above is the reason"));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let files: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    app.out.show(&printed, &json!({ "files": files }))?;
    Ok(Verdict::Good)
}

fn command(arguments: &Arguments, url: &str, server: &Server) -> Command {
    let framework = match arguments.framework {
        Framework::Nis2 => "nis2",
        Framework::Dora => "dora",
    };
    let mut command = Command::new(programs::find("writ-report"));
    command.args([
        "--server",
        url,
        "--framework",
        framework,
        "--from",
        &arguments.from,
        "--to",
        &arguments.to,
    ]);
    command.args(["--lang", &arguments.lang]).arg("--out").arg(&arguments.out);
    if let Some(pin) = &server.pin {
        command.args(["--pin", pin]);
    }
    if let Some(key) = &server.log_key {
        command.args(["--log-key", key]);
    }
    if arguments.bundle {
        command.arg("--bundle");
    }
    command.env_remove("WRIT_CONFIG").args(&arguments.more).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// A token in a file of its own beside the credentials, for as long as the other program runs: arguments can be seen by others.
struct TokenFile(PathBuf);

impl TokenFile {
    fn write(token: &Token) -> Result<Self> {
        let path = credentials::path()?.with_extension(format!("token-{}", std::process::id()));
        let name = path.display().to_string();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {name}"))?;
        let written = Self(path);
        file.write_all(token.expose().as_bytes()).with_context(|| format!("cannot write {name}"))?;
        Ok(written)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        // If this fails the token is still readable by nobody but its owner, and ends by itself.
        let _ = fs::remove_file(&self.0);
    }
}
