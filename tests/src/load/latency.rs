//! What a person feels: two real agents, and the first packet of a connection that nobody has asked for yet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use writ_schema::Event;

use super::figure::{Figure, percentile};
use crate::lab::{Lab, wait_for};
use crate::parts::{Agent, ControlPlane, Operator, Owner, Programs, Settings};

/// Connections, each of which needs an authorization of its own.
const CONNECTIONS: u16 = 40;
const FIRST_PORT: u16 = 9000;
const LIMIT: Duration = Duration::from_secs(10);

/// From a packet to the record of its authorization, and to the open connection.
pub(super) fn measure(programs: &Programs) -> anyhow::Result<Vec<Figure>> {
    let lab = Lab::new("latency")?;
    let (host, client, server) = (lab.host("control")?, lab.host("client")?, lab.host("server")?);
    let data = lab.directory().join("data");
    let control = ControlPlane::create(programs, &host, &data, Settings::at("figures", host.address()))?;
    let operator = Operator::sign_in(&control)?;
    operator.set_policy(&policy())?;
    let ticket = operator.enrolment_key(Owner::Tag("tag:load"), 2)?;
    let join = |host, name| Agent::join(programs, host, &lab.directory().join(name), name, &ticket);
    let (_asking, asked) = (join(&client, "client")?, join(&server, "server")?);
    let ports = FIRST_PORT..=FIRST_PORT.saturating_add(CONNECTIONS);
    let servers: Vec<_> = ports.clone().map(|port| server.serve_echo(port)).collect::<Result<_, _>>()?;

    // The first connection also makes the tunnel, which later ones find there.
    let mut starts = Vec::new();
    let mut opened = Vec::new();
    for port in ports.skip(1) {
        if starts.is_empty() {
            drop(client.connect(asked.at(FIRST_PORT)?, LIMIT)?);
        }
        let (target, start, clock) =
            (SocketAddr::new(asked.address()?, port), Timestamp::now(), Instant::now());
        drop(client.connect(target, LIMIT)?);
        opened.push(clock.elapsed());
        starts.push((port, start));
    }
    drop(servers);
    let mut recorded = wait_for(LIMIT, "every authorization is in the log", || recorded(&control, &starts))?;
    Ok(vec![
        Figure::time("packet_to_authorization_p50", percentile(&mut recorded, 0.5)),
        Figure::time("packet_to_authorization_p99", percentile(&mut recorded, 0.99)),
        Figure::time("packet_to_open_connection_p50", percentile(&mut opened, 0.5)),
        Figure::time("packet_to_open_connection_p99", percentile(&mut opened, 0.99)),
    ])
}

/// A rule for each port: what is authorized together would be asked for once.
fn policy() -> String {
    let rules: String = (FIRST_PORT..=FIRST_PORT.saturating_add(CONNECTIONS))
        .map(|port| format!(r#"{{ "action": "accept", "src": ["tag:load"], "dst": ["tag:load:{port}"] }},"#))
        .collect();
    format!(r#"{{ "tagOwners": {{ "tag:load": [] }}, "acls": [{rules}] }}"#)
}

/// From each start to the record that authorizes its port.
fn recorded(control: &ControlPlane, starts: &[(u16, Timestamp)]) -> anyhow::Result<Vec<Duration>> {
    let records = control.records()?;
    let times = starts.iter().map(|(port, start)| {
        let record = records.iter().find(|record| {
            matches!(&record.event, Event::ConnectionAuthorized(event)
                if event.ports.first() == *port && event.ports.last() == *port)
        });
        let record = record.with_context(|| format!("nothing authorizes port {port}"))?;
        ensure!(record.time >= *start, "port {port} was authorized before anybody asked");
        Ok(Duration::try_from(record.time.duration_since(*start))?)
    });
    times.collect()
}
