//! A `writd` on a host: made, started, stopped, killed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use writ_ledger::{FileLog, VerifierKey};
use writ_schema::{AdminId, NetworkId, Record};

use super::{Programs, START_LIMIT, Web};
use crate::lab::{Host, Process, wait_for};

/// How a control plane is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the network.
    pub name: String,
    /// Where it listens, which its host must have.
    pub listen: SocketAddr,
    /// The URL that others are told, if not the one of `listen`.
    pub url: Option<String>,
    /// Where relay and STUN listen.
    pub relay: SocketAddr,
    /// Life of an authorization, if not the usual one.
    pub authorization_seconds: Option<u32>,
    /// Where traces go.
    pub otlp_endpoint: Option<String>,
}

impl Settings {
    /// A network of that name, served at an address of its host: by TLS unless it is the loopback.
    #[must_use]
    pub fn at(name: &str, address: impl Into<std::net::IpAddr>) -> Self {
        let address = address.into();
        Self {
            name: name.to_owned(),
            listen: SocketAddr::new(address, 8443),
            url: None,
            relay: SocketAddr::new(address, 3478),
            authorization_seconds: None,
            otlp_endpoint: None,
        }
    }

    fn url(&self) -> String {
        let scheme = if self.listen.ip().is_loopback() { "http" } else { "https" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }
}

/// What `writ init` prints.
#[derive(Clone, Deserialize)]
pub struct Made {
    /// The network.
    pub network: NetworkId,
    /// Its URL.
    pub url: String,
    /// Verifier key of its log.
    pub log_key: String,
    /// SHA-256 of the certificate, if it is a self-made one.
    #[serde(rename = "certificate_sha256")]
    pub pin: Option<String>,
    /// The first administrator.
    pub admin: AdminId,
    /// What they sign in with.
    pub secret: String,
    /// The configuration file.
    pub config: PathBuf,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Made({} at {}, secret)", self.network, self.url)
    }
}

/// A control plane.
#[derive(Debug)]
pub struct ControlPlane {
    programs: Programs,
    host: Host,
    settings: Settings,
    data: PathBuf,
    credentials: PathBuf,
    made: Made,
    process: Option<Process>,
}

impl ControlPlane {
    /// Makes a network with its data in `data`, and starts it.
    ///
    /// # Errors
    /// When a program is missing or fails; the message has what it printed.
    pub fn create(programs: &Programs, host: &Host, data: &Path, settings: Settings) -> anyhow::Result<Self> {
        let mut control = Self::make(programs, host, data, settings)?;
        control.start()?;
        Ok(control)
    }

