//! The developer reaches what they may, and nothing else.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use writ_ledger::{Hash, InclusionProof, SignedCheckpoint, leaf_hash};
use writ_schema::Seq;

use super::super::stage::Cast;
use super::super::{Stage, Verified};
use super::{LIMIT, NO_ANSWER};
use crate::lab::scene::{DATABASE_PORT, WEB_PORT};
use crate::lab::{wait_for, wait_until};

/// Enough packets that a direct path carries some.
const BODY_BYTES: usize = 200_000;

/// HTTP to staging: authorized, proven, relayed at first and then direct, and ciphertext to everybody in between.
pub(super) fn developer_reaches_staging(stage: &mut Stage) -> anyhow::Result<Verified> {
    let (scene, cast) = (&stage.scene, stage.cast()?);
    let target = cast.staging.at(WEB_PORT)?;
    let before = stage.eavesdropper.heard();
    let answer = scene.developer.http_get(target, "/", LIMIT)?;
    ensure!(answer.status == 200, "the page answered {}", answer.status);
    let (record, rule, policy) = newest_authorization(cast, "staging-cluster", WEB_PORT)?;
    let size = prove(cast, record)?;

    let node = cast.staging.node()?;
    let path = wait_for(LIMIT, "packets go directly", || direct(&cast.developer.peer(&node)))?;
    ensure!(
        path.starts_with(&format!("{}:", scene.office.address())),
        "the direct path leads to {path}, not to the office's router at {}",
        scene.office.address()
    );
    // The answer's way is staging's to choose.
    let developer = cast.developer.node()?;
    wait_for(LIMIT, "answers go directly", || direct(&cast.staging.peer(&developer)))?;
    let body = scene.developer.http_get(target, &format!("/bytes/{BODY_BYTES}"), LIMIT)?;
    ensure!(body.body.len() == BODY_BYTES, "{} of {BODY_BYTES} bytes came", body.body.len());
    scene.developer.http_get(target, "/", LIMIT)?;
    let heard = || stage.eavesdropper.heard_between(scene.home.address(), scene.office.address());
    wait_until(LIMIT, "the body was heard between the routers", || heard().bytes > BODY_BYTES)?;
    let direct = heard();
    ensure!(
        direct.wireguard == direct.packets,
        "between the routers {} packets were heard, {} of them WireGuard's",
        direct.packets,
        direct.wireguard
    );
    let readable = stage.eavesdropper.heard().readable.saturating_sub(before.readable);
    ensure!(readable == 0, "the page could be read in {readable} packets on the internet");
    stage.notes.developer_record = Some(record);
    Ok(Verified::new(
        format!(
            "The developer opened the staging cluster's page: authorized by {rule} of policy {policy} (record {record}), over \
             the relay at first and then directly to {path} through both NATs"
        ),
        format!(
            "record {record} was checked by its inclusion proof against the signed checkpoint of {size} records, and an \
             eavesdropper on the internet, who had read the same page sent in the clear before, heard {} packets between the \
             two routers, each WireGuard's, and could read the page in none",
            direct.packets
        ),
    ))
}

