//! Trust policies (C2SP tlog-policy) on the command line: who has to stand behind a checkpoint, and who does.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};
use writ_ledger::trust_policy::{PolicyFileError, Standing};
use writ_ledger::{TrustPolicy, VerifierKey};

use crate::failure::advised;
use crate::output::{local_time, printable};

/// Reads a policy.
pub fn read_policy(path: &Path) -> Result<TrustPolicy> {
    TrustPolicy::load(path).map_err(|error| match error {
        PolicyFileError::Policy { source, .. } => advised(
            format!("{}: {source}", path.display()),
            "a policy has lines `log VKEY`, `witness NAME VKEY`, `group NAME any|all|N NAME…` and one `quorum NAME` \
             (c2sp.org/tlog-policy)",
        ),
        unreadable => unreadable.into(),
    })
}

/// The key of the one log that a policy trusts, if it is one.
pub fn only_log(policy: &TrustPolicy) -> Option<VerifierKey> {
    match policy.logs() {
        [log] => Some(log.key.clone()),
        _ => None,
    }
}

/// Who has cosigned, and by when all was logged, for people.
pub fn told(standing: &Standing) -> String {
    let mut text =
        format!("The policy is satisfied for the checkpoint of size {}:\n", standing.checkpoint.size);
    for by in &standing.cosigned {
        text.push_str(&format!("  {} cosigned it at {}\n", printable(&by.witness), shown(by.unix_seconds)));
    }
    if !standing.absent.is_empty() {
        let absent: Vec<String> = standing.absent.iter().map(|name| printable(name).to_string()).collect();
        text.push_str(&format!("  not cosigned by: {}\n", absent.join(", ")));
    }
    match standing.witnessed_by {
        Some(time) => text.push_str(&format!("All that it covers was logged before {}.\n", shown(time))),
        None => text.push_str("The policy demands no cosignature.\n"),
    }
    text
}

/// The same as JSON.
pub fn value(standing: &Standing) -> Value {
    let cosigned: Vec<Value> = standing
        .cosigned
        .iter()
        .map(|by| json!({ "witness": by.witness, "time": timestamp(by.unix_seconds) }))
        .collect();
    json!({
        "size": standing.checkpoint.size, "cosigned": cosigned, "absent": standing.absent,
        "loggedBefore": standing.witnessed_by.map(timestamp),
    })
}

/// A time that a witness stated, as people read it.
pub fn shown(unix_seconds: u64) -> String {
    timestamp(unix_seconds).map_or_else(|| format!("Unix time {unix_seconds}"), local_time)
}

fn timestamp(unix_seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(unix_seconds).ok()?).ok()
}
