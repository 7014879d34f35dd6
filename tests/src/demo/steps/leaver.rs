//! The developer leaves the company.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::super::{Stage, Verified};
use super::join::DEVELOPER;
use super::{LIMIT, NO_ANSWER};
use crate::lab::scene::WEB_PORT;
use crate::lab::wait_until;

/// A line comes ten times a second while the connection lives.
const SILENCE: Duration = Duration::from_secs(1);

/// The developer's node and live connection go, and the records say how fast.
pub(super) fn developer_leaves(stage: &mut Stage) -> anyhow::Result<Verified> {
    let (scene, cast) = (&stage.scene, stage.cast()?);
    let target = cast.staging.at(WEB_PORT)?;
    let node = cast.developer.node()?;
    let mut stream = scene.developer.connect(target, LIMIT)?;
    stream.set_read_timeout(Some(SILENCE))?;
    write!(stream, "GET /stream HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
    ensure!(is_alive(&mut stream)?, "the developer's live connection carries nothing");

    let left: Value = cast.operator.json(&["users", "leave", DEVELOPER, "--yes", "--wait", "10s"])?;
    let withdrawal = &left["withdrawal"];
    let count = |name: &str| withdrawal[name].as_u64().with_context(|| format!("no {name} in {left}"));
    let (revoked, ends, acknowledged) = (count("revoked")?, count("ends")?, count("endsAcknowledged")?);
    ensure!(revoked >= 1, "no live connection was revoked: {left}");
    ensure!(acknowledged == ends, "only {acknowledged} of {ends} ends have acknowledged");
    let took = count("tookMilliseconds")?;
    let cause = withdrawal["cause"]["seq"].as_u64().context("the withdrawal names no cause")?;
    let last =
        withdrawal["lastAcknowledgement"]["seq"].as_u64().context("no last acknowledgement is named")?;

    wait_until(LIMIT, "the live connection ends", || matches!(is_alive(&mut stream), Ok(false) | Err(_)))?;
    let nodes: Value = cast.operator.json(&["nodes"])?;
    ensure!(!nodes.to_string().contains(&node), "the developer's node is still in the network: {nodes}");
    ensure!(
        scene.developer.connect(target, NO_ANSWER).is_err(),
        "the developer reached staging after leaving"
    );
    let gone = || cast.staging.peer(&node).is_err();
    wait_until(LIMIT, "staging has forgotten the developer's node", gone)?;
    Ok(Verified::new(
        format!(
            "The developer left the company: their laptop was removed and {revoked} live connection{} ended, {took} ms from the \
             news (record {cause}) to the last acknowledgement (record {last})",
            if revoked == 1 { "" } else { "s" }
        ),
        format!(
            "all {ends} ends signed that they had cut them, the open page stopped in the middle, and staging's agent does not know \
             the laptop's keys any more"
        ),
    ))
}

/// Whether something comes within a second, past what had come before.
fn is_alive(stream: &mut TcpStream) -> anyhow::Result<bool> {
    let mut bytes = vec![0; 1 << 16];
    match stream.read(&mut bytes) {
        Ok(count) => Ok(count > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
