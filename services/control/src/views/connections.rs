//! Authorizations and what became of them: acknowledged, revoked, closed.
//!
//! These are facts, one row per record and never changed. Whether an authorization was in force at a moment follows from
//! the records by then and the time.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use writ_schema::event::{AcknowledgedAction, CloseReason, Event, PathKind, RevocationReason, Side};
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::{AuthorizationId, NodeId, PolicyVersion, Seq, UserId};

use super::read::{optional, optional_word, parsed, time, to_nanos, to_word, word};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds connections.
pub struct Connections;

/// Most reports and acknowledgements that are read for one authorization. There are two ends, so few are expected.
const MAX_FACTS: i64 = 64;

/// A permission for one node to reach another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Its name.
    pub authorization: AuthorizationId,
    /// The record.
    pub seq: Seq,
    /// The first of the permissions that this one continues; itself if it continues none.
    pub chain: AuthorizationId,
    /// The permission that this one continues.
    pub renews: Option<AuthorizationId>,
    /// Who might; unknown after an erasure.
    pub source_node: Option<NodeId>,
    /// The owner of the source.
    pub source_user: Option<UserId>,
    /// Whom it might reach.
    pub destination: NodeId,
    /// The addresses behind the destination that were meant instead of its own.
    pub route: Option<Prefix>,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which destination ports.
    pub ports: PortRange,
    /// The rule that allowed it.
    pub rule: String,
    /// The policy that held the rule.
    pub policy: PolicyVersion,
    /// When it was given.
    pub since: Timestamp,
    /// When it was to end by itself.
    pub expires_at: Timestamp,
    /// The record that withdrew it, if it was by then.
    pub revoked: Option<Seq>,
    /// Why it was withdrawn.
    pub revocation: Option<RevocationReason>,
}

impl Authorization {
    /// Whether it was in force.
    pub fn is_live(&self, moment: &Moment) -> bool {
        self.revoked.is_none() && moment.time < self.expires_at
    }
}

/// An agent's signed word that it has carried out a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The record.
    pub seq: Seq,
    /// The record that was carried out.
    pub carried_out: Seq,
    /// At which end.
    pub side: Side,
    /// What was done.
    pub action: AcknowledgedAction,
}

/// An agent's report of an ended connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The record.
    pub seq: Seq,
    /// Which authorization.
    pub authorization: AuthorizationId,
    /// Which agent says so.
    pub side: Side,
    /// Why it ended.
    pub reason: CloseReason,
    /// Bytes that this end sent to the other.
    pub bytes_sent: u64,
    /// Bytes that this end received.
    pub bytes_received: u64,
    /// The way packets went last.
    pub path: Option<PathKind>,
    /// When it was recorded.
    pub time: Timestamp,
}

/// Which authorizations are wanted. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// From this node.
    pub source: Option<NodeId>,
    /// From this user's nodes.
    pub user: Option<UserId>,
    /// To this node.
    pub destination: Option<NodeId>,
    /// By this protocol.
    pub protocol: Option<Protocol>,
    /// With this port among theirs.
    pub port: Option<u16>,
    /// In force at the moment asked about.
    pub only_live: bool,
    /// Given no earlier.
    pub from: Option<Timestamp>,
    /// Given earlier than this.
    pub to: Option<Timestamp>,
    /// Continuing (or being) this one.
    pub chain: Option<AuthorizationId>,
}

