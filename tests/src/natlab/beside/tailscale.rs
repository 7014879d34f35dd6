//! Tailscale's client with Headscale, whose relay (DERP) and STUN server are inside it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::Product;
use super::foreign::{self, Certificate, LIMIT};
use crate::lab::{Host, Lab, Process, wait_for};

const HTTPS_PORT: u16 = 443;
const STUN_PORT: u16 = 3478;

/// Headscale and clients.
pub(super) struct Tailscale {
    programs: PathBuf,
    certificate: Certificate,
    server: String,
    /// The file that holds the key that nodes join with.
    key: PathBuf,
    nodes: Vec<Node>,
    _headscale: Process,
}

struct Node {
    host: Host,
    socket: PathBuf,
    _daemon: Process,
}

impl Tailscale {
    pub(super) fn start(programs: &Path, lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        let certificate = Certificate::make(lab, host)?;
        let home = lab.directory().join("headscale");
        let server = format!("https://{}", host.at(HTTPS_PORT));
        let file = home.join("config.yaml");
        let headscale = |arguments: &[&str]| -> anyhow::Result<Command> {
            let mut command = foreign::command(&programs.join("headscale"), &home)?;
            certificate.let_trust(&mut command);
            command.args(arguments).arg("--config").arg(&file);
            Ok(command)
        };
        let serve = headscale(&["serve"])?;
        // JSON is YAML.
        std::fs::write(&file, settings(&server, host, &home, &certificate).to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let process = host.spawn(&serve)?;
        wait_for(LIMIT, "Headscale answers", || match process.exit_status() {
            Some(_) => Ok(Err(process.stderr())),
            None => host.connect(host.at(HTTPS_PORT), LIMIT).map(|_| Ok(())),
        })?
        .map_err(|printed| anyhow::anyhow!("Headscale ended: {}", printed.trim()))?;
        foreign::run(host, "headscale users create", &headscale(&["users", "create", "lab"])?)?;
        let made = ["preauthkeys", "create", "--user", "1", "--reusable", "--output", "json"];
        let made = foreign::run(host, "headscale preauthkeys create", &headscale(&made)?)?;
        let made: Value = serde_json::from_str(&made).context("Headscale's answer is not JSON")?;
        let key = home.join("auth-key");
        std::fs::write(&key, made["key"].as_str().context("Headscale made no key")?)?;
        let programs = programs.to_owned();
        Ok(Self { programs, certificate, server, key, nodes: Vec::new(), _headscale: process })
    }

    fn command(&self, socket: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
        let home = socket.parent().context("the client has no folder")?;
        let mut command = foreign::command(&self.programs.join("tailscale"), home)?;
        self.certificate.let_trust(&mut command);
        command.arg("--socket").arg(socket).args(arguments);
        Ok(command)
    }

    fn status(&self, node: &Node) -> anyhow::Result<Value> {
        let command = self.command(&node.socket, &["status", "--json"])?;
        let status = foreign::run(&node.host, "tailscale status", &command)?;
        serde_json::from_str(&status).context("the client's status is not JSON")
    }
}

/// Everything that Headscale would otherwise ask the internet for is off or given; what is left out is as it comes.
fn settings(server: &str, host: &Host, home: &Path, certificate: &Certificate) -> Value {
    json!({
        "server_url": server,
        "listen_addr": host.at(HTTPS_PORT),
        "tls_cert_path": certificate.chain,
        "tls_key_path": certificate.key,
        "noise": { "private_key_path": home.join("noise.key") },
        "prefixes": { "v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48" },
        "derp": {
            "server": {
                "enabled": true,
                "region_id": 999,
                "region_code": "lab",
                "region_name": "Lab",
                "stun_listen_addr": host.at(STUN_PORT),
                "private_key_path": home.join("derp.key"),
                "automatically_add_embedded_derp_region": true,
                "ipv4": host.address(),
            },
            "urls": [],
            "auto_update_enabled": false,
        },
        "disable_check_updates": true,
        "database": { "type": "sqlite", "sqlite": { "path": home.join("db.sqlite") } },
        "unix_socket": home.join("headscale.sock"),
        "dns": { "magic_dns": false, "override_local_dns": false, "base_domain": "lab.example" },
        "logtail": { "enabled": false },
    })
}

impl Product for Tailscale {
    fn join(&mut self, lab: &Lab, host: &Host, name: &str) -> anyhow::Result<IpAddr> {
        let home = lab.directory().join(name);
        let socket = home.join("tailscaled.sock");
        let mut daemon = foreign::command(&self.programs.join("tailscaled"), &home)?;
        self.certificate.let_trust(&mut daemon);
        daemon.arg("--no-logs-no-support").arg("--statedir").arg(&home).arg("--socket").arg(&socket);
        let daemon = host.spawn(&daemon)?;
        wait_for(LIMIT, "tailscaled has its socket", || {
            if socket.exists() { Ok(()) } else { Err(daemon.stderr()) }
        })?;
        let up = ["up", "--login-server", &self.server, "--hostname", name, "--accept-dns=false"];
        let mut up = self.command(&socket, &up)?;
        up.arg(format!("--auth-key=file:{}", self.key.display())).args(["--timeout", "30s"]);
        foreign::run(host, "tailscale up", &up)
            .with_context(|| format!("the client of {name}: {}", tail(&daemon.stderr())))?;
        let node = Node { host: host.clone(), socket, _daemon: daemon };
        let address = address(&self.status(&node)?).with_context(|| format!("{name} has no address"))?;
        self.nodes.push(node);
        Ok(address)
    }

