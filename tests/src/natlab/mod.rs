//! Every pair of NATs, crossed by real agents.
//!
//! A control plane with a public address, and for each [`Access`] two sites with a host and an agent each. Every left host
//! opens a connection to every right host whose access is not easier: first over the relay, then directly where
//! [`Access::expected`] says that a direct path exists. What is measured is what a person feels, from opening the connection.

mod access;
mod beside;
mod matrix;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::access::Shared;
pub use self::access::{Access, Expected};
pub use self::beside::{Comparison, Crossing, Maker, Other, Pair, compare};
pub use self::matrix::{Cell, Matrix, Path};
use self::table::Wait;

use crate::lab::{Host, HttpServer, Lab, privilege};
use crate::parts::{Agent, ControlPlane, Operator, Owner, Programs, Settings};

const PORT: u16 = 80;
/// Where packets are lost, TCP waits ever longer before it sends the first again: a person would try anew by then.
const PATIENCE: Duration = Duration::from_secs(4);
/// A first byte that takes more tries does not come.
const TRIES: usize = 5;
/// How long after the last connection paths may still change: several rounds of probes.
const SETTLE: Duration = Duration::from_secs(6);
const STEP: Duration = Duration::from_millis(200);
const POLICY: &str = r#"{
    "tagOwners": { "tag:lab": [] },
    "acls": [{ "action": "accept", "src": ["tag:lab"], "dst": ["tag:lab:*"] }],
}"#;

/// A host that connects, or is connected to.
struct Site {
    host: Host,
    agent: Agent,
    address: SocketAddr,
    node: String,
    _server: HttpServer,
}

/// Crosses every pair of these ways to be connected.
///
/// # Errors
/// When the lab cannot run here, or a program fails; a pair that does not connect is no error but a cell that says so.
pub fn cross(programs: &Programs, accesses: &[Access]) -> anyhow::Result<Matrix> {
    privilege::require_tun()?;
    let lab = Lab::new("natlab")?;
    let host = lab.host("control")?;
    let data = lab.directory().join("writd");
    let control = ControlPlane::create(programs, &host, &data, Settings::at("natlab", host.address()))?;
    let operator = Operator::sign_in(&control)?;
    operator.set_policy(POLICY)?;
    let mut shared = Shared::new();
    let mut sites = |side: &str| -> anyhow::Result<Vec<Site>> {
        let sites = accesses.iter().map(|access| {
            let host = access.host(&lab, &mut shared, side)?;
            site(programs, &lab, &operator, host, &format!("{side}-{access}"))
        });
        sites.collect()
    };
    let (lefts, rights) = (sites("left")?, sites("right")?);

    let mut opened = Vec::new();
    for (row, (left_access, left)) in accesses.iter().zip(&lefts).enumerate() {
        for (right_access, right) in accesses.iter().zip(&rights).skip(row) {
            let (at, clock) = (Timestamp::now(), Instant::now());
            let mut answers = (0..TRIES).map(|_| left.host.http_get(right.address, "/", PATIENCE));
            let first_byte = answers.any(|answer| answer.is_ok()).then(|| clock.elapsed());
            opened.push((*left_access, row, *right_access, right.node.clone(), at, first_byte));
        }
    }
    let last = Instant::now();
    let mut statuses = BTreeMap::new();
    loop {
        for (row, left) in lefts.iter().enumerate() {
            statuses.insert(row, left.agent.status()?);
        }
        let waits = opened.iter().any(|(left, row, right, node, _, _)| {
            left.expected(*right) == Expected::Direct && direct_at(&statuses[row], node).is_none()
        });
        // Those that must not become direct get their time too.
        if last.elapsed() >= SETTLE || (!waits && last.elapsed() >= SETTLE / 2) {
            break;
        }
        std::thread::sleep(STEP);
    }
    let cells = opened.into_iter().map(|(left, row, right, node, at, first_byte)| {
        let direct_after = direct_at(&statuses[&row], &node).map(|direct| elapsed(at, direct));
        let path = match (first_byte, direct_after) {
            (None, None) => Path::None,
            (_, Some(_)) => Path::Direct,
            (Some(_), None) => Path::Relayed,
        };
        Cell { left, right, path, first_byte, direct_after }
    });
    Ok(Matrix { cells: cells.collect() })
}

fn site(programs: &Programs, lab: &Lab, operator: &Operator, host: Host, name: &str) -> anyhow::Result<Site> {
    let server = host.serve_http(PORT, "hello")?;
    let ticket = operator.enrolment_key(Owner::Tag("tag:lab"), 1)?;
    let agent = Agent::join(programs, &host, &lab.directory().join(name), name, &ticket)
        .with_context(|| format!("the agent of {name}"))?;
    let (address, node) = (agent.at(PORT)?, agent.node()?);
    ensure!(!node.is_empty(), "the agent of {name} has no node");
    Ok(Site { host, agent, address, node, _server: server })
}

/// Since when the path to a peer is direct.
fn direct_at(status: &Value, node: &str) -> Option<Timestamp> {
    let peer = status["peers"].as_array()?.iter().find(|peer| peer["node"] == node)?;
    if peer["path"]["kind"] != "direct" {
        return None;
    }
    let history = peer["path_history"].as_array()?;
    history.iter().find(|change| change["kind"] == "direct")?["at"].as_str()?.parse().ok()
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from).max(SignedDuration::ZERO)).unwrap_or_default()
}
