//! A policy change: shown before, cut at once, acknowledged by both ends, undone.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::Value;
use writ_schema::event::{AcknowledgedAction, Side};
use writ_schema::{Event, Record};

use super::super::{Stage, Verified};
use super::join::{NOBODY_ON_CALL, write_policy};
use super::{LIMIT, NO_ANSWER};
use crate::lab::scene::DATABASE_PORT;
use crate::lab::{wait_for, wait_until};

/// A live flow is never silent for so long.
const CUT: Duration = Duration::from_millis(500);

/// The engineer's connection goes with the rule that allowed it, and can be made anew after the undo.
pub(super) fn policy_change_cuts(stage: &mut Stage) -> anyhow::Result<Verified> {
    let flow = stage.notes.engineer_flow.take().context("there is no live connection to cut")?;
    let (scene, cast) = (&stage.scene, stage.cast()?);
    let while_on_call = Timestamp::now();
    let file = write_policy(stage.directory(), "nobody-on-call.hujson", NOBODY_ON_CALL)?;
    let file = file.to_str().context("the folder's name is no text")?;
    let shown: Value = cast.operator.json(&["policy", "diff", file])?;
    ensure!(number(&shown, "lostCount")? == 1, "the difference shows other losses than one: {shown}");
    ensure!(number(&shown, "gainedCount")? == 0, "the difference shows gains: {shown}");
    ensure!(number(&shown, "connectionsCutCount")? == 1, "the difference shows other cuts than one: {shown}");
    ensure!(flow.report().ended.is_none(), "showing the difference cut the connection");

    let set: Value = cast.operator.json(&["policy", "set", file, "--yes"])?;
    let activated = number(&set, "record")?;
    wait_until(LIMIT, "the live connection is cut", || {
        let report = flow.report();
        report.ended.is_some() || report.silent_for > CUT
    })?;
    let acknowledged =
        wait_for(LIMIT, "both ends have acknowledged", || both_ends(&cast.control.records()?, activated))?;
    let target = cast.production.at(DATABASE_PORT)?;
    ensure!(
        scene.engineer.connect(target, NO_ANSWER).is_err(),
        "the engineer reached the database all the same"
    );
    ensure!(
        flow.report().ended.is_some() || flow.report().silent_for > CUT,
        "the connection came back to life"
    );
    let while_nobody = Timestamp::now();
    let echoed = flow.report().echoed;
    drop(flow);

    cast.operator.run(&["policy", "undo", "--yes"])?;
    let again = wait_for(LIMIT, "the engineer reaches the database again", || {
        scene.engineer.connect(target, NO_ANSWER)
    })?;
    drop(again);
    let [source, destination] = acknowledged.map(|(record, took)| {
        format!("record {record}, {:.0} ms after the change", took.as_secs_f64() * 1000.0)
    });
    stage.notes.while_on_call = Some(while_on_call);
    stage.notes.while_nobody = Some(while_nobody);
    Ok(Verified::new(
        "The on-call duty was taken out of the policy: the difference was shown first (1 permission and 1 live connection to \
         go), then the connection was cut; an undo gave it back",
        format!(
            "the TCP connection that had carried {echoed} lines carried none any more, and both agents signed that they had cut \
             it: the engineer's ({source}), the database's ({destination})"
        ),
    ))
}

fn number(value: &Value, name: &str) -> anyhow::Result<u64> {
    value[name].as_u64().with_context(|| format!("there is no {name} in {value}"))
}

type Acknowledged = (u64, Duration);

/// For each end, the record in which it says that it has withdrawn, and how long after the cause that was.
fn both_ends(records: &[Record], cause: u64) -> anyhow::Result<[Acknowledged; 2]> {
    let begin =
        records.iter().find(|record| record.seq.0 == cause).context("the change is not in the log")?;
    let revoked = records.iter().find_map(|record| match &record.event {
        Event::ConnectionRevoked(event) if record.cause == Some(begin.seq) => {
            Some(event.authorization.clone())
        }
        _ => None,
    });
    let revoked = revoked.context("the change revoked nothing")?;
    let of = |side: Side| {
        let record = records.iter().find(|record| {
            matches!(&record.event, Event::ConnectionAcknowledged(event)
                if event.authorization == revoked
                    && event.side == side
                    && event.action == AcknowledgedAction::Withdrawn)
        });
        let record = record.with_context(|| format!("the {side:?} has not acknowledged"))?;
        Ok::<_, anyhow::Error>((record.seq.0, Duration::try_from(record.time.duration_since(begin.time))?))
    };
    Ok([of(Side::Source)?, of(Side::Destination)?])
}