    fn wait_ready(&self) -> anyhow::Result<()> {
        let others = self.nodes.len().saturating_sub(1);
        for node in &self.nodes {
            wait_for(LIMIT, "a client of Tailscale knows all others", || {
                let ready = self.status(node).and_then(|status| is_ready(&status, others));
                ready.map_err(|error| format!("{error:#}"))
            })?;
        }
        Ok(())
    }
}

/// The IPv4 address of the client that tells its status.
fn address(status: &Value) -> Option<IpAddr> {
    let addresses = status["Self"]["TailscaleIPs"].as_array()?;
    addresses.iter().filter_map(|address| address.as_str()?.parse().ok()).find(IpAddr::is_ipv4)
}

/// It is connected to a relay, and knows so many others that are too.
fn is_ready(status: &Value, others: usize) -> anyhow::Result<()> {
    let has_relay = |node: &Value| node["Relay"].as_str().is_some_and(|relay| !relay.is_empty());
    ensure!(status["BackendState"] == "Running", "it is {}", status["BackendState"]);
    ensure!(has_relay(&status["Self"]), "it has no relay");
    let known = status["Peer"]
        .as_object()
        .map_or(0, |peers| peers.values().filter(|peer| peer["Online"] == true && has_relay(peer)).count());
    ensure!(known >= others, "of {others} others {known} are online and have a relay");
    Ok(())
}

/// The last lines of what a program printed.
fn tail(printed: &str) -> String {
    let lines: Vec<_> = printed.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "BackendState": "Running",
            "Self": { "TailscaleIPs": ["fd7a:115c:a1e0::1", "100.64.0.1"], "Relay": "lab" },
            "Peer": {
                "nodekey:a": { "Online": true, "Relay": "lab" },
                "nodekey:b": { "Online": true, "Relay": "" },
            },
        })
    }

    #[test]
    fn a_client_is_ready_when_all_others_can_be_relayed_to() {
        let mut status = status();
        assert!(is_ready(&status, 1).is_ok());
        assert_eq!(
            is_ready(&status, 2).unwrap_err().to_string(),
            "of 2 others 1 are online and have a relay"
        );
        status["Peer"]["nodekey:b"]["Relay"] = json!("lab");
        assert!(is_ready(&status, 2).is_ok());
        status["Self"]["Relay"] = json!("");
        assert!(is_ready(&status, 2).is_err());
        assert!(is_ready(&json!({ "BackendState": "NeedsLogin" }), 0).is_err());
    }

    #[test]
    fn the_address_is_the_ipv4_one() {
        assert_eq!(address(&status()), Some([100, 64, 0, 1].into()));
        assert_eq!(address(&json!({})), None);
    }
}
