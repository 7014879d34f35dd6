//! The network is made, the policy is put in force, and four nodes join.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use writ_schema::{Event, Record};

use super::super::stage::Cast;
use super::super::{Stage, Verified};
use super::{LIMIT, scene};
use crate::parts::{Agent, ControlPlane, Operator, Owner, Settings};

/// What is put in force at first, and in its place for a while.
pub(super) const POLICY: &str = include_str!("../../../../deploy/demo.d/policy.hujson");
pub(super) const NOBODY_ON_CALL: &str = include_str!("../../../../deploy/demo.d/nobody-on-call.hujson");

pub(super) const DEVELOPER: &str = "dana@example.org";
pub(super) const ENGINEER: &str = "omar@example.org";

/// `writ init`, `writ login`, `writ users add`, `writ policy set`, `writ keys create`, `writ-agent up`.
pub(super) fn everybody_joins(stage: &mut Stage) -> anyhow::Result<Verified> {
    scene::check(stage)?;
    let settings = Settings::at("example", stage.scene.control.address());
    let data = stage.directory().join("writd");
    let control = ControlPlane::create(&stage.programs, &stage.scene.control, &data, settings)?;
    let operator = Operator::sign_in(&control)?;
    operator.add_user(DEVELOPER, "Dana Developer")?;
    operator.add_user(ENGINEER, "Omar Oncall")?;
    let file = write_policy(stage.directory(), "policy.hujson", POLICY)?;
    operator.run(&["policy".as_ref(), "check".as_ref(), file.as_os_str()])?;
    let set = operator.set_policy(POLICY)?;
    let tests = set["effect"]["testsPassed"].as_u64().context("`writ policy set` tells no tests")?;
    ensure!(tests > 0, "the policy carries no tests");

    let cast = cast(stage, control, operator)?;
    let records = cast.control.records()?;
    let joins = joins(&records);
    ensure!(joins.len() == 4, "{} of 4 joins are in the log", joins.len());
    let size = records.len();
    let sound: Value = cast.operator.json(&["log", "verify"])?;
    ensure!(sound["verified"] == true, "the log does not verify: {sound}");
    stage.cast = Some(cast);
    Ok(Verified::new(
        format!(
            "A network was made, its policy put in force after its {tests} tests had passed, and two laptops and two servers \
             joined with enrolment keys (records {})",
            joins.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        ),
        format!(
            "every agent refuses a join that it cannot verify in the log, and `writ log verify` computed the tree over all \
             {size} records anew and found the signed root"
        ),
    ))
}

fn cast(stage: &Stage, control: ControlPlane, operator: Operator) -> anyhow::Result<Cast> {
    let scene = &stage.scene;
    let begin = |host, name, owner| -> anyhow::Result<Agent> {
        let ticket = operator.enrolment_key(owner, 1)?;
        let mut agent = Agent::new(&stage.programs, host, &stage.directory().join(name));
        agent.begin_join(name, &ticket)?;
        Ok(agent)
    };
    let staging = begin(&scene.staging, "staging-cluster", Owner::Tag("tag:staging"))?;
    let production = begin(&scene.production, "production-database", Owner::Tag("tag:production"))?;
    let developer = begin(&scene.developer, "dana-laptop", Owner::User(DEVELOPER))?;
    let engineer = begin(&scene.engineer, "omar-laptop", Owner::User(ENGINEER))?;
    for agent in [&staging, &production, &developer, &engineer] {
        agent.wait_connected(LIMIT)?;
    }
    Ok(Cast { developer, engineer, staging, production, operator, control })
}

pub(super) fn write_policy(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn joins(records: &[Record]) -> Vec<u64> {
    let joins = records.iter().filter(|record| matches!(record.event, Event::NodeJoined(_)));
    joins.map(|record| record.seq.0).collect()
}