impl Projection for Connections {
    fn name(&self) -> &'static str {
        "connections"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS authorizations (
             auth TEXT PRIMARY KEY, seq INTEGER NOT NULL, time INTEGER NOT NULL, chain TEXT NOT NULL, renews TEXT,
             destination TEXT NOT NULL, route TEXT, protocol TEXT NOT NULL, first_port INTEGER NOT NULL,
             last_port INTEGER NOT NULL, rule TEXT NOT NULL, policy INTEGER NOT NULL, expires_at INTEGER NOT NULL)
             STRICT, WITHOUT ROWID;
         CREATE UNIQUE INDEX IF NOT EXISTS authorizations_by_record ON authorizations (seq);
         CREATE INDEX IF NOT EXISTS authorizations_by_destination ON authorizations (destination, seq);
         CREATE INDEX IF NOT EXISTS authorizations_by_expiry ON authorizations (expires_at);
         CREATE INDEX IF NOT EXISTS authorizations_by_chain ON authorizations (chain, seq);
         CREATE TABLE IF NOT EXISTS revocations (
             seq INTEGER PRIMARY KEY, auth TEXT NOT NULL, time INTEGER NOT NULL, reason TEXT NOT NULL,
             cause INTEGER NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS revocations_by_authorization ON revocations (auth);
         CREATE INDEX IF NOT EXISTS revocations_by_cause ON revocations (cause, seq);
         CREATE TABLE IF NOT EXISTS acknowledgements (
             seq INTEGER PRIMARY KEY, auth TEXT NOT NULL, carried_out INTEGER NOT NULL, side TEXT NOT NULL,
             action TEXT NOT NULL, time INTEGER NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS acknowledgements_by_authorization ON acknowledgements (auth, seq);
         CREATE TABLE IF NOT EXISTS closings (
             seq INTEGER PRIMARY KEY, auth TEXT NOT NULL, side TEXT NOT NULL, reason TEXT NOT NULL,
             bytes_sent INTEGER NOT NULL, bytes_received INTEGER NOT NULL, path TEXT, time INTEGER NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS closings_by_authorization ON closings (auth, seq);"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let (seq, now) = (entry.seq(), to_nanos(entry.record.time));
        let folded = match &entry.record.event {
            Event::ConnectionAuthorized(event) => {
                // A permission that continues another belongs to the same chain.
                let sql = "INSERT INTO authorizations (auth, seq, time, chain, renews, destination, route,
                               protocol, first_port, last_port, rule, policy, expires_at)
                           VALUES (?1, ?2, ?3, coalesce((SELECT chain FROM authorizations WHERE auth = ?4), ?1), ?4,
                               ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
                transaction.prepare_cached(sql).and_then(|mut insert| {
                    insert.execute(params![
                        event.authorization.as_str(),
                        seq,
                        now,
                        event.renews.as_ref().map(AuthorizationId::as_str),
                        event.destination.as_str(),
                        event.route.map(|route| route.to_string()),
                        event.protocol.to_string(),
                        event.ports.first(),
                        event.ports.last(),
                        event.rule,
                        event.policy.0,
                        to_nanos(event.expires_at),
                    ])
                })
            }
            Event::ConnectionRevoked(event) => to_word(&event.reason).and_then(|reason| {
                let sql =
                    "INSERT INTO revocations (seq, auth, time, reason, cause) VALUES (?1, ?2, ?3, ?4, ?5)";
                let cause = entry.record.cause.unwrap_or(entry.record.seq).0;
                let auth = event.authorization.as_str();
                transaction.prepare_cached(sql)?.execute(params![seq, auth, now, reason, cause])
            }),
            Event::ConnectionAcknowledged(event) => to_word(&event.side).and_then(|side| {
                let sql = "INSERT INTO acknowledgements (seq, auth, carried_out, side, action, time)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let (auth, action) = (event.authorization.as_str(), event.action.to_string());
                let row = params![seq, auth, event.record.0, side, action, now];
                transaction.prepare_cached(sql)?.execute(row)
            }),
            Event::ConnectionClosed(event) => to_word(&event.side).and_then(|side| {
                let sql =
                    "INSERT INTO closings (seq, auth, side, reason, bytes_sent, bytes_received, path, time)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                transaction.prepare_cached(sql)?.execute(params![
                    seq,
                    event.authorization.as_str(),
                    side,
                    to_word(&event.reason)?,
                    i64::try_from(event.bytes_sent).unwrap_or(i64::MAX),
                    i64::try_from(event.bytes_received).unwrap_or(i64::MAX),
                    event.path.as_ref().map(to_word).transpose()?,
                    now,
                ])
            }),
            _ => Ok(0),
        };
        folded.map(drop).map_err(|source| entry.database(source))
    }
}

const SELECT: &str =
    "SELECT a.*, n.value AS source_node, u.value AS source_user, r.seq AS revoked, r.reason AS revocation
    FROM authorizations a
    LEFT JOIN personal n ON n.seq = a.seq AND n.field = 'source.node'
    LEFT JOIN personal u ON u.seq = a.seq AND u.field = 'source.user'
    LEFT JOIN revocations r ON r.auth = a.auth AND r.seq < :bound";