/// PostgreSQL on production: denied, recorded, and not one packet of it arrived.
pub(super) fn developer_is_denied(stage: &mut Stage) -> anyhow::Result<Verified> {
    let (scene, cast) = (&stage.scene, stage.cast()?);
    let before = scene.database_packets.read()?;
    ensure!(before.packets == stage.notes.counted_before, "the database was reached by somebody meanwhile");
    let target = cast.production.at(DATABASE_PORT)?;
    let connected = scene.developer.connect(target, NO_ANSWER);
    ensure!(connected.is_err(), "the developer reached the production database");
    let denial = wait_for(LIMIT, "the denial is recorded", || newest_denial(cast))?;
    let record = denial["record"]["seq"].as_u64().context("the denial names no record")?;
    let size = prove(cast, Seq(record))?;
    ensure!(denial["reason"] == "NO_RULE", "it was denied for another reason: {}", denial["reason"]);
    let status = cast.developer.status()?;
    let told =
        status["denials"].as_array().and_then(|denials| denials.last()).context("the agent was not told")?;
    ensure!(told["record"] == record, "the agent was told of another denial: {told}");
    let explanation = told["explanation"].as_str().unwrap_or_default();
    let after = scene.database_packets.read()?;
    let arrived = after.packets.saturating_sub(before.packets);
    ensure!(arrived == 0, "{arrived} packets of a denied connection reached the database's machine");
    Ok(Verified::new(
        format!(
            "The developer tried PostgreSQL's port on the production database: denied and recorded (record {record}); their \
             agent says: \"{explanation}\""
        ),
        format!(
            "the record is proven in the tree of {size} records, and a counter on every interface of the database's machine, \
             which had counted {} packets of a neighbour's connection before, counted 0 more",
            stage.notes.counted_before
        ),
    ))
}

/// Record, rule and policy version of the newest authorization to a node on a port, as the API tells.
pub(super) fn newest_authorization(cast: &Cast, to: &str, port: u16) -> anyhow::Result<(Seq, String, u64)> {
    let rows: Value =
        cast.operator.json(&["connections", "--to", to, "--port", &port.to_string(), "--live"])?;
    let row = first(&rows, "connections").context("the API knows no such authorization")?;
    let record = row["record"]["seq"].as_u64().context("the authorization names no record")?;
    let rule = row["rule"].as_str().context("the authorization names no rule")?;
    Ok((Seq(record), rule.to_owned(), row["policy"].as_u64().context("the authorization names no policy")?))
}

fn newest_denial(cast: &Cast) -> anyhow::Result<Value> {
    let rows: Value = cast.operator.json(&["denials", "--to", "production-database"])?;
    first(&rows, "denials").cloned().context("the API knows no denial")
}

/// Lists come as `{"connections": […]}`, newest first.
fn first<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name)?.as_array()?.first()
}

/// Checks a record of the API against the log's key, and returns the size of the tree that it is proven in.
pub(super) fn prove(cast: &Cast, seq: Seq) -> anyhow::Result<u64> {
    const RECORD: &str = "query Proof($seq: UInt!) {
        record(seq: $seq) { json proof { index hashes checkpoint { note } } }
    }";
    let answer = cast.operator.query(RECORD, &json!({ "seq": seq }))?;
    let (record, proof) = (&answer["record"], &answer["record"]["proof"]);
    let key = cast.control.log_key()?;
    let note = proof["checkpoint"]["note"].as_str().context("the proof has no checkpoint")?;
    let signed =
        SignedCheckpoint::open(note, &key).context("the checkpoint is not signed by the log's key")?;
    let hashes: Vec<Hash> =
        serde_json::from_value(proof["hashes"].clone()).context("the proof has no hashes")?;
    let size = signed.checkpoint().size;
    let leaf = leaf_hash(record["json"].as_str().context("the record has no text")?.as_bytes());
    let proof = InclusionProof { index: seq.0, size, hashes };
    proof
        .verify(&leaf, &signed.checkpoint().root)
        .with_context(|| format!("record {seq} is not in the log"))?;
    Ok(size)
}

/// The peer's address once the path is direct and was relayed before.
fn direct(peer: &anyhow::Result<Value>) -> Result<String, String> {
    let peer = peer.as_ref().map_err(|error| format!("{error:#}"))?;
    let history = peer["path_history"].as_array().cloned().unwrap_or_default();
    let kinds: Vec<_> = history.iter().filter_map(|change| change["kind"].as_str()).collect();
    match (kinds.first(), peer["path"]["kind"].as_str(), peer["path"]["address"].as_str()) {
        (Some(&"relayed"), Some("direct"), Some(address)) => Ok(address.to_owned()),
        _ => Err(format!("the path is {}, and was {kinds:?}", peer["path"])),
    }
}
