//! `trace`: a packet through the filter.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;
use writ_agent::engine::FiveTuple;
use writ_agent::shell::local::Request;
use writ_schema::net::Protocol;
use writ_schema::protocol::Destination;

use super::output::{Output, authorization, items, text};
use super::why::Target;
use super::{Asking, NO, ask, show_answer};

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Where the packet comes from: name or overlay address, with a port or without. `self` is this node.
    #[arg(value_name = "SOURCE[:PORT]")]
    source: Target,
    /// Where it goes.
    #[arg(value_name = "DESTINATION[:PORT]")]
    destination: Target,
    /// tcp, udp, icmp or an IANA number.
    #[arg(long, default_value = "tcp")]
    protocol: Protocol,
    /// It is a packet in the middle of a connection, not the one that begins it.
    #[arg(long)]
    established: bool,
    #[command(flatten)]
    pub asking: Asking,
}

pub(super) fn run(trace: &Trace) -> Result<ExitCode> {
    let status = ask(&trace.asking.at, &Request::Status)?;
    let destination = resolve(&status, &trace.destination, None)?;
    let source = resolve(&status, &trace.source, Some(destination))?;
    // Which address of a name was meant shows in the other end's.
    let destination = resolve(&status, &trace.destination, Some(source))?;
    if source.is_ipv4() != destination.is_ipv4() {
        bail!("{source} and {destination} are of different families: no packet goes from one to the other");
    }
    let tuple = FiveTuple {
        source,
        source_port: trace.source.port.unwrap_or(0),
        destination,
        destination_port: trace.destination.port.unwrap_or(0),
        protocol: trace.protocol,
        begins: !trace.established,
    };
    let answer = ask(&trace.asking.at, &Request::Trace(tuple))?;
    show_answer(&trace.asking, &answer, print)?;
    Ok(if answer["verdict"] == "admitted" { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// The address that a target names: of the family of the other end, if that is known.
fn resolve(status: &Value, target: &Target, other: Option<IpAddr>) -> Result<IpAddr> {
    let name = match target.destination(&text(&status["network_name"])) {
        Destination::Address(address) => return Ok(address),
        Destination::Name(name) => name,
    };
    let own = &status["addresses"];
    let known = items(&status["netmap"]["reachable"])
        .map(|reachable| (&reachable["node"]["name"], &reachable["node"]["addresses"]))
        .chain(items(&status["peers"]).map(|peer| (&peer["name"], &peer["addresses"])))
        .chain([(&status["name"], own)]);
    let mut found = known.filter(|(known, _)| text(known).eq_ignore_ascii_case(&name));
    let addresses = if name == "self" { Some(own) } else { found.next().map(|(_, addresses)| addresses) };
    let addresses =
        addresses.into_iter().flat_map(items).filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
    let mut of_family =
        addresses.filter(|address| other.is_none_or(|other| other.is_ipv4() == address.is_ipv4()));
    let Some(address) = of_family.next() else {
        bail!("`{name}` is no node that this one knows: name it by its overlay address")
    };
    Ok(address)
}

fn print(trace: &Value, out: &mut Output) {
    out.line(format!("{} ({}): {}", text(&trace["verdict"]), text(&trace["direction"]), text(&trace["why"])));
    if !trace["authorization"].is_null() {
        out.line(format!("  under {}", authorization(&trace["authorization"])));
    }
    let flow = &trace["flow"];
    if !flow.is_null() {
        let opener = if flow["side"] == "source" { "this node" } else { "the peer" };
        out.line(format!(
            "  flow opened by {opener} to port {}, idle for {} s",
            flow["service"], flow["idle_seconds"]
        ));
    }
    for grant in items(&trace["grants"]) {
        if let Some(lacks) = grant["lacks"].as_str() {
            out.line(format!("  passed over: {}: {lacks}", authorization(&grant["authorization"])));
        }
    }
}