    /// Makes a network without starting it.
    ///
    /// # Errors
    /// When a program is missing or fails; the message has what it printed.
    pub fn make(programs: &Programs, host: &Host, data: &Path, settings: Settings) -> anyhow::Result<Self> {
        let credentials = data.with_file_name("credentials.toml");
        let mut command = programs.command("writ")?;
        command.env("WRIT_CONFIG", &credentials).arg("init").arg("--json").arg("--data").arg(data);
        command.args(["--name", &settings.name, "--url", &settings.url()]);
        command.args([
            "--listen",
            &settings.listen.to_string(),
            "--relay-listen",
            &settings.relay.to_string(),
        ]);
        if let Some(seconds) = settings.authorization_seconds {
            command.args(["--", "--authorization-seconds", &seconds.to_string()]);
        }
        let output = host.spawn(&command)?.output(START_LIMIT)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "writ init: {}", String::from_utf8_lossy(&output.stderr).trim());
        let made: Made = serde_json::from_str(printed.trim()).context("writ init printed something else")?;
        Ok(Self {
            programs: programs.clone(),
            host: host.clone(),
            settings,
            data: data.to_owned(),
            credentials,
            made,
            process: None,
        })
    }

    /// Another one on another host, with a copy of everything that this one has. From there on each writes a history of its own,
    /// under the same key. This one must not be running.
    ///
    /// # Errors
    /// When the data cannot be copied.
    pub fn copy(&self, host: &Host, data: &Path) -> anyhow::Result<Self> {
        ensure!(self.process.is_none(), "a control plane is copied while it runs");
        let output = host.exec([Path::new("cp"), Path::new("-a"), &self.data, data])?;
        ensure!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr).trim());
        let mut settings = self.settings.clone();
        settings.listen.set_ip(host.address().into());
        settings.relay.set_ip(host.address().into());
        let mut made = self.made.clone();
        made.config =
            data.join(made.config.strip_prefix(&self.data).context("its configuration is elsewhere")?);
        let text = fs::read_to_string(&made.config).context("the copied configuration")?;
        let text = text
            .replace(&*self.data.to_string_lossy(), &data.to_string_lossy())
            .replace(&self.settings.listen.to_string(), &settings.listen.to_string())
            .replace(&self.settings.relay.to_string(), &settings.relay.to_string());
        fs::write(&made.config, text).context("the copied configuration")?;
        Ok(Self {
            programs: self.programs.clone(),
            host: host.clone(),
            settings,
            data: data.to_owned(),
            credentials: self.credentials.clone(),
            made,
            process: None,
        })
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; the message has what it printed.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let process = self.host.spawn(&self.command()?)?;
        let web = self.web()?;
        let ready = wait_for(START_LIMIT, "writd is ready", || {
            if process.exit_status().is_some() {
                return Ok(false);
            }
            match web.get("/readyz") {
                Ok(page) if page.status == 200 => Ok(true),
                Ok(page) => Err(format!("{} {}", page.status, page.body)),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        match ready {
            Ok(true) => self.process = Some(process),
            Ok(false) => bail!("writd ended: {}", process.stderr().trim()),
            Err(error) => bail!("{error}: {}", process.stderr().trim()),
        }
        Ok(())
    }

    /// The command that runs it.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = self.programs.command("writd")?;
        command.args(["run", "--config"]).arg(&self.made.config);
        if let Some(endpoint) = &self.settings.otlp_endpoint {
            command.env("WRIT_OTLP_ENDPOINT", endpoint);
        }
        Ok(command)
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.stop()?;
        }
        Ok(())
    }

    /// Kills it, as a power cut would.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// The running program.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("writd does not run")
    }

    /// What `writ init` said.
    #[must_use]
    pub fn made(&self) -> &Made {
        &self.made
    }

    /// Where it runs.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The programs that it is one of.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where it listens.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.settings.listen
    }

    /// An HTTP client on its host.
    ///
    /// # Errors
    /// When none can be made.
    pub fn web(&self) -> anyhow::Result<Web> {
        Web::new(&self.host, self.base_url())
    }

    /// The folder of its log.
    #[must_use]
    pub fn log_directory(&self) -> PathBuf {
        self.data.join("log")
    }

    /// The folder with everything that lasts.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What whoever made it remembers of it, beside its data.
    #[must_use]
    pub fn credentials(&self) -> &Path {
        &self.credentials
    }

    /// Where it can be asked on its own host.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = if self.settings.url().starts_with("https") { "https" } else { "http" };
        format!("{scheme}://{}", self.settings.listen)
    }

    /// The key that its log is verified with.
    ///
    /// # Errors
    /// When `writ init` printed something else.
    pub fn log_key(&self) -> anyhow::Result<VerifierKey> {
        self.made.log_key.parse().context("writ init printed a log key that is none")
    }

    /// Every record that the log's signed checkpoint covers now, read from its files and checked. Sealed fields are closed.
    ///
    /// # Errors
    /// When the log is not sound.
    pub fn records(&self) -> anyhow::Result<Vec<Record>> {
        let log = FileLog::open_read_only(&self.log_directory(), &self.log_key()?)?;
        let records = log.read_range(0..log.size()).map(|read| Ok(Record::decode(&read?.1)?));
        records.collect()
    }
}
