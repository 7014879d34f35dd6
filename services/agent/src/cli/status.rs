//! `status` and `peers`.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use writ_agent::shell::local::Request;

use super::exit_node::print_chosen;
use super::output::{Output, authorization, bytes, items, path, text};
use super::{Asking, ask, show_answer};

/// The agent at one moment.
pub(super) fn print(status: &Value, out: &mut Output) {
    out.line(format!(
        "{}.{}  {}  {}",
        text(&status["name"]),
        text(&status["network_name"]),
        text(&status["addresses"][0]),
        text(&status["addresses"][1]),
    ));
    let since = text(&status["session_since"]);
    match status["session"] == "connected" {
        true => out.line(format!(
            "connected since {since}; log verified up to record {}",
            status["checkpoint_size"]
        )),
        false => out.line(format!("not connected since {since}: {}", text(&status["session_why"]))),
    }
    match (status["relay"] == true, status["relay_transport"].as_str()) {
        (true, Some("tls")) => out.line(format!("relay {} over TLS", text(&status["relay_address"]))),
        (true, _) => out.line(format!("relay {} over UDP", text(&status["relay_address"]))),
        (false, _) => out.line("relay: no answer; see `writ-agent check`"),
    }
    if let Some(nat) = nat(&status["nat"]) {
        out.line(format!("NAT: {nat}"));
    }
    print_host_dns(&status["host_dns"], out);
    if let Some(why) = status["storage_failure"].as_str() {
        out.line(format!("NOTHING NEW IS TAKEN: what is verified cannot be stored: {why}"));
    }
    if let Some(since) = status["flood_since"].as_str() {
        out.line(format!(
            "FLOOD of handshakes since {since}, {} dropped: peers are not affected, who is none yet may wait",
            status["counters"]["handshakes_limited"]
        ));
    }
    print_witnesses(&status["witnesses"], out);
    print_routes(status, out);
    print_log_trouble(status, out);
    for peer in items(&status["peers"]) {
        print_peer(peer, out);
    }
    for denial in items(&status["denials"]) {
        out.gap();
        out.line(format!(
            "denied {}  {} {} port {}, record {}: {}",
            text(&denial["at"]),
            text(&denial["address"]),
            text(&denial["protocol"]),
            denial["port"],
            denial["record"],
            text(&denial["explanation"]),
        ));
    }
    for refusal in items(&status["refusals"]) {
        out.gap();
        out.line(format!("not believed {}: {}", text(&refusal["time"]), text(&refusal["reason"])));
    }
}

/// How the policy that this node was given is met.
fn print_witnesses(witnesses: &Value, out: &mut Output) {
    if let Some(why) = witnesses["why_not"].as_str() {
        out.line(format!("NO NEW CONNECTIONS: {why}"));
        out.line("  Live ones go on until they expire. How the witnesses are doing: writ log witnesses");
    } else if witnesses["is_met"] == true {
        let names: Vec<_> = items(&witnesses["cosigned_by"]).map(text).collect();
        out.line(format!(
            "witnesses have cosigned {} records at {}: {}",
            witnesses["size"],
            text(&witnesses["cosigned_at"]),
            names.join(", ")
        ));
    }
}

/// Of what kind the NAT in front of this host is, where that is known and matters.
fn nat(nat: &Value) -> Option<&'static str> {
    match (nat["mapping"].as_str()?, nat["ports"].as_str()) {
        ("endpoint_independent", _) => Some("easy, one port for all destinations"),
        ("destination_dependent", Some("near")) => Some("hard, a port for each destination, drawn from few"),
        ("destination_dependent", _) => Some("hard, a port for each destination"),
        _ => None,
    }
}

/// How this host's programs find the network's names.
fn print_host_dns(host_dns: &Value, out: &mut Output) {
    let server = text(&host_dns["server"]);
    match (host_dns["state"].as_str(), host_dns["by"].as_str()) {
        (Some("set_up"), Some("systemd_resolved")) => {
            let domains: Vec<_> = items(&host_dns["domains"]).map(text).collect();
            out.line(format!("names: systemd-resolved asks {server} about {}", domains.join(", ")));
        }
        (Some("set_up"), _) => {
            let upstreams: Vec<_> = items(&host_dns["upstreams"]).map(text).collect();
            let upstreams = upstreams.join(", ");
            out.line(format!(
                "names: /etc/resolv.conf leads to {server}, which asks {upstreams} for others'"
            ));
        }
        (Some("not_set_up"), _) => {
            let (why, remedy) = (text(&host_dns["why"]), text(&host_dns["remedy"]));
            out.line(format!("names: this host's programs do not find them: {why}; {remedy}"));
        }
        (Some("off"), _) => out.line("names: this host's resolver is left alone, as asked"),
        _ => out.line("names: being set up"),
    }
}

