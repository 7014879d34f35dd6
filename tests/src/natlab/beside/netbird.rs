//! NetBird's agent with its server, which has management, signal, relay, STUN and an identity provider inside. The server speaks
//! plain HTTP, as it does behind the proxy that it is usually put behind.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::Product;
use super::foreign::{self, LIMIT};
use crate::lab::{Host, Lab, Process, wait_for};
use crate::parts::Web;

const HTTP_PORT: u16 = 80;
const STUN_PORT: u16 = 3478;
const METRICS_PORT: u16 = 9090;
const HEALTH_PORT: u16 = 9000;

/// The server and agents.
pub(super) struct NetBird {
    programs: PathBuf,
    server: String,
    /// The file that holds the key that nodes join with.
    key: PathBuf,
    nodes: Vec<Node>,
    _server: Process,
}

struct Node {
    host: Host,
    home: PathBuf,
    _daemon: Process,
}

impl NetBird {
    pub(super) fn start(programs: &Path, lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        let home = lab.directory().join("netbird-server");
        let server = format!("http://{}", host.at(HTTP_PORT));
        let file = home.join("config.yaml");
        let mut serve = foreign::command(&programs.join("netbird-server"), &home)?;
        serve.arg("--config").arg(&file);
        serve.env("NB_SETUP_PAT_ENABLED", "true").env("NB_DISABLE_GEOLOCATION", "true");
        // JSON is YAML.
        std::fs::write(&file, settings(&server, host, &home).to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let process = host.spawn(&serve)?;
        let web = Web::new(host, server.clone())?;
        wait_for(LIMIT, "NetBird's server answers", || match process.exit_status() {
            Some(_) => Ok(Err(process.stderr())),
            None => match web.get("/api/instance") {
                Ok(page) if page.status == 200 => Ok(Ok(())),
                Ok(page) => Err(format!("{} {}", page.status, page.body)),
                Err(error) => Err(error.to_string()),
            },
        })?
        .map_err(|printed| anyhow::anyhow!("NetBird's server ended: {}", printed.trim()))?;
        let key = home.join("setup-key");
        std::fs::write(&key, setup_key(&web)?)?;
        let programs = programs.to_owned();
        Ok(Self { programs, server, key, nodes: Vec::new(), _server: process })
    }

    fn command(&self, home: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = foreign::command(&self.programs.join("netbird"), home)?;
        command.args(arguments).arg(format!("--daemon-addr=unix://{}/agent.sock", home.display()));
        command.env("NB_STATE_DIR", home);
        Ok(command)
    }

    fn status(&self, node: &Node) -> anyhow::Result<Value> {
        let command = self.command(&node.home, &["status", "--json"])?;
        let status = foreign::run(&node.host, "netbird status", &command)?;
        serde_json::from_str(&status).context("the agent's status is not JSON")
    }
}

/// Makes the first administrator, and by them a key that every node joins with.
fn setup_key(web: &Web) -> anyhow::Result<String> {
    let post = |path: &str, token: Option<&str>, body: Value, wanted: &str| -> anyhow::Result<String> {
        let page = web.post(path, token, body.to_string())?;
        ensure!(page.status < 300, "NetBird's server refuses {path}: {} {}", page.status, page.body);
        let answer: Value = serde_json::from_str(&page.body).context("its answer is not JSON")?;
        Ok(answer[wanted].as_str().with_context(|| format!("its answer has no {wanted}"))?.to_owned())
    };
    let administrator = json!({
        "email": "admin@lab.example", "password": "Correct-horse-9-battery", "name": "Administrator",
        "create_pat": true, "pat_expire_in": 1,
    });
    let token = post("/api/setup", None, administrator, "personal_access_token")?;
    let key = json!({
        "name": "lab", "type": "reusable", "expires_in": 86400, "auto_groups": [], "usage_limit": 0,
    });
    post("/api/setup-keys", Some(&token), key, "key")
}

/// Everything that the server would otherwise ask the internet for is off; what is left out is as it comes.
fn settings(server: &str, host: &Host, home: &Path) -> Value {
    json!({
        "server": {
            "listenAddress": format!(":{HTTP_PORT}"),
            "exposedAddress": server,
            "stunPorts": [STUN_PORT],
            "metricsPort": METRICS_PORT,
            "healthcheckAddress": host.at(HEALTH_PORT),
            "logLevel": "info",
            "logFile": "console",
            "authSecret": "a secret of the lab",
            "dataDir": home,
            "disableAnonymousMetrics": true,
            "disableGeoliteUpdate": true,
            "auth": { "issuer": format!("{server}/oauth2") },
            "store": { "engine": "sqlite" },
        },
    })
}

impl Product for NetBird {
    fn join(&mut self, lab: &Lab, host: &Host, name: &str) -> anyhow::Result<IpAddr> {
        let home = lab.directory().join(name);
        let daemon = self.command(&home, &["service", "run", "--log-file", "console"])?;
        let daemon = host.spawn(&daemon)?;
        let node = Node { host: host.clone(), home, _daemon: daemon };
        let socket = node.home.join("agent.sock");
        wait_for(LIMIT, "NetBird's agent has its socket", || {
            if socket.exists() { Ok(()) } else { Err(node._daemon.stderr()) }
        })?;
        let up = ["up", "--management-url", &self.server, "--hostname", name, "--disable-dns"];
        let mut up = self.command(&node.home, &up)?;
        up.arg("--setup-key-file").arg(&self.key);
        foreign::run(host, "netbird up", &up).with_context(|| format!("the agent of {name}"))?;
        let address = wait_for(LIMIT, "NetBird's agent has an address", || {
            let status = self.status(&node).map_err(|error| format!("{error:#}"))?;
            address(&status).ok_or_else(|| status.to_string())
        })?;
        self.nodes.push(node);
        Ok(address)
    }

