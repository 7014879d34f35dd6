//! Withdrawals: how long a cause took until every agent had carried it out.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};
use writ_schema::event::RevocationReason;
use writ_schema::{AuthorizationId, Seq};

use super::read::{optional_time, parsed, time, to_nanos, word};
use super::{Moment, Page, Slice, ViewError};

/// Most revocations that are read for one cause.
pub const MAX_REVOCATIONS: usize = 1_000;

/// A record that took permissions away, or the news that a person leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// The cause.
    pub cause: Seq,
    /// When the cause was recorded.
    pub time: Timestamp,
    /// Kind of the cause.
    pub kind: String,
    /// Authorizations that were revoked.
    pub revoked: u64,
    /// Ends (two of each revoked authorization) that have acknowledged.
    pub ends_acknowledged: u64,
    /// The last acknowledgement.
    pub last: Option<Seq>,
    /// When the last acknowledgement was recorded.
    pub last_time: Option<Timestamp>,
    /// When the last permission that some end has not given up ends by itself.
    pub open_until: Option<Timestamp>,
}

/// One permission that a cause took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub authorization: AuthorizationId,
    /// The record of its revocation.
    pub seq: Seq,
    /// Why.
    pub reason: RevocationReason,
    /// When it would have ended by itself.
    pub expires_at: Timestamp,
    /// The source's acknowledgement.
    pub source: Option<Seq>,
    /// The destination's acknowledgement.
    pub destination: Option<Seq>,
}

// One row per revoked permission with the first acknowledgement of each end.
const REVOKED: &str = "SELECT r.seq, r.auth, r.cause, r.reason, a.expires_at,
        (SELECT min(k.seq) FROM acknowledgements k WHERE k.auth = r.auth AND k.action = 'withdrawn'
             AND k.side = 'source' AND k.seq > r.seq AND k.seq < :bound) AS source_ack,
        (SELECT min(k.seq) FROM acknowledgements k WHERE k.auth = r.auth AND k.action = 'withdrawn'
             AND k.side = 'destination' AND k.seq > r.seq AND k.seq < :bound) AS destination_ack
    FROM revocations r JOIN authorizations a ON a.auth = r.auth
    WHERE r.seq < :bound";

/// Causes by a moment, newest first. `after` names the cause that the caller has seen last.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    slice: &Slice<Seq>,
) -> Result<Page<Withdrawal>, ViewError> {
    let sql = format!(
        "WITH causes AS (
             SELECT seq, time, kind FROM records c
             WHERE c.seq < :bound AND (:after IS NULL OR c.seq < :after) AND c.time >= :from AND c.time < :to
                 AND (c.kind = 'user.leaver_received'
                      OR c.seq IN (SELECT cause FROM revocations WHERE seq < :bound))
             ORDER BY c.seq DESC LIMIT :limit),
         revoked AS ({REVOKED} AND r.cause IN (SELECT seq FROM causes))
         SELECT c.seq, c.time, c.kind, count(v.seq) AS revoked,
             count(v.source_ack) + count(v.destination_ack) AS ends,
             max(max(coalesce(v.source_ack, -1), coalesce(v.destination_ack, -1))) AS last,
             max(iif(v.source_ack IS NULL OR v.destination_ack IS NULL, v.expires_at, NULL)) AS open_until
         FROM causes c LEFT JOIN revoked v ON v.cause = c.seq
         GROUP BY c.seq ORDER BY c.seq DESC"
    );
    let sql = format!(
        "SELECT w.*, k.time AS last_time FROM ({sql}) w LEFT JOIN records k ON k.seq = w.last ORDER BY w.seq DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.map(|seq| seq.0),
        ":from": from.map_or(i64::MIN, to_nanos),
        ":to": to.map_or(i64::MAX, to_nanos),
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, withdrawal)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

fn withdrawal(row: &Row<'_>) -> rusqlite::Result<Withdrawal> {
    let last: Option<i64> = row.get("last")?;
    Ok(Withdrawal {
        cause: Seq(row.get("seq")?),
        time: time(row, "time")?,
        kind: row.get("kind")?,
        revoked: row.get("revoked")?,
        ends_acknowledged: row.get("ends")?,
        last: last.and_then(|seq| u64::try_from(seq).ok()).map(Seq),
        last_time: optional_time(row, "last_time")?,
        open_until: optional_time(row, "open_until")?,
    })
}

/// The permissions that a cause took away, by record.
pub fn revocations(
    connection: &Connection,
    moment: &Moment,
    cause: Seq,
) -> Result<Vec<Revocation>, ViewError> {
    let sql = format!("{REVOKED} AND r.cause = :cause ORDER BY r.seq LIMIT :limit");
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(MAX_REVOCATIONS).unwrap_or(i64::MAX);
    let parameters = named_params! { ":bound": moment.bound(), ":cause": cause.0, ":limit": limit };
    let rows = statement.query_map(parameters, |row| {
        Ok(Revocation {
            authorization: parsed(row, "auth")?,
            seq: Seq(row.get("seq")?),
            reason: word(row, "reason")?,
            expires_at: time(row, "expires_at")?,
            source: row.get::<_, Option<u64>>("source_ack")?.map(Seq),
            destination: row.get::<_, Option<u64>>("destination_ack")?.map(Seq),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
