//! What every projection is, and what several share.

use rusqlite::{Transaction, params};
use writ_schema::Record;

use super::FoldError;

/// A record as a projection sees it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The record, opened as far as there are keys.
    pub record: &'a Record,
    /// Its exact bytes.
    pub bytes: &'a str,
}

impl Entry<'_> {
    /// Its position, as SQLite counts.
    pub(super) fn seq(&self) -> i64 {
        i64::try_from(self.record.seq.0).unwrap_or(i64::MAX)
    }

    pub(super) fn orphan(&self, what: impl ToString) -> FoldError {
        FoldError::Orphan { seq: self.record.seq, what: what.to_string() }
    }

    pub(super) fn database(&self, source: rusqlite::Error) -> FoldError {
        FoldError::Database { seq: self.record.seq, source }
    }
}

/// Code that folds records into tables of its own.
pub trait Projection: Send + Sync {
    /// Its name; its position is kept under it.
    fn name(&self) -> &'static str;

    /// Its tables: `CREATE TABLE IF NOT EXISTS …`.
    fn schema(&self) -> &'static str;

    /// Takes one record in. Called once for every record, in order.
    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError>;
}

/// Ends the row of a thing that holds at present and begins a new one that differs in the given columns.
pub(super) fn supersede(
    transaction: &Transaction<'_>,
    table: &Versioned,
    entry: Entry<'_>,
    id: &str,
    changes: &[(&str, &dyn rusqlite::ToSql)],
) -> Result<(), FoldError> {
    let run = || -> rusqlite::Result<usize> {
        let Versioned { name, key, columns } = table;
        let end = format!("UPDATE {name} SET valid_until = ?1 WHERE {key} = ?2 AND valid_until IS NULL");
        if transaction.prepare_cached(&end)?.execute(params![entry.seq(), id])? != 1 {
            return Ok(0);
        }
        let copied = columns.join(", ");
        let begin = format!(
            "INSERT INTO {name} ({key}, valid_from, {copied}) \
             SELECT {key}, ?1, {copied} FROM {name} WHERE {key} = ?2 AND valid_until = ?1"
        );
        transaction.prepare_cached(&begin)?.execute(params![entry.seq(), id])?;
        for (column, value) in changes {
            let change = format!("UPDATE {name} SET {column} = ?1 WHERE {key} = ?2 AND valid_until IS NULL");
            transaction.prepare_cached(&change)?.execute(params![value, id])?;
        }
        Ok(1)
    };
    match run() {
        Ok(1) => Ok(()),
        Ok(_) => Err(entry.orphan(id)),
        Err(source) => Err(entry.database(source)),
    }
}

/// A table whose rows hold from one record until another.
pub(super) struct Versioned {
    /// Its name.
    pub(super) name: &'static str,
    /// The column that names the thing.
    pub(super) key: &'static str,
    /// All other columns but `valid_from` and `valid_until`.
    pub(super) columns: &'static [&'static str],
}