/// What lies behind others, and what behind this node.
fn print_routes(status: &Value, out: &mut Output) {
    let reached: Vec<_> = items(&status["reached_routes"]).map(text).collect();
    if !reached.is_empty() {
        out.line(format!("reached through other nodes: {}", reached.join(", ")));
    }
    print_chosen(&status["exit_node"], out);
    for found in items(&status["dropping_chains"]) {
        let (chain, table) = (text(&found["chain"]), text(&found["table"]));
        out.line(format!("THIS HOST'S FIREWALL DROPS what it is to carry: the chain {chain} of {table}"));
        out.line(format!("  to let it pass: {}", text(&found["remedy"])));
    }
    for route in items(&status["advertised_routes"]) {
        let prefix = text(&route["prefix"]);
        out.line(match route["approved"] == true {
            true => format!("carries packets for {prefix}"),
            false => {
                format!("offers to carry packets for {prefix}; waits for approval by policy or administrator")
            }
        });
    }
}

/// The peers, and who else could be one.
pub(super) fn peers(asking: &Asking) -> Result<ExitCode> {
    let status = ask(&asking.at, &Request::Status)?;
    let is_peer = |node: &Value| items(&status["peers"]).any(|peer| peer["node"] == *node);
    let reachable: Vec<_> = items(&status["netmap"]["reachable"])
        .filter(|reachable| !is_peer(&reachable["node"]["node"]))
        .collect();
    let answer = json!({ "peers": status["peers"], "reachable": reachable });
    show_answer(asking, &answer, print_peers)
}

fn print_peers(answer: &Value, out: &mut Output) {
    for peer in items(&answer["peers"]) {
        print_peer(peer, out);
    }
    for reachable in items(&answer["reachable"]) {
        let node = &reachable["node"];
        let services: Vec<_> = items(&reachable["services"])
            .map(|service| format!("{} {}", text(&service["protocol"]), text(&service["ports"])))
            .collect();
        out.gap();
        out.line(format!(
            "{}  {}  not in use; may be reached on {}",
            text(&node["name"]),
            text(&node["addresses"][0]),
            services.join(", "),
        ));
    }
    if items(&answer["peers"]).chain(items(&answer["reachable"])).next().is_none() {
        out.line(
            "nobody may be reached from here, and nobody reaches this node; see `writ-agent why HOST:PORT`",
        );
    }
}

fn print_peer(peer: &Value, out: &mut Output) {
    let name = if peer["name"].is_null() { text(&peer["node"]) } else { text(&peer["name"]) };
    out.gap();
    out.line(format!("{name}  {}", text(&peer["addresses"][0])));
    out.line(format!("  path: {}", path(&peer["path"])));
    let handshake = peer["last_handshake"].as_str().unwrap_or("none yet");
    out.line(format!(
        "  sent {}, received {}; last handshake {handshake}",
        bytes(&peer["bytes_sent"]),
        bytes(&peer["bytes_received"]),
    ));
    for held in items(&peer["authorizations"]) {
        out.line(format!("  {}", authorization(held)));
    }
}

/// What is wrong with the log, as this node and its peers see it.
fn print_log_trouble(status: &Value, out: &mut Output) {
    if let Some(found) = status.get("split_view") {
        out.gap();
        out.line(format!("SPLIT VIEW, found {}: {}", text(&found["at"]), text(&found["what"])));
        out.line("  New connections are refused; live ones go on until they expire.");
        if found["is_proven"] == true {
            out.line(format!("  Anyone can check the evidence: writ verify {}", text(&found["evidence"])));
        } else {
            out.line(format!(
                "  Both checkpoints are in {}; they do not prove it by themselves.",
                text(&found["evidence"])
            ));
        }
        out.line("  Tell the network's administrator. Once it is decided: writ-agent trust reset");
    }
    for unproven in status["unproven_checkpoints"].as_array().into_iter().flatten() {
        if unproven["is_suspicious"] == true {
            out.gap();
            out.line(format!(
                "suspicious: {} holds a checkpoint of {} records, signed by the log, that the control plane has not proven since {}: {}",
                text(&unproven["peer"]),
                unproven["size"],
                text(&unproven["since"]),
                unproven["refusal"].as_str().unwrap_or("it does not answer"),
            ));
        }
    }
}
