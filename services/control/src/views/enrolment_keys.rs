//! Enrolment keys and how often they were used.

use jiff::Timestamp;
use rusqlite::{Connection, Row, ToSql, Transaction, named_params, params};
use writ_schema::event::{Event, NodeOwner};
use writ_schema::{EnrolmentKeyId, Seq};

use super::projection::{Versioned, supersede};
use super::read::{owner, owner_columns, parsed, time, to_nanos};
use super::records::actor_text;
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds enrolment keys.
pub struct EnrolmentKeys;

const TABLE: Versioned = Versioned {
    name: "enrolment_keys",
    key: "enrolment_key",
    columns: &[
        "owner_user",
        "owner_tags",
        "max_uses",
        "uses",
        "expires_at",
        "created_by",
        "created_seq",
        "last_use_seq",
        "revoked_seq",
    ],
};

/// An enrolment key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentKey {
    /// Its public name.
    pub key: EnrolmentKeyId,
    /// Whose nodes it makes.
    pub owner: NodeOwner,
    /// How many nodes may join with it.
    pub max_uses: u32,
    /// How many have.
    pub uses: u32,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// The record that made it.
    pub created: Seq,
    /// The record of the last joining with it.
    pub last_use: Option<Seq>,
    /// The record that revoked it.
    pub revoked: Option<Seq>,
}

impl EnrolmentKey {
    /// Whether a node could join with it at a moment.
    pub fn is_usable(&self, moment: &Moment) -> bool {
        self.revoked.is_none() && self.uses < self.max_uses && moment.time < self.expires_at
    }
}

impl Projection for EnrolmentKeys {
    fn name(&self) -> &'static str {
        "enrolment_keys"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS enrolment_keys (
             enrolment_key TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_until INTEGER, owner_user TEXT,
             owner_tags TEXT, max_uses INTEGER NOT NULL, uses INTEGER NOT NULL, expires_at INTEGER NOT NULL,
             created_by TEXT NOT NULL, created_seq INTEGER NOT NULL, last_use_seq INTEGER, revoked_seq INTEGER,
             PRIMARY KEY (enrolment_key, valid_from)) STRICT, WITHOUT ROWID;"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let seq = entry.seq();
        match &entry.record.event {
            Event::EnrolKeyCreated(event) => {
                let (user, tags) = owner_columns(&event.owner);
                let insert = || -> rusqlite::Result<()> {
                    let sql = "INSERT INTO enrolment_keys (enrolment_key, valid_from, owner_user, owner_tags,
                                   max_uses, uses, expires_at, created_by, created_seq)
                               VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?2)";
                    transaction.prepare_cached(sql)?.execute(params![
                        event.key.as_str(),
                        seq,
                        user,
                        tags,
                        event.max_uses,
                        to_nanos(event.expires_at),
                        actor_text(&entry.record.actor),
                    ])?;
                    Ok(())
                };
                insert().map_err(|source| entry.database(source))
            }
            Event::NodeJoined(event) => {
                let key = event.enrolment_key.as_str();
                let sql =
                    "SELECT uses + 1 FROM enrolment_keys WHERE enrolment_key = ?1 AND valid_until IS NULL";
                let uses: i64 = transaction
                    .prepare_cached(sql)
                    .and_then(|mut statement| statement.query_row(params![key], |row| row.get(0)))
                    .map_err(|_| entry.orphan(key))?;
                let changes: [(&str, &dyn ToSql); 2] = [("uses", &uses), ("last_use_seq", &seq)];
                supersede(transaction, &TABLE, entry, key, &changes)
            }
            Event::EnrolKeyRevoked(event) => {
                supersede(transaction, &TABLE, entry, event.key.as_str(), &[("revoked_seq", &seq)])
            }
            _ => Ok(()),
        }
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<EnrolmentKey> {
    Ok(EnrolmentKey {
        key: parsed(row, "enrolment_key")?,
        owner: owner(row)?,
        max_uses: row.get("max_uses")?,
        uses: row.get("uses")?,
        expires_at: time(row, "expires_at")?,
        created_by: row.get("created_by")?,
        created: Seq(row.get("created_seq")?),
        last_use: row.get::<_, Option<u64>>("last_use_seq")?.map(Seq),
        revoked: row.get::<_, Option<u64>>("revoked_seq")?.map(Seq),
    })
}

/// The keys of a moment, by name.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    slice: &Slice<EnrolmentKeyId>,
) -> Result<Page<EnrolmentKey>, ViewError> {
    let sql = "SELECT * FROM enrolment_keys
               WHERE valid_from < :bound AND (valid_until IS NULL OR valid_until >= :bound)
                   AND enrolment_key > :after
               ORDER BY enrolment_key LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.as_ref().map_or("", EnrolmentKeyId::as_str),
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}
