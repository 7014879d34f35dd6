//! Refused connections.

use std::net::IpAddr;

use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, named_params, params};
use writ_schema::event::{DenialReason, Event};
use writ_schema::net::Protocol;
use writ_schema::{NodeId, PolicyVersion, Seq, UserId};

use super::read::{optional, parsed, to_nanos, to_word, word};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds refused connections.
pub struct Denials;

/// A refused connection, with its repeats within a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The record.
    pub seq: Seq,
    /// Who asked; unknown after an erasure.
    pub source_node: Option<NodeId>,
    /// The owner of the node that asked.
    pub source_user: Option<UserId>,
    /// The address asked for.
    pub address: IpAddr,
    /// The node that had it.
    pub destination: Option<NodeId>,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which port.
    pub port: u16,
    /// Why.
    pub reason: DenialReason,
    /// The policy that was asked.
    pub policy: Option<PolicyVersion>,
    /// How often.
    pub count: u32,
}

/// Which denials are wanted. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct DenialFilter {
    /// Of requests by this node.
    pub source: Option<NodeId>,
    /// Of requests by this user's nodes.
    pub user: Option<UserId>,
    /// Of requests for this node.
    pub destination: Option<NodeId>,
    /// For this reason.
    pub reason: Option<DenialReason>,
    /// Not earlier.
    pub from: Option<Timestamp>,
    /// Earlier than this.
    pub to: Option<Timestamp>,
}

impl Projection for Denials {
    fn name(&self) -> &'static str {
        "denials"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS denials (
             seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, address TEXT NOT NULL, destination TEXT,
             protocol TEXT NOT NULL, port INTEGER NOT NULL, reason TEXT NOT NULL, policy INTEGER,
             count INTEGER NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS denials_by_destination ON denials (destination, seq);"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let Event::ConnectionDenied(event) = &entry.record.event else { return Ok(()) };
        let insert = || -> rusqlite::Result<()> {
            let sql =
                "INSERT INTO denials (seq, time, address, destination, protocol, port, reason, policy, count)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            transaction.prepare_cached(sql)?.execute(params![
                entry.seq(),
                to_nanos(entry.record.time),
                event.address.to_string(),
                event.destination.as_ref().map(NodeId::as_str),
                event.protocol.to_string(),
                event.port,
                to_word(&event.reason)?,
                event.policy.map(|version| version.0),
                event.count,
            ])?;
            Ok(())
        };
        insert().map_err(|source| entry.database(source))
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<Denial> {
    Ok(Denial {
        seq: Seq(row.get("seq")?),
        source_node: optional(row, "source_node")?,
        source_user: optional(row, "source_user")?,
        address: parsed(row, "address")?,
        destination: optional(row, "destination")?,
        protocol: parsed(row, "protocol")?,
        port: row.get("port")?,
        reason: word(row, "reason")?,
        policy: row.get::<_, Option<u64>>("policy")?.map(PolicyVersion),
        count: row.get("count")?,
    })
}

/// Denials that a filter lets through, by record.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    filter: &DenialFilter,
    slice: &Slice<Seq>,
) -> Result<Page<Denial>, ViewError> {
    let (after, order) = if slice.newest_first { ("<", "DESC") } else { (">", "ASC") };
    let sql = format!(
        "SELECT d.*, n.value AS source_node, u.value AS source_user FROM denials d
             LEFT JOIN personal n ON n.seq = d.seq AND n.field = 'source.node'
             LEFT JOIN personal u ON u.seq = d.seq AND u.field = 'source.user'
         WHERE d.seq < :bound AND (:after IS NULL OR d.seq {after} :after)
             AND (:source IS NULL OR n.value = :source) AND (:user IS NULL OR u.value = :user)
             AND (:destination IS NULL OR d.destination = :destination)
             AND (:reason IS NULL OR d.reason = :reason) AND d.time >= :from AND d.time < :to
         ORDER BY d.seq {order} LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.map(|seq| seq.0),
        ":source": filter.source.as_ref().map(NodeId::as_str),
        ":user": filter.user.as_ref().map(UserId::as_str),
        ":destination": filter.destination.as_ref().map(NodeId::as_str),
        ":reason": filter.reason.as_ref().map(to_word).transpose()?,
        ":from": filter.from.map_or(i64::MIN, to_nanos),
        ":to": filter.to.map_or(i64::MAX, to_nanos),
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}
