//! Before anything of Writ runs: the NATs keep hosts apart, and what will be counted and overheard can be.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::super::Stage;
use super::super::stage::GREETING;
use super::LIMIT;
use crate::lab::scene::{DATABASE_PORT, WEB_PORT};
use crate::lab::wait_until;

/// Inside the lab, an answer that can come takes less than a millisecond.
const NO_ANSWER: Duration = Duration::from_millis(400);

/// A port on the control plane's machine that nothing else uses.
const PLAIN_PORT: u16 = 8081;

/// Fails if what later steps stand on does not hold: that without Writ nobody gets through, that the counter counts, and that
/// the eavesdropper can read what is not encrypted.
pub(super) fn check(stage: &mut Stage) -> anyhow::Result<()> {
    let scene = &stage.scene;
    let web = scene.staging.at(WEB_PORT);
    let answer = scene.production.http_get(web, "/", LIMIT)?;
    ensure!(answer.status == 200, "the staging server answered {} in its own LAN", answer.status);
    for (who, host) in [("developer", &scene.developer), ("engineer", &scene.engineer)] {
        let through = host.connect(web, NO_ANSWER);
        ensure!(through.is_err(), "the {who} reached the staging server with no mesh: the NATs leak");
    }
    let before = scene.database_packets.read()?;
    ensure!(before.packets == 0, "{} packets reached the database before anybody asked", before.packets);
    let probe = scene.staging.connect(scene.production.at(DATABASE_PORT), LIMIT);
    drop(probe.context("the database's port does not answer in its own LAN")?);
    // The goodbye of that connection takes a moment to be counted.
    let mut counted = 0;
    wait_until(LIMIT, "the database's packet counter comes to rest", || {
        let last =
            std::mem::replace(&mut counted, scene.database_packets.read().map_or(0, |count| count.packets));
        std::thread::sleep(Duration::from_millis(200));
        counted > 0 && counted == last
    })?;
    stage.notes.counted_before = counted;

    let plain = scene.control.serve_http(PLAIN_PORT, GREETING)?;
    scene.developer.http_get(scene.control.at(PLAIN_PORT), "/", LIMIT)?;
    drop(plain);
    let reads = || stage.eavesdropper.heard().readable > 0;
    wait_until(LIMIT, "the eavesdropper reads what is not encrypted", reads)?;
    Ok(())
}
