//! The engineer reaches the database, and its machine takes a new WireGuard key while a connection is open.

use std::time::Duration;

use anyhow::{Context, ensure};
use writ_schema::Event;

use super::super::{Stage, Verified};
use super::LIMIT;
use super::access::newest_authorization;
use crate::lab::scene::DATABASE_PORT;
use crate::lab::{wait_for, wait_until};

const INTERVAL: Duration = Duration::from_millis(20);

/// Lines that must come back after the new key is in use.
const LINES: u64 = 50;

/// A person at a prompt would not notice more.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// The generation that the engineer's agent uses goes up by one while lines keep coming back.
pub(super) fn flow_outlives_key(stage: &mut Stage) -> anyhow::Result<Verified> {
    let (scene, cast) = (&stage.scene, stage.cast()?);
    let flow = scene.engineer.flow(cast.production.at(DATABASE_PORT)?, INTERVAL, LIMIT)?;
    wait_until(LIMIT, "lines come back from the database", || flow.report().echoed >= LINES)?;
    let (authorization, rule, _) = newest_authorization(cast, "production-database", DATABASE_PORT)?;
    let node = cast.production.node()?;
    let used = || cast.engineer.peer(&node).map(|peer| peer["generation"].as_u64());
    let before = used()?.context("the engineer's agent tells no key generation")?;

    cast.production.rotate()?;
    let wanted = Some(before.saturating_add(1));
    wait_for(LIMIT, "the engineer's agent uses the new key", || match used() {
        Ok(generation) if generation == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let echoed = flow.report().echoed;
    wait_until(LIMIT, "lines go on coming back", || flow.report().echoed >= echoed.saturating_add(LINES))?;
    let report = flow.report();
    ensure!(report.ended.is_none(), "the connection ended: {:?}", report.ended);
    ensure!(report.longest_silence < SILENCE_LIMIT, "it was silent for {:?}", report.longest_silence);
    let records = cast.control.records()?;
    let rotated = records.iter().find(|record| {
        matches!(&record.event, Event::KeyRotated(event)
            if event.node.as_str() == node && Some(event.generation) == wanted)
    });
    let rotated = rotated.context("the new key is not in the log")?.seq;
    let after = newest_authorization(cast, "production-database", DATABASE_PORT)?.0;
    ensure!(after == authorization, "the connection had to be authorized anew");
    stage.notes.engineer_flow = Some(flow);
    Ok(Verified::new(
        format!(
            "The engineer on call reached the database ({rule}, record {authorization}), and its machine took a new WireGuard key \
             in the middle of the connection (record {rotated})"
        ),
        format!(
            "{} numbered lines went out on one TCP connection and came back in order, the longest silence between two was \
             {:.0} ms, and the engineer's agent uses key {} after it had checked that the machine's own identity key signed it",
            report.echoed,
            report.longest_silence.as_secs_f64() * 1000.0,
            before.saturating_add(1)
        ),
    ))
}