    fn wait_ready(&self) -> anyhow::Result<()> {
        let others = self.nodes.len().saturating_sub(1);
        for node in &self.nodes {
            wait_for(LIMIT, "an agent of NetBird knows all others", || {
                let ready = self.status(node).and_then(|status| is_ready(&status, others));
                ready.map_err(|error| format!("{error:#}"))
            })?;
        }
        Ok(())
    }
}

/// The IPv4 address of the agent that tells its status, which comes with the length of the network's prefix.
fn address(status: &Value) -> Option<IpAddr> {
    let text = status["netbirdIp"].as_str()?;
    text.split('/').next()?.parse().ok().filter(IpAddr::is_ipv4)
}

/// It is connected to all servers, and knows so many others.
fn is_ready(status: &Value, others: usize) -> anyhow::Result<()> {
    for server in ["management", "signal"] {
        ensure!(status[server]["connected"] == true, "it is not connected to {server}");
    }
    ensure!(status["relays"]["available"].as_u64().unwrap_or(0) > 0, "it has no relay");
    let known = status["peers"]["total"].as_u64().unwrap_or(0);
    ensure!(known >= u64::try_from(others)?, "of {others} others it knows {known}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "netbirdIp": "100.90.1.2/16",
            "management": { "connected": true },
            "signal": { "connected": true },
            "relays": { "available": 2 },
            "peers": { "total": 2, "connected": 0 },
        })
    }

    #[test]
    fn an_agent_is_ready_when_it_knows_all_others_and_has_a_relay() {
        let mut status = status();
        assert!(is_ready(&status, 2).is_ok());
        assert_eq!(is_ready(&status, 3).unwrap_err().to_string(), "of 3 others it knows 2");
        status["relays"]["available"] = json!(0);
        assert!(is_ready(&status, 2).is_err());
        assert!(is_ready(&json!({}), 0).is_err());
    }

    #[test]
    fn the_address_is_read_without_its_prefix() {
        assert_eq!(address(&status()), Some([100, 90, 1, 2].into()));
        assert_eq!(address(&json!({ "netbirdIp": "N/A" })), None);
    }
}
