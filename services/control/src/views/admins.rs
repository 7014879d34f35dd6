//! Local administrators and their roles.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use writ_schema::event::{Event, Role};
use writ_schema::{AdminId, Seq};

use super::projection::{Versioned, supersede};
use super::read::{parsed, to_word, word};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds administrators.
pub struct Admins;

const TABLE: Versioned =
    Versioned { name: "admins", key: "admin", columns: &["role", "granted_seq", "revoked_seq"] };

/// An administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Who.
    pub admin: AdminId,
    /// What they may do, or might until it was revoked.
    pub role: Role,
    /// The record that gave the role.
    pub granted: Seq,
    /// The record that took it.
    pub revoked: Option<Seq>,
}

impl Projection for Admins {
    fn name(&self) -> &'static str {
        "admins"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS admins (
             admin TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_until INTEGER, role TEXT NOT NULL,
             granted_seq INTEGER NOT NULL, revoked_seq INTEGER, PRIMARY KEY (admin, valid_from)) STRICT, WITHOUT ROWID;"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let seq = entry.seq();
        match &entry.record.event {
            Event::AdminRoleGranted(event) => {
                let insert = || -> rusqlite::Result<()> {
                    let end = "UPDATE admins SET valid_until = ?1 WHERE admin = ?2 AND valid_until IS NULL";
                    transaction.prepare_cached(end)?.execute(params![seq, event.admin.as_str()])?;
                    let sql =
                        "INSERT INTO admins (admin, valid_from, role, granted_seq) VALUES (?1, ?2, ?3, ?2)";
                    let role = to_word(&event.role)?;
                    transaction.prepare_cached(sql)?.execute(params![event.admin.as_str(), seq, role])?;
                    Ok(())
                };
                insert().map_err(|source| entry.database(source))
            }
            Event::AdminRoleRevoked(event) => {
                supersede(transaction, &TABLE, entry, event.admin.as_str(), &[("revoked_seq", &seq)])
            }
            _ => Ok(()),
        }
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<Admin> {
    Ok(Admin {
        admin: parsed(row, "admin")?,
        role: word(row, "role")?,
        granted: Seq(row.get("granted_seq")?),
        revoked: row.get::<_, Option<u64>>("revoked_seq")?.map(Seq),
    })
}

/// The administrators of a moment, those that were revoked included, by identifier.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    slice: &Slice<AdminId>,
) -> Result<Page<Admin>, ViewError> {
    let sql = "SELECT * FROM admins
               WHERE valid_from < :bound AND (valid_until IS NULL OR valid_until >= :bound) AND admin > :after
               ORDER BY admin LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.as_ref().map_or("", AdminId::as_str),
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// One administrator as of a moment.
pub fn get(connection: &Connection, moment: &Moment, admin: &AdminId) -> Result<Option<Admin>, ViewError> {
    let sql = "SELECT * FROM admins WHERE admin = ?1 AND valid_from < ?2 AND (valid_until IS NULL OR valid_until >= ?2)";
    Ok(connection.prepare_cached(sql)?.query_row(params![admin.as_str(), moment.bound()], row).optional()?)
}
