//! Judges what was found out.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use writ_relay::wire::DATA_HEADER_BYTES;
use writ_schema::protocol::MAX_SESSION_TOKEN_SECONDS;

use super::{Facts, Finding, Health};
use crate::engine::{EngineStatus, MIN_MTU, MTU, NatKind, Ports, RelayTransport};
use crate::shell::host_dns::{HostDnsStatus, Way};
use crate::shell::status::{AgentStatus, SessionStatus};

/// A clock that is off by this much is worth a look.
const NOTABLE_SECONDS: u64 = 5;
/// What carrying a packet adds to it: IPv4 and UDP headers, WireGuard's, and the relay's.
const OVERHEAD: usize = 20 + 8 + 32 + DATA_HEADER_BYTES;

/// Where a query may go instead of to the agent.
const ELSEWHERE: &str = "see whom this host asks: `resolvectl status`, /etc/resolv.conf, and the line `hosts:` of /etc/nsswitch.conf";

/// One finding for each thing that was looked at, in the order in which they stand upon each other.
pub fn diagnose(facts: &Facts) -> Vec<Finding> {
    let engine = &facts.status.engine;
    let mut findings = vec![clock(facts)];
    findings.extend(dns(facts));
    findings.push(names(facts));
    findings.extend([session(&facts.status), log(&facts.status), udp(engine), nat(engine), relay(engine)]);
    findings.extend(mtu(facts));
    findings.extend(forward(facts));
    findings
}

fn finding(check: &'static str, health: Health, found: impl Into<String>) -> Finding {
    Finding { check, health, found: found.into(), remedy: None }
}

