//! `why`: which rule lets this node reach a host, or which nearly does.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use writ_agent::shell::local::{Request, WhyQuestion};
use writ_schema::net::{PortRange, Protocol};
use writ_schema::protocol::Destination;

use super::output::{Output, authorization, items, path, text};
use super::{Asking, NO, ask, show_answer};

/// Services of a host that are asked about when no port is named.
const MAX_SERVICES: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Why {
    /// Name or overlay address of the host, with a port or without: `staging-cluster:443`, `100.64.0.7`, `[fd00::7]:22`.
    #[arg(value_name = "HOST[:PORT]")]
    host: Target,
    /// tcp, udp, icmp or an IANA number. Without it and without a port, everything that the policy lets this node do there.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    pub asking: Asking,
}

/// A host and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub host: String,
    pub port: Option<u16>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || bracketed.is_some_and(|(_, rest)| !(rest.is_empty() || rest.starts_with(':'))) {
            return Err(
                "expected HOST or HOST:PORT, as in `staging-cluster:443` or `[fd00::7]:22`".to_owned()
            );
        }
        let port = port.map(str::parse).transpose();
        let port = port.map_err(|_| "the port is not a number from 0 to 65535".to_owned())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Target {
    /// Whom it names in a network: by address, or by name, with or without the network's own.
    pub fn destination(&self, network_name: &str) -> Destination {
        let host = self.host.trim_end_matches('.');
        match host.parse() {
            Ok(address) => Destination::Address(address),
            Err(_) => {
                let short = host.to_ascii_lowercase();
                let suffix = format!(".{}", network_name.to_ascii_lowercase());
                Destination::Name(short.strip_suffix(&suffix).unwrap_or(&short).to_owned())
            }
        }
    }
}

pub(super) fn run(why: &Why) -> Result<ExitCode> {
    let status = ask(&why.asking.at, &Request::Status)?;
    let destination = why.host.destination(&text(&status["network_name"]));
    let mut answers = Vec::new();
    for (protocol, port) in services(why, &status, &destination)? {
        let question = WhyQuestion { destination: destination.clone(), protocol, port };
        answers.push(ask(&why.asking.at, &Request::Why(question))?);
    }
    let is_allowed = answers.iter().all(|answer| answer["allowed"] == true);
    let answer = json!({ "host": why.host.host, "allowed": is_allowed, "answers": answers });
    show_answer(&why.asking, &answer, print)?;
    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// What to ask about: what was named, else what the netmap says may be reached there, else ICMP, so that rules are named.
fn services(why: &Why, status: &Value, destination: &Destination) -> Result<Vec<(Protocol, u16)>> {
    match (why.protocol, why.host.port) {
        (Some(protocol), None) if protocol.has_ports() => {
            bail!("name the port as well: `{}:PORT`", why.host.host)
        }
        (Some(protocol), port) => return Ok(vec![(protocol, port.unwrap_or(0))]),
        (None, Some(port)) => return Ok(vec![(Protocol::Tcp, port)]),
        (None, None) => {}
    }
    let is_meant = |node: &Value| match destination {
        Destination::Address(address) => items(&node["addresses"]).any(|own| *own == address.to_string()),
        Destination::Name(name) => text(&node["name"]).eq_ignore_ascii_case(name),
    };
    let reachable = items(&status["netmap"]["reachable"]).find(|reachable| is_meant(&reachable["node"]));
    let services = reachable.map(|reachable| items(&reachable["services"])).into_iter().flatten();
    let asked: Vec<_> = services
        .filter_map(|service| {
            let ports: PortRange = text(&service["ports"]).parse().ok()?;
            Some((text(&service["protocol"]).parse().ok()?, ports.first()))
        })
        .take(MAX_SERVICES)
        .collect();
    Ok(if asked.is_empty() { vec![(Protocol::Icmp, 0)] } else { asked })
}

fn print(answer: &Value, out: &mut Output) {
    for answer in items(&answer["answers"]) {
        let port = match answer["port"].as_u64() {
            Some(0) | None => String::new(),
            Some(port) => format!(" port {port}"),
        };
        let verdict = if answer["allowed"] == true { "allowed" } else { "not allowed" };
        out.line(format!("{}{port}: {verdict}", text(&answer["protocol"])));
        out.line(format!("  {}", text(&answer["explanation"])));
        for held in items(&answer["authorizations"]) {
            out.line(format!("  in use {}", authorization(held)));
        }
        if !answer["path"].is_null() {
            out.line(format!("  path: {}", path(&answer["path"])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_with_a_port_and_without() {
        let target = |host: &str, port| Ok(Target { host: host.to_owned(), port });
        for (text, read) in [
            ("staging:443", target("staging", Some(443))),
            ("staging.corp", target("staging.corp", None)),
            ("100.64.0.7:0", target("100.64.0.7", Some(0))),
            ("fd00::7", target("fd00::7", None)),
            ("[fd00::7]", target("fd00::7", None)),
            ("[fd00::7]:22", target("fd00::7", Some(22))),
        ] {
            assert_eq!(text.parse::<Target>(), read, "{text}");
        }
        for bad in ["", ":80", "staging:", "staging:http", "staging:65536", "[fd00::7]x", "[]:1"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_networks_own_name_may_be_left_out() {
        let name = |text: &str| text.parse::<Target>().unwrap().destination("Corp");
        for text in ["staging", "Staging.corp", "staging.corp."] {
            assert_eq!(name(text), Destination::Name("staging".to_owned()), "{text}");
        }
        assert_eq!(name("staging.other"), Destination::Name("staging.other".to_owned()));
        assert_eq!(name("100.64.0.7"), Destination::Address("100.64.0.7".parse().unwrap()));
    }
}
