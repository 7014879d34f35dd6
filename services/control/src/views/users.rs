//! Users, by their pseudonyms.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use writ_schema::event::{Event, UserSource};
use writ_schema::seal::Subject;
use writ_schema::{Seq, UserId};

use super::projection::{Versioned, supersede};
use super::read::{optional_time, parsed, to_nanos, to_word, word};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds users.
pub struct Users;

const TABLE: Versioned = Versioned {
    name: "users",
    key: "user",
    columns: &[
        "status",
        "source",
        "provisioned_seq",
        "leaver_seq",
        "decided_at",
        "disabled_seq",
        "erased_seq",
    ],
};

/// Where a person stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Can own nodes.
    Active,
    /// The news of leaving has arrived.
    Leaving,
    /// May do nothing any more.
    Disabled,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The pseudonym.
    pub user: UserId,
    /// Where the person stands.
    pub status: UserStatus,
    /// Who said that the person exists.
    pub source: UserSource,
    /// The record that made the user.
    pub provisioned: Seq,
    /// The record of the news of leaving.
    pub leaver: Option<Seq>,
    /// When the source says that leaving was decided.
    pub decided_at: Option<Timestamp>,
    /// The record that disabled the user.
    pub disabled: Option<Seq>,
    /// The record that made the person's data unreadable.
    pub erased: Option<Seq>,
}

impl Projection for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS users (
             user TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_until INTEGER, status TEXT NOT NULL,
             source TEXT NOT NULL, provisioned_seq INTEGER NOT NULL, leaver_seq INTEGER, decided_at INTEGER,
             disabled_seq INTEGER, erased_seq INTEGER, PRIMARY KEY (user, valid_from)) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS users_by_provisioning ON users (provisioned_seq);"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let seq = entry.seq();
        match &entry.record.event {
            Event::UserProvisioned(event) => {
                let insert = || -> rusqlite::Result<usize> {
                    let sql = "INSERT INTO users (user, valid_from, status, source, provisioned_seq)
                               VALUES (?1, ?2, 'active', ?3, ?2)";
                    let source = to_word(&event.source)?;
                    transaction.prepare_cached(sql)?.execute(params![event.user.as_str(), seq, source])
                };
                insert().map(drop).map_err(|source| entry.database(source))
            }
            Event::UserLeaverReceived(event) => {
                let decided_at = event.decided_at.map(to_nanos);
                let changes: [(&str, &dyn rusqlite::ToSql); 3] =
                    [("status", &"leaving"), ("leaver_seq", &seq), ("decided_at", &decided_at)];
                supersede(transaction, &TABLE, entry, event.user.as_str(), &changes)
            }
            Event::UserDisabled(event) => {
                let changes: [(&str, &dyn rusqlite::ToSql); 2] =
                    [("status", &"disabled"), ("disabled_seq", &seq)];
                supersede(transaction, &TABLE, entry, event.user.as_str(), &changes)
            }
            Event::KeyShredded(event) => match &event.subject {
                Subject::User(user) => {
                    supersede(transaction, &TABLE, entry, user.as_str(), &[("erased_seq", &seq)])
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<User> {
    let seq = |column: &str| row.get::<_, Option<u64>>(column).map(|seq| seq.map(Seq));
    Ok(User {
        user: parsed(row, "user")?,
        status: word(row, "status")?,
        source: word(row, "source")?,
        provisioned: Seq(row.get("provisioned_seq")?),
        leaver: seq("leaver_seq")?,
        decided_at: optional_time(row, "decided_at")?,
        disabled: seq("disabled_seq")?,
        erased: seq("erased_seq")?,
    })
}

/// The users of a moment, by pseudonym.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    status: Option<UserStatus>,
    slice: &Slice<UserId>,
) -> Result<Page<User>, ViewError> {
    let sql = "SELECT * FROM users
               WHERE valid_from < :bound AND (valid_until IS NULL OR valid_until >= :bound) AND user > :after
                   AND (:status IS NULL OR status = :status)
               ORDER BY user LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.as_ref().map_or("", UserId::as_str),
        ":status": status.as_ref().map(to_word).transpose()?,
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// One user as of a moment.
pub fn get(connection: &Connection, moment: &Moment, user: &UserId) -> Result<Option<User>, ViewError> {
    let sql = "SELECT * FROM users WHERE user = ?1 AND valid_from < ?2 AND (valid_until IS NULL OR valid_until >= ?2)";
    Ok(connection.prepare_cached(sql)?.query_row(params![user.as_str(), moment.bound()], row).optional()?)
}

/// All pseudonyms that existed by a moment, those of people who left included: a policy may still name them.
pub fn pseudonyms(connection: &Connection, moment: &Moment) -> Result<Vec<UserId>, ViewError> {
    let sql = "SELECT DISTINCT user FROM users WHERE valid_from < ?1 ORDER BY user";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map(params![moment.bound()], |row| parsed(row, "user"))?.collect::<Result<_, _>>()?)
}
