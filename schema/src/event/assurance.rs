//! The network and the log themselves, and who read what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Version, sealed_fields};
use crate::seal::{Quarter, Sealed, Subject};
use crate::{AdminId, NetworkId, Seq, UserId};

/// The network exists. Always record 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkCreated {
    /// Version of this kind.
    pub v: Version<1>,
    /// Its identity.
    pub network: NetworkId,
    /// Its name, a DNS label: nodes are found as `<node>.<name>`.
    pub name: String,
    /// IPv4 addresses of nodes are taken from here.
    pub prefix_v4: String,
    /// IPv6 addresses of nodes are taken from here: a ULA /48.
    pub prefix_v6: String,
    /// Origin of the log's checkpoints.
    pub origin: String,
    /// Verifier key of the log (C2SP signed-note).
    pub log_key: String,
}

/// The control plane began to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogOpened {
    /// Version of this kind.
    pub v: Version<1>,
    /// Version of the program.
    pub program: String,
    /// Whether the log before ended with `log.closed`; if not, the control plane had been stopped by force.
    pub clean: bool,
}

/// The control plane stopped writing, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogClosed {
    /// Version of this kind.
    pub v: Version<1>,
}

/// The log's key changed. The record stands under the old key; from the checkpoint that covers it on, the new one signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogKeyRotated {
    /// Version of this kind.
    pub v: Version<1>,
    /// Verifier key that signed until now (C2SP signed-note).
    pub old_key: String,
    /// Verifier key that signs from now on.
    pub new_key: String,
    /// A note that both keys have signed: `writ-key-rotation/v1`, the log's origin, this record's position, the root of the tree
    /// before it and the new key, a line each. With it, whoever trusts the old key can follow the log.
    pub rotation: String,
}

/// The keys of a subject's personal data were destroyed: nothing sealed under them can be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyShredded {
    /// Version of this kind.
    pub v: Version<1>,
    /// Whose keys.
    pub subject: Subject,
}

/// The time to keep the connection records of a quarter is over: their keys were destroyed, whosever they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionLapsed {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which quarter.
    pub quarter: Quarter,
}

/// Somebody read history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditQueryExecuted {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub admin: AdminId,
    /// The top-level fields that were asked for.
    pub fields: Vec<String>,
    /// SHA-256 of the query with its variables, hex.
    pub digest: String,
}

/// The person behind a pseudonym was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditDeanonymiseExecuted {
    /// Version of this kind.
    pub v: Version<1>,
    /// To whom.
    pub admin: AdminId,
    /// Whose names.
    pub users: Vec<UserId>,
    /// For what, in the reader's words.
    pub purpose: Sealed<String>,
}

/// A report was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportGenerated {
    /// Version of this kind.
    pub v: Version<1>,
    /// By whom.
    pub admin: AdminId,
    /// The framework and its version.
    pub framework: String,
    /// SHA-256 of the evidence bundle it stands on, hex.
    pub bundle_digest: String,
    /// Records before this one were considered.
    pub as_of: Seq,
}

sealed_fields! {
    NetworkCreated {}
    LogOpened {}
    LogClosed {}
    LogKeyRotated {}
    KeyShredded {}
    RetentionLapsed {}
    AuditQueryExecuted {}
    AuditDeanonymiseExecuted { purpose }
    ReportGenerated {}
}