impl Finding {
    fn with(self, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

fn clock(facts: &Facts) -> Finding {
    let ahead = match &facts.control_plane {
        Ok(answer) => answer.clock_ahead_seconds,
        Err(_) => {
            return finding("clock", Health::Attention, "not compared: the control plane did not answer");
        }
    };
    let found = match ahead {
        0 => "the same as the control plane's, within a second".to_owned(),
        1.. => format!("{ahead} s behind the control plane's"),
        _ => format!("{} s ahead of the control plane's", ahead.unsigned_abs()),
    };
    let health = match ahead.unsigned_abs() {
        seconds if seconds >= MAX_SESSION_TOKEN_SECONDS => Health::Failed,
        NOTABLE_SECONDS.. => Health::Attention,
        _ => return finding("clock", Health::Ok, found),
    };
    finding("clock", health, found)
        .with("set the clock, and keep it right by NTP (`timedatectl set-ntp true`): sessions and authorizations end by it")
}

fn dns(facts: &Facts) -> Option<Finding> {
    let (name, found) = facts.name.as_ref()?;
    Some(match found {
        Ok(addresses) if !addresses.is_empty() => {
            let addresses: BTreeSet<_> = addresses.iter().map(SocketAddr::ip).collect();
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            finding("dns", Health::Ok, format!("{name} is {}", addresses.join(", ")))
        }
        Ok(_) => finding("dns", Health::Failed, format!("{name}, the control plane, has no address"))
            .with("look at this host's resolver (`resolvectl status`, /etc/resolv.conf) and at the name's DNS entry"),
        Err(error) => {
            finding("dns", Health::Failed, format!("{name}, the control plane, cannot be resolved: {error}"))
                .with("look at this host's resolver (`resolvectl status`, /etc/resolv.conf)")
        }
    })
}

/// Whether this host's programs find the network's names: what was set up, and whether a query gets there.
fn names(facts: &Facts) -> Finding {
    let reaches = facts.names_reach_agent == Some(true);
    let found = |how: &str, reaches: bool| match reaches {
        true => format!("{how}; a query of this host reaches the agent"),
        false => format!("{how}, but a query of this host does not reach the agent"),
    };
    match &facts.status.host_dns {
        HostDnsStatus::SetUp { by, server, .. } => {
            let how = match by {
                Way::SystemdResolved => format!("systemd-resolved asks {server}"),
                Way::ResolvConf => format!("/etc/resolv.conf leads to {server}"),
            };
            let health = if reaches { Health::Ok } else { Health::Failed };
            let finding = finding("names", health, found(&how, reaches));
            if reaches { finding } else { finding.with(ELSEWHERE) }
        }
        HostDnsStatus::NotSetUp { .. } | HostDnsStatus::Off | HostDnsStatus::Pending if reaches => {
            finding("names", Health::Ok, found("set up by hand", true))
        }
        HostDnsStatus::NotSetUp { why, remedy } => {
            finding("names", Health::Attention, format!("this host's programs do not find them: {why}"))
                .with(remedy.clone())
        }
        HostDnsStatus::Off => {
            finding("names", Health::Ok, "this host's resolver is left alone, as asked (`--host-dns off`)")
        }
        HostDnsStatus::Pending => {
            finding("names", Health::Attention, "being set up").with("ask again in a moment")
        }
    }
}

fn session(status: &AgentStatus) -> Finding {
    match status.session {
        SessionStatus::Connected => {
            finding("session", Health::Ok, format!("connected since {}", status.session_since))
        }
        SessionStatus::Connecting => {
            let why = status.session_why.as_deref().unwrap_or("it was never reached");
            finding("session", Health::Failed, format!("no session with the control plane: {why}"))
                .with("see that writd runs and that this host reaches it over TCP; what is authorized goes on until it expires")
        }
    }
}

fn log(status: &AgentStatus) -> Finding {
    if let Some(found) = &status.split_view {
        return finding("log", Health::Failed, format!("SPLIT VIEW: {}", found.what))
            .with("tell the network's administrator: new connections are refused until that is decided");
    }
    if let Some(why) = &status.storage_failure {
        return finding("log", Health::Failed, format!("what is verified cannot be stored: {why}"))
            .with("make room on the disk of the agent's folder, and see that it can be written");
    }
    if status.unproven_checkpoints.iter().any(|unproven| unproven.is_suspicious) {
        return finding(
            "log",
            Health::Attention,
            "a peer holds a checkpoint that the control plane does not prove",
        )
        .with("see `writ-agent status`, and tell the network's administrator if it lasts");
    }
    finding("log", Health::Ok, format!("verified up to record {}", status.checkpoint_size))
}

fn udp(engine: &EngineStatus) -> Finding {
    let answering = engine.stun.iter().filter(|server| server.observed.is_some()).count();
    let by_relay = engine.relay && engine.relay_transport == Some(RelayTransport::Udp);
    if answering > 0 || by_relay {
        return finding("udp", Health::Ok, "goes out and comes back");
    }
    let remedy = "let UDP out to the relay's port (3478 unless it was set otherwise), best to everywhere: \
                  without it no path is direct";
    match engine.relay_address {
        None => finding("udp", Health::Attention, "not tried: no relay is known before the first session"),
        Some(address) => finding(
            "udp",
            Health::Failed,
            format!("nothing answers over UDP, not the relay at {address} either"),
        )
        .with(remedy),
    }
}

fn nat(engine: &EngineStatus) -> Finding {
    let hardest = "paths are direct only to peers that are easy to reach; forwarding a UDP port to this host (`--port`), or \
                   IPv6, makes them direct to all";
    let seen = || engine.stun.iter().filter_map(|server| server.observed).filter(SocketAddr::is_ipv4);
    let first = seen().next().map(|address| address.to_string()).unwrap_or_default();
    match engine.nat {
        NatKind::Unknown if first.is_empty() => {
            finding("nat", Health::Attention, "unknown: no STUN server has answered over IPv4")
                .with("see the line on UDP")
        }
        NatKind::Unknown => finding(
            "nat",
            Health::Ok,
            format!("there is one, seen as {first}; of what kind cannot be told from one server"),
        ),
        NatKind::None => finding("nat", Health::Ok, format!("none: this host is seen as itself, {first}")),
        NatKind::EndpointIndependent => {
            finding("nat", Health::Ok, format!("an easy one: every server sees this host as {first}"))
        }
        NatKind::DestinationDependent { ports } => {
            let count = seen().collect::<BTreeSet<_>>().len();
            let how = match ports {
                Ports::Near => "near each other, so that easy NATs can guess the next",
                Ports::Scattered => "far from each other, so that nobody can guess the next",
            };
            finding(
                "nat",
                Health::Attention,
                format!("a hard one: servers see this host under {count} addresses, {how}"),
            )
            .with(hardest)
        }
    }
}

fn relay(engine: &EngineStatus) -> Finding {
    match (engine.relay_address, engine.relay, engine.relay_transport) {
        (None, ..) => finding("relay", Health::Attention, "none is known before the first session")
            .with("see the line on the session"),
        (Some(address), true, Some(RelayTransport::Tls)) => {
            finding("relay", Health::Attention, format!("{address} is reached over TLS, because UDP does not pass"))
                .with("see the line on UDP: over TLS one lost packet delays those after it")
        }
        (Some(address), true, _) => finding("relay", Health::Ok, format!("{address} answers over UDP")),
        (Some(address), false, _) => finding("relay", Health::Failed, format!("{address} does not answer"))
            .with("see that writd's relay address ([relay] in its configuration) is right and reachable from here"),
    }
}

/// Whether this host's own firewall lets pass what it carries for others.
fn forward(facts: &Facts) -> Option<Finding> {
    let dropping = facts.dropping_chains.as_ref()?;
    let Some(first) = dropping.first() else {
        return Some(finding("forward", Health::Ok, "this host's firewall drops nothing of what it carries"));
    };
    let chains: Vec<_> = dropping.iter().map(|found| format!("{} of {}", found.chain, found.table)).collect();
    let found = format!("this host's firewall drops what it is to carry, in the chain {}", chains.join(", "));
    Some(finding("forward", Health::Failed, found).with(first.remedy.clone()))
}

fn mtu(facts: &Facts) -> Option<Finding> {
    let (path, needed) = (facts.path_mtu?, MTU + OVERHEAD);
    let found = format!("{path} bytes pass on the way to the relay, and the longest packets take {needed}");
    let path = usize::try_from(path).unwrap_or(usize::MAX);
    if path >= needed {
        return Some(finding("mtu", Health::Ok, found));
    }
    if path >= MIN_MTU + OVERHEAD {
        let found = format!("{found}: shorter ones are sent, as long as each path carries");
        return Some(finding("mtu", Health::Ok, found));
    }
    Some(finding("mtu", Health::Attention, format!("{found}: they are cut in two")).with(
        "raise the MTU of this host's interface (another VPN's, perhaps), or let ICMP `fragmentation needed` through",
    ))
}

#[cfg(test)]
mod tests;
