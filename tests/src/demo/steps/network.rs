//! Before anything of Writ runs: the hosts stand, and NATs keep them apart.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::super::{Stage, Verified};
use crate::lab::scene::{DATABASE_PORT, WEB_PORT};

/// Inside a LAN an answer takes less than a millisecond.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Long enough for a packet that could get through, short enough to wait for one that cannot.
const NO_ANSWER_LIMIT: Duration = Duration::from_millis(400);

/// The staging server answers in its LAN and not from home, and the counter on production counts.
pub(super) fn stands(stage: &mut Stage) -> anyhow::Result<Verified> {
    let scene = &stage.scene;
    let web = scene.staging.at(WEB_PORT);
    let answer = scene.production.http_get(web, "/", ANSWER_LIMIT)?;
    ensure!(answer.status == 200, "the staging server answered {} in its own LAN", answer.status);
    for (who, host) in [("developer", &scene.developer), ("engineer", &scene.engineer)] {
        let through = host.connect(web, NO_ANSWER_LIMIT);
        ensure!(through.is_err(), "the {who} reached the staging server with no mesh: the NATs leak");
    }
    let before = scene.database_packets.read()?;
    ensure!(before.packets == 0, "{} packets reached the database before anybody asked", before.packets);
    let probe = scene.staging.connect(scene.production.at(DATABASE_PORT), ANSWER_LIMIT);
    drop(probe.context("the database's port does not answer in its own LAN")?);
    let after = scene.database_packets.read()?;
    ensure!(after.packets > 0, "the database's packet counter does not count");
    Ok(Verified::new(
        "Five hosts stand, four of them behind three NATs, with nothing of Writ running",
        format!(
            "the staging server answered its neighbour in {:.1} ms and neither laptop can reach it, and the \
             database's packet counter went from 0 to {} by one connection in the LAN",
            answer.took.as_secs_f64() * 1000.0,
            after.packets
        ),
    ))
}
