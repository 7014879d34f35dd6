//! A `writ-agent` on a host.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use writ_schema::protocol::EnrolmentTicket;

use super::{Programs, START_LIMIT};
use crate::lab::{Host, Process, wait_for};

/// An agent, running or stopped.
#[derive(Debug)]
pub struct Agent {
    programs: Programs,
    host: Host,
    state: PathBuf,
    process: Option<Process>,
    otlp_endpoint: Option<String>,
    own_files: Option<OwnFiles>,
    /// Further arguments of `up`.
    arguments: Vec<String>,
}

/// Files that an agent sees otherwise than the machine has them.
#[derive(Debug)]
struct OwnFiles {
    script: String,
    host_dns: &'static str,
}

impl Agent {
    /// Joins by an enrolment key and waits for the session.
    ///
    /// # Errors
    /// When the agent ends, or has no session in time; the message has what it printed.
    pub fn join(
        programs: &Programs,
        host: &Host,
        state: &Path,
        name: &str,
        ticket: &EnrolmentTicket,
    ) -> anyhow::Result<Self> {
        let mut agent = Self::new(programs, host, state);
        agent.begin_join(name, ticket)?;
        agent.wait_connected(START_LIMIT)?;
        Ok(agent)
    }

    /// An agent that has not been started.
    #[must_use]
    pub fn new(programs: &Programs, host: &Host, state: &Path) -> Self {
        Self {
            programs: programs.clone(),
            host: host.clone(),
            state: state.to_owned(),
            process: None,
            otlp_endpoint: None,
            own_files: None,
            arguments: Vec::new(),
        }
    }

    /// Where it is to send its traces from its next start on.
    pub fn trace_to(&mut self, endpoint: &str) {
        self.otlp_endpoint = Some(endpoint.to_owned());
    }

    /// From its next start on it runs in a mount namespace that this shell script has prepared, and does with the host's resolver
    /// as `host_dns` says (`auto`, `off`): what it finds there is no other host's.
    pub fn see(&mut self, script: &str, host_dns: &'static str) {
        self.own_files = Some(OwnFiles { script: script.to_owned(), host_dns });
    }

    /// Gives `up` further arguments from its next start on, in place of those before.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
    }

    /// Starts it with an enrolment key, without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin_join(&mut self, name: &str, ticket: &EnrolmentTicket) -> anyhow::Result<()> {
        fs::create_dir_all(&self.state).with_context(|| format!("cannot create {}", self.state.display()))?;
        let file = self.state.join("enrolment-key");
        fs::write(&file, ticket.to_text()).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = self.up()?;
        command.args(["--name", name, "--key-file"]).arg(&file).args(&self.arguments);
        self.process = Some(self.host.spawn(&command)?);
        Ok(())
    }

    /// Starts it again as the node that it was.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let mut command = self.up()?;
        command.args(&self.arguments);
        self.process = Some(self.host.spawn(&command)?);
        Ok(())
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

    /// Waits until it has a session.
    ///
    /// # Errors
    /// When the agent ends, or has no session in time; the message has what it printed.
    pub fn wait_connected(&self, limit: Duration) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the agent does not run")?;
        let connected = wait_for(limit, "the agent has a session", || {
            if process.exit_status().is_some() {
                return Ok(false);
            }
            match self.status() {
                Ok(status) if status["session"] == "connected" => Ok(true),
                Ok(status) => Err(format!("its session is {}", status["session"])),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        match connected {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the agent ended: {}", process.stderr().trim()),
            Err(error) => bail!("{error}: {}", process.stderr().trim()),
        }
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<Value> {
        let mut command = self.command("status")?;
        command.arg("--json");
        let output = self.host.spawn(&command)?.output(START_LIMIT)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("the agent's status is not JSON")
    }

    /// What one of its commands prints, whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn try_run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.programs.command("writ-agent")?;
        command.args(args).arg("--state").arg(&self.state);
        Ok(self.host.spawn(&command)?.output(START_LIMIT)?)
    }

    /// Its IPv4 address in the overlay.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn address(&self) -> anyhow::Result<IpAddr> {
        let status = self.status()?;
        let addresses = status["addresses"].as_array().context("the agent tells no addresses")?;
        let addresses = addresses.iter().filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
        addresses.into_iter().find(IpAddr::is_ipv4).context("the agent has no IPv4 address")
    }

    /// A port at its overlay address.
    ///
    /// # Errors
    /// When it does not tell its address.
    pub fn at(&self, port: u16) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(self.address()?, port))
    }

    /// What it tells of one of its peers.
    ///
    /// # Errors
    /// When it has no such peer.
    pub fn peer(&self, node: &str) -> anyhow::Result<Value> {
        let status = self.status()?;
        let peers = status["peers"].as_array().context("the agent tells no peers")?;
        peers.iter().find(|peer| peer["node"] == node).cloned().context("it is no peer")
    }

    /// Its node's name in the log.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn node(&self) -> anyhow::Result<String> {
        let status = self.status()?;
        Ok(status["node"].as_str().context("the agent tells no node")?.to_owned())
    }

    /// Gives it a new WireGuard key.
    ///
    /// # Errors
    /// When that fails.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let output = self.host.spawn(&self.command("rotate")?)?.output(START_LIMIT)?;
        ensure!(
            output.status.success(),
            "writ-agent rotate: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The folder of its keys and its control socket.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The running program.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("the agent does not run")
    }

    fn up(&self) -> anyhow::Result<Command> {
        let plain = self.command("up")?;
        let Some(own) = &self.own_files else { return Ok(plain) };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{}\nexec \"$@\"", own.script), "sh"]);
        command.arg(plain.get_program()).args(plain.get_args()).env("WRIT_HOST_DNS", own.host_dns);
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        Ok(command)
    }

    fn command(&self, act: &str) -> anyhow::Result<Command> {
        let mut command = self.programs.command("writ-agent")?;
        command.arg(act).arg("--state").arg(&self.state);
        if let Some(endpoint) = &self.otlp_endpoint {
            command.env("WRIT_OTLP_ENDPOINT", endpoint);
        }
        Ok(command)
    }
}