fn row(row: &Row<'_>) -> rusqlite::Result<Authorization> {
    let ports = PortRange::new(row.get("first_port")?, row.get("last_port")?);
    Ok(Authorization {
        authorization: parsed(row, "auth")?,
        seq: Seq(row.get("seq")?),
        chain: parsed(row, "chain")?,
        renews: optional(row, "renews")?,
        source_node: optional(row, "source_node")?,
        source_user: optional(row, "source_user")?,
        destination: parsed(row, "destination")?,
        route: optional(row, "route")?,
        protocol: parsed(row, "protocol")?,
        ports: ports.unwrap_or(PortRange::ALL),
        rule: row.get("rule")?,
        policy: PolicyVersion(row.get("policy")?),
        since: time(row, "time")?,
        expires_at: time(row, "expires_at")?,
        revoked: row.get::<_, Option<u64>>("revoked")?.map(Seq),
        revocation: optional_word(row, "revocation")?,
    })
}

/// Authorizations that a filter lets through, by record.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    filter: &ConnectionFilter,
    slice: &Slice<Seq>,
) -> Result<Page<Authorization>, ViewError> {
    let (after, order) = if slice.newest_first { ("<", "DESC") } else { (">", "ASC") };
    let sql = format!(
        "{SELECT}
         WHERE a.seq < :bound AND (:after IS NULL OR a.seq {after} :after)
             AND (:source IS NULL OR n.value = :source) AND (:user IS NULL OR u.value = :user)
             AND (:destination IS NULL OR a.destination = :destination)
             AND (:protocol IS NULL OR a.protocol = :protocol)
             AND (:port IS NULL OR :port BETWEEN a.first_port AND a.last_port)
             AND (NOT :live OR (r.seq IS NULL AND a.expires_at > :now))
             AND (:chain IS NULL OR a.chain = :chain) AND a.time >= :from AND a.time < :to
         ORDER BY a.seq {order} LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.map(|seq| seq.0),
        ":source": filter.source.as_ref().map(NodeId::as_str),
        ":user": filter.user.as_ref().map(UserId::as_str),
        ":destination": filter.destination.as_ref().map(NodeId::as_str),
        ":protocol": filter.protocol.map(|protocol| protocol.to_string()),
        ":port": filter.port,
        ":live": filter.only_live,
        ":now": moment.nanos(),
        ":chain": filter.chain.as_ref().map(AuthorizationId::as_str),
        ":from": filter.from.map_or(i64::MIN, to_nanos),
        ":to": filter.to.map_or(i64::MAX, to_nanos),
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// One authorization as of a moment.
pub fn get(
    connection: &Connection,
    moment: &Moment,
    authorization: &AuthorizationId,
) -> Result<Option<Authorization>, ViewError> {
    let sql = format!("{SELECT} WHERE a.auth = :auth AND a.seq < :bound");
    let parameters = named_params! { ":auth": authorization.as_str(), ":bound": moment.bound() };
    Ok(connection.prepare_cached(&sql)?.query_row(parameters, row).optional()?)
}

/// What agents acknowledged of an authorization by a moment.
pub fn acknowledgements(
    connection: &Connection,
    moment: &Moment,
    authorization: &AuthorizationId,
) -> Result<Vec<Acknowledgement>, ViewError> {
    let sql = "SELECT * FROM acknowledgements WHERE auth = ?1 AND seq < ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![authorization.as_str(), moment.bound(), MAX_FACTS], |row| {
        Ok(Acknowledgement {
            seq: Seq(row.get("seq")?),
            carried_out: Seq(row.get("carried_out")?),
            side: word(row, "side")?,
            action: word(row, "action")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What agents reported of the end of an authorization, or of one that continued it, by a moment.
pub fn closings(
    connection: &Connection,
    moment: &Moment,
    chain: &AuthorizationId,
) -> Result<Vec<Closing>, ViewError> {
    let sql = "SELECT c.* FROM authorizations a JOIN closings c ON c.auth = a.auth
               WHERE a.chain = ?1 AND c.seq < ?2 ORDER BY c.seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![chain.as_str(), moment.bound(), MAX_FACTS], |row| {
        Ok(Closing {
            seq: Seq(row.get("seq")?),
            authorization: parsed(row, "auth")?,
            side: word(row, "side")?,
            reason: word(row, "reason")?,
            bytes_sent: row.get("bytes_sent")?,
            bytes_received: row.get("bytes_received")?,
            path: optional_word(row, "path")?,
            time: time(row, "time")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
