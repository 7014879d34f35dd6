//! The database file: opening, positions, comparing.

use std::path::Path;

use data_encoding::HEXLOWER;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use sha2::{Digest, Sha256};
use writ_schema::Seq;

use super::{Projection, ViewError};

/// Counts changes of the tables. A file of another layout is dropped and folded anew.
const LAYOUT: i64 = 2;

/// How long a reader waits for a writer's lock before it gives up.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Prepared statements that a connection keeps.
const STATEMENT_CACHE: usize = 128;

/// Opens the file for the projector, makes missing tables, and empties a file of another layout.
pub fn open_for_folding(path: &Path, projections: &[Box<dyn Projection>]) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A lost transaction is folded again, so the log's durability is enough. Purged values must leave the file.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if layout != LAYOUT {
        drop_everything(&mut connection)?;
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS projection (name TEXT PRIMARY KEY, next_seq INTEGER NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS last_record (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
             digest TEXT NOT NULL) STRICT;",
    )?;
    for projection in projections {
        transaction.execute_batch(projection.schema())?;
        transaction.execute(
            "INSERT INTO projection (name, next_seq) VALUES (?1, 0) ON CONFLICT DO NOTHING",
            params![projection.name()],
        )?;
    }
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()?;
    Ok(connection)
}

/// Opens the file for queries.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// Drops every table, so that folding begins at record 0.
pub(super) fn drop_everything(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for table in tables(&transaction)? {
        transaction.execute_batch(&format!("DROP TABLE \"{table}\""))?;
    }
    transaction.pragma_update(None, "user_version", 0)?;
    transaction.commit()
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The record that a projection takes next.
pub(super) fn position(connection: &Connection, projection: &str) -> rusqlite::Result<Seq> {
    connection
        .prepare_cached("SELECT next_seq FROM projection WHERE name = ?1")?
        .query_row(params![projection], |row| row.get(0).map(Seq))
}

/// Every projection with the record that it takes next.
pub fn positions(connection: &Connection) -> rusqlite::Result<Vec<(String, Seq)>> {
    connection
        .prepare_cached("SELECT name, next_seq FROM projection ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, Seq(row.get(1)?))))?
        .collect()
}

/// Records that every projection has folded.
pub(super) fn lowest_position(connection: &Connection) -> Result<u64, ViewError> {
    let lowest: Option<u64> =
        connection.prepare_cached("SELECT min(next_seq) FROM projection")?.query_row([], |row| row.get(0))?;
    Ok(lowest.unwrap_or(0))
}

pub(super) fn advance(connection: &Connection, projection: &str, next: Seq) -> rusqlite::Result<()> {
    let sql = "UPDATE projection SET next_seq = ?2 WHERE name = ?1";
    connection.prepare_cached(sql)?.execute(params![projection, next.0]).map(drop)
}

/// Notes which record was folded last, so that views of another log are noticed.
pub(super) fn remember_last(connection: &Connection, seq: Seq, bytes: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO last_record (one, seq, digest) VALUES (1, ?1, ?2)
               ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, digest = excluded.digest
               WHERE excluded.seq > last_record.seq";
    connection.prepare_cached(sql)?.execute(params![seq.0, digest(bytes)]).map(drop)
}

/// The record that was folded last, with the digest of its bytes.
pub(super) fn last_record(connection: &Connection) -> rusqlite::Result<Option<(Seq, String)>> {
    let sql = "SELECT seq, digest FROM last_record";
    connection.query_row(sql, [], |row| Ok((Seq(row.get(0)?), row.get(1)?))).optional()
}

pub(super) fn digest(bytes: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes.as_bytes()))
}

/// One hash over the content of every table: equal for views that say the same.
pub fn fingerprint(connection: &Connection) -> rusqlite::Result<String> {
    let mut hash = Sha256::new();
    for table in tables(connection)? {
        hash.update(table.as_bytes());
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = statement.column_count();
        let order: Vec<String> = (1..=columns).map(|column| column.to_string()).collect();
        statement =
            connection.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY {}", order.join(", ")))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            hash.update([1]);
            for column in 0..columns {
                hash_value(&mut hash, row.get_ref(column)?);
            }
        }
        hash.update([0]);
    }
    Ok(HEXLOWER.encode(&hash.finalize()))
}

fn hash_value(hash: &mut Sha256, value: ValueRef<'_>) {
    let (kind, bytes) = match value {
        ValueRef::Null => (0, Vec::new()),
        ValueRef::Integer(number) => (1, number.to_be_bytes().to_vec()),
        ValueRef::Real(number) => (2, number.to_be_bytes().to_vec()),
        ValueRef::Text(text) => (3, text.to_vec()),
        ValueRef::Blob(blob) => (4, blob.to_vec()),
    };
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
