//! The security team's question, about two moments in the past.

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::stage::Cast;
use super::super::{Stage, Verified};
use crate::lab::scene::DATABASE_PORT;

/// Every `record { seq kind }` of the answer goes into the bundle.
const WHO: &str = "query Who($port: Int!, $at: Timestamp!) {
    whoCouldReach(to: { name: \"production-database\" }, protocol: \"tcp\", port: $port, asOf: { time: $at }) {
        asOf { seq time }
        policy { version activatedBy record { seq kind } }
        couldReach { source { node name record { seq kind } } protocol ports rule ruleText policy record { seq kind } }
        authorized { authorization rule policy record { seq kind } }
        talked { source { node { node } } report { side bytesSent bytesReceived record { seq kind } } }
    }
}";

/// Who could, under which rule and version, and who did, while somebody was on call and while nobody was.
pub(super) fn who_could_and_who_did(stage: &mut Stage) -> anyhow::Result<Verified> {
    let cast = stage.cast()?;
    let on_call = stage.notes.while_on_call.context("no moment was noted")?;
    let nobody = stage.notes.while_nobody.context("no moment was noted")?;
    let (then, later) = (ask(cast, on_call)?, ask(cast, nobody)?);

    let engineer = cast.engineer.node()?;
    let could = then["couldReach"].as_array().context("the answer has no list")?;
    let [reach] = could.as_slice() else { anyhow::bail!("{} could reach it, not one: {then}", could.len()) };
    ensure!(reach["source"]["node"] == engineer.as_str(), "somebody else could reach it: {reach}");
    let rule = reach["rule"].as_str().context("the answer names no rule")?;
    let version = reach["policy"].as_u64().context("the answer names no policy version")?;
    ensure!(then["policy"]["version"] == version, "the rule is of another policy than was in force: {then}");
    ensure!(
        then["authorized"].as_array().is_some_and(|rows| !rows.is_empty()),
        "nobody was authorised: {then}"
    );
    let bytes = talked(&then, &engineer)?;

    let later_version = later["policy"]["version"].as_u64().context("no policy was in force later")?;
    ensure!(later_version == version.saturating_add(1), "another policy was in force later: {later}");
    ensure!(
        later["couldReach"].as_array().is_some_and(Vec::is_empty),
        "somebody could reach it later: {later}"
    );
    ensure!(
        later["authorized"].as_array().is_some_and(Vec::is_empty),
        "somebody was authorised later: {later}"
    );

    let file = stage.directory().join("who-could-reach.json");
    let path = file.to_str().context("the folder's name is no text")?;
    let (port, at) = (format!("port={DATABASE_PORT}"), format!("at={on_call}"));
    let subject = "who could reach production-database while somebody was on call";
    cast.operator.run(&[
        "bundle",
        "--query",
        WHO,
        "--var",
        &port,
        "--var",
        &at,
        "--subject",
        subject,
        "--out",
        path,
    ])?;
    let record = &reach["record"]["seq"];
    let named = then["talked"].as_array().map_or(0, Vec::len);
    stage.notes.bundles.push(file);
    Ok(Verified::new(
        format!(
            "GraphQL was asked who could reach production-database on tcp/{DATABASE_PORT} at {on_call:.3}: omar-laptop, by {rule} \
             of policy {version} (record {record}); it did, with {bytes} bytes. At {nobody:.3}, under policy {later_version}: \
             nobody"
        ),
        format!(
            "the answer names the records it stands on, {named} agents' reports among them, and they were written into a bundle \
             with their proofs, to be checked offline below"
        ),
    ))
}

fn ask(cast: &Cast, at: Timestamp) -> anyhow::Result<Value> {
    let answer = cast.operator.query(WHO, &json!({ "port": DATABASE_PORT, "at": at }))?;
    Ok(answer["whoCouldReach"].clone())
}

/// Bytes that the engineer's side says it sent and received.
fn talked(answer: &Value, engineer: &str) -> anyhow::Result<u64> {
    let rows = answer["talked"].as_array().context("the answer has no list")?;
    let own = rows
        .iter()
        .find(|row| row["source"]["node"]["node"] == engineer && row["report"]["side"] == "SOURCE");
    let report = &own.with_context(|| format!("the engineer's agent reported nothing: {answer}"))?["report"];
    let bytes = |name: &str| report[name].as_u64().unwrap_or_default();
    let bytes = bytes("bytesSent").saturating_add(bytes("bytesReceived"));
    ensure!(bytes > 0, "the engineer's agent reported no bytes: {report}");
    Ok(bytes)
}
