//! Policy versions and the proposals they came from. Their texts are sealed, so they are among the personal values.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use writ_schema::event::{Event, PolicyEffect};
use writ_schema::{PolicyVersion, ProposalId, Seq};

use super::read::parsed;
use super::records::actor_text;
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError, personal};

/// Folds policies.
pub struct Policies;

/// A policy that is or was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    /// Its number.
    pub version: PolicyVersion,
    /// The proposal that holds its text.
    pub proposal: ProposalId,
    /// The version that it restored.
    pub restores: Option<PolicyVersion>,
    /// The version that it changed.
    pub base: Option<PolicyVersion>,
    /// SHA-256 of its text, hex.
    pub digest: String,
    /// What it was to change, as computed when it was proposed.
    pub effect: PolicyEffect,
    /// Who proposed it.
    pub proposed_by: String,
    /// Who put it in force.
    pub activated_by: String,
    /// The record of the proposal.
    pub proposed: Seq,
    /// The record that put it in force.
    pub activated: Seq,
    /// The record that put another in its place, if there was one by then.
    pub superseded: Option<Seq>,
}

impl Projection for Policies {
    fn name(&self) -> &'static str {
        "policies"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS policy_proposals (
             proposal TEXT PRIMARY KEY, seq INTEGER NOT NULL, base INTEGER, digest TEXT NOT NULL,
             gained INTEGER NOT NULL, lost INTEGER NOT NULL, connections_cut INTEGER NOT NULL,
             tests_passed INTEGER NOT NULL, proposed_by TEXT NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS policy_versions (
             version INTEGER PRIMARY KEY, valid_from INTEGER NOT NULL, valid_until INTEGER, proposal TEXT NOT NULL,
             restores INTEGER, activated_by TEXT NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS policy_versions_by_activation ON policy_versions (valid_from);"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let seq = entry.seq();
        let actor = actor_text(&entry.record.actor);
        let folded = match &entry.record.event {
            Event::PolicyChangeProposed(event) => {
                let PolicyEffect { gained, lost, connections_cut, tests_passed } = event.effect;
                let sql = "INSERT INTO policy_proposals (proposal, seq, base, digest, gained, lost, connections_cut,
                               tests_passed, proposed_by)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
                transaction.prepare_cached(sql).and_then(|mut statement| {
                    let base = event.base.map(|version| version.0);
                    let head = params![
                        event.proposal.as_str(),
                        seq,
                        base,
                        event.digest,
                        gained,
                        lost,
                        connections_cut,
                        tests_passed,
                        actor
                    ];
                    statement.execute(head)
                })
            }
            Event::PolicyActivated(event) => {
                let end = "UPDATE policy_versions SET valid_until = ?1 WHERE valid_until IS NULL";
                let sql =
                    "INSERT INTO policy_versions (version, valid_from, proposal, restores, activated_by)
                           VALUES (?1, ?2, ?3, ?4, ?5)";
                let restores = event.restores.map(|version| version.0);
                let row = params![event.version.0, seq, event.proposal.as_str(), restores, actor];
                transaction
                    .prepare_cached(end)
                    .and_then(|mut statement| statement.execute(params![seq]))
                    .and_then(|_| transaction.prepare_cached(sql)?.execute(row))
            }
            _ => Ok(0),
        };
        folded.map(drop).map_err(|source| entry.database(source))
    }
}

// A version that was followed only after the moment asked for is in force at that moment.
const SELECT: &str =
    "SELECT v.version, v.proposal, v.restores, p.base, p.digest, p.gained, p.lost, p.connections_cut,
                          p.tests_passed, p.proposed_by, v.activated_by, p.seq AS proposed, v.valid_from,
                          iif(v.valid_until < ?1, v.valid_until, NULL) AS superseded
                      FROM policy_versions v JOIN policy_proposals p ON p.proposal = v.proposal";

fn row(row: &Row<'_>) -> rusqlite::Result<PolicyRow> {
    let version = |column: &str| row.get::<_, Option<u64>>(column).map(|v| v.map(PolicyVersion));
    Ok(PolicyRow {
        version: PolicyVersion(row.get("version")?),
        proposal: parsed(row, "proposal")?,
        restores: version("restores")?,
        base: version("base")?,
        digest: row.get("digest")?,
        effect: PolicyEffect {
            gained: row.get("gained")?,
            lost: row.get("lost")?,
            connections_cut: row.get("connections_cut")?,
            tests_passed: row.get("tests_passed")?,
        },
        proposed_by: row.get("proposed_by")?,
        activated_by: row.get("activated_by")?,
        proposed: Seq(row.get("proposed")?),
        activated: Seq(row.get("valid_from")?),
        superseded: row.get::<_, Option<u64>>("superseded")?.map(Seq),
    })
}

/// The policy in force at a moment.
pub fn active(connection: &Connection, moment: &Moment) -> Result<Option<PolicyRow>, ViewError> {
    let sql = format!("{SELECT} WHERE v.valid_from < ?1 ORDER BY v.valid_from DESC LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row(params![moment.bound()], row).optional()?)
}

/// One version, if it was in force by a moment.
pub fn version(
    connection: &Connection,
    moment: &Moment,
    version: PolicyVersion,
) -> Result<Option<PolicyRow>, ViewError> {
    let sql = format!("{SELECT} WHERE v.valid_from < ?1 AND v.version = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row(params![moment.bound(), version.0], row).optional()?)
}

/// All versions by a moment, newest first. `after` names the activation that the caller has seen last.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    slice: &Slice<Seq>,
) -> Result<Page<PolicyRow>, ViewError> {
    let sql = format!(
        "{SELECT} WHERE v.valid_from < ?1 AND (?2 IS NULL OR v.valid_from < ?2) ORDER BY v.valid_from DESC LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let after = slice.after.map(|seq| seq.0);
    let rows =
        statement.query_map(params![moment.bound(), after, slice.limit()], row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// The text of a policy with people by their pseudonyms, if it can still be read.
pub fn text(connection: &Connection, policy: &PolicyRow) -> Result<Option<String>, ViewError> {
    personal::value(connection, policy.proposed, "text")
}
