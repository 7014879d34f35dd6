//! What changed who could reach whom, over a stretch of the log.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use writ_schema::{NodeId, Seq};

use super::read::{parsed, time};
use super::{Moment, ViewError};

/// A record that changed who could reach whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record.
    pub record: Seq,
    /// When.
    pub time: Timestamp,
    /// What.
    pub what: Changed,
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Another policy came into force.
    Policy,
    /// A node joined or was removed, or other things lie behind it.
    Node(NodeId),
}

/// The changes between two moments, oldest first, and whether there are more than `limit`.
pub fn between(
    connection: &Connection,
    from: &Moment,
    to: &Moment,
    limit: usize,
) -> Result<(Vec<Change>, bool), ViewError> {
    let sql = "SELECT c.seq, c.node, r.time FROM (
                   SELECT valid_from AS seq, NULL AS node FROM policy_versions
                       WHERE valid_from >= ?1 AND valid_from < ?2
                   UNION ALL
                   SELECT valid_from AS seq, node FROM nodes
                       WHERE valid_from >= ?1 AND valid_from < ?2
                           AND (valid_from = joined_seq OR valid_from = removed_seq OR EXISTS (
                               SELECT 1 FROM records WHERE seq = valid_from
                                   AND kind IN ('node.routes_advertised', 'node.routes_approved')))
               ) c JOIN records r ON r.seq = c.seq ORDER BY c.seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![from.bound(), to.bound(), most], |row| {
        let what = match row.get_ref("node")? {
            rusqlite::types::ValueRef::Null => Changed::Policy,
            _ => Changed::Node(parsed(row, "node")?),
        };
        Ok(Change { record: Seq(row.get("seq")?), time: time(row, "time")?, what })
    })?;
    let mut changes: Vec<Change> = rows.collect::<Result<_, _>>()?;
    let has_more = changes.len() > limit;
    changes.truncate(limit);
    Ok((changes, has_more))
}
