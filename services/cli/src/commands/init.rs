//! `writ init`: making a network.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::programs;
use crate::failure::advised;
use crate::{App, Verdict, credentials};

/// Make a network: its log, its keys, its first owner
///
/// Runs `writd init` on this machine, shows the owner's secret once, and remembers the server and how to recognise it, so that
/// `writ login` needs nothing but the secret. Start the server with `writd run` afterwards.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ init --data /var/lib/writ --name example --url https://192.0.2.1:8443")]
pub struct Arguments {
    /// Folder for everything that lasts: log, vault, views, keys. Must be new or empty.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Name of the network: a DNS label.
    #[arg(long)]
    name: String,
    /// URL under which agents and people reach the server.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Address to serve HTTPS on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Address to serve relay and STUN on (UDP).
    #[arg(long, value_name = "ADDRESS:PORT")]
    relay_listen: Option<SocketAddr>,
    /// The relay's address as agents see it; by default the URL's host, if that is an address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    relay_address: Option<SocketAddr>,
    /// Serve plain HTTP on an address that others can reach: only behind a proxy that adds TLS.
    #[arg(long)]
    insecure_http: bool,
    /// Further arguments for `writd init`.
    #[arg(last = true, value_name = "ARGUMENT")]
    more: Vec<String>,
}

/// What `writd init --json` says.
#[derive(Deserialize)]
struct Made {
    network: String,
    log_key: String,
    admin: String,
    secret: String,
    #[serde(default)]
    certificate_sha256: Option<String>,
    #[serde(default)]
    config: Option<String>,
}

/// Makes the network and remembers it.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let url = credentials::normal_url(&arguments.url)?;
    let output = make(arguments, &url)?;
    let value: Value =
        serde_json::from_slice(&output).context("`writd init` printed something that is no JSON")?;
    let made: Made = serde_json::from_value(value.clone())
        .context("`writd init` did not say what it made: are writ and writd of one version?")?;
    credentials::update(&url, |all, server| {
        all.current = Some(url.clone());
        *server = credentials::Server {
            pin: made.certificate_sha256.clone(),
            insecure_http: arguments.insecure_http,
            admin: Some(made.admin.clone()),
            log_key: Some(made.log_key.clone()),
            ..credentials::Server::default()
        };
    })?;
    app.out.show(&text(&made, arguments, &url), &value)?;
    Ok(Verdict::Good)
}

fn make(arguments: &Arguments, url: &str) -> Result<Vec<u8>> {
    let mut command = Command::new(programs::find("writd"));
    command.arg("init").arg("--data").arg(&arguments.data);
    command.args(["--name", &arguments.name, "--url", url, "--json"]);
    let addresses = [
        ("--listen", arguments.listen),
        ("--relay-listen", arguments.relay_listen),
        ("--relay-address", arguments.relay_address),
    ];
    for (option, address) in addresses {
        if let Some(address) = address {
            command.args([option, &address.to_string()]);
        }
    }
    if arguments.insecure_http {
        command.arg("--insecure-http");
    }
    // The variable names our own file here, and the server's configuration there.
    command.env_remove("WRIT_CONFIG").args(&arguments.more).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => advised(
            "the program `writd` is neither beside `writ` nor in PATH",
            "install it there: the network is made on the machine that will run the server",
        ),
        _ => anyhow::Error::from(error).context("cannot run `writd init`"),
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(advised("no network was made", "what `writd init` said above is the reason"))
}

fn text(made: &Made, arguments: &Arguments, url: &str) -> String {
    let pin = made
        .certificate_sha256
        .as_deref()
        .unwrap_or("none: the certificate must be one that the system trusts");
    let config = made.config.as_ref().map(|path| format!("--config {path}"));
    let start = config.unwrap_or_else(|| format!("--data {}", arguments.data.display()));
    format!(
        "The network {name} ({network}) is made.\n\n  \
         Server       {url}\n  \
         Certificate  {pin}\n  \
         Log key      {log_key}\n  \
         Owner        {admin}\n  \
         Secret       {secret}\n\n\
         The secret is shown this once and stored as a hash only: keep it in a safe place. Publish the log key: with it, anybody \
         can check the log and evidence from it.\n\n\
         Next:\n  writd run {start}\n  writ login\n",
        name = arguments.name,
        network = made.network,
        log_key = made.log_key,
        admin = made.admin,
        secret = made.secret,
    )
}
