//! The index of records: when, what kind, by whom, because of what, about whom.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params, params_from_iter, types::Value};
use serde_json::Value as Json;
use writ_schema::{Actor, Seq};

use super::read::{time, to_nanos};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds the index of records.
pub struct Records;

/// Characters of an identifier: a prefix of four and 26 of base32.
const ID_CHARS: usize = 30;

/// Most identifiers of one record that are indexed.
const MAX_SUBJECTS: usize = 64;

/// A record as a list shows it; its bytes are in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// Position in the log.
    pub seq: Seq,
    /// When it was decided.
    pub time: Timestamp,
    /// Its kind.
    pub kind: String,
    /// Who caused it: an identifier, or a word such as `system`.
    pub actor: String,
    /// The record that brought it about.
    pub cause: Option<Seq>,
    /// The command that it answers.
    pub command: String,
}

/// Which records are wanted. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Of these kinds.
    pub kinds: Vec<String>,
    /// Not earlier.
    pub from: Option<Timestamp>,
    /// Earlier than this.
    pub to: Option<Timestamp>,
    /// Caused by this actor.
    pub actor: Option<String>,
    /// Brought about by this record.
    pub cause: Option<Seq>,
    /// That name this identifier.
    pub subject: Option<String>,
}

impl Projection for Records {
    fn name(&self) -> &'static str {
        "records"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS records (
             seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, cause INTEGER,
             command TEXT NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS records_by_time ON records (time, seq);
         CREATE INDEX IF NOT EXISTS records_by_kind ON records (kind, seq);
         CREATE INDEX IF NOT EXISTS records_by_actor ON records (actor, seq);
         CREATE INDEX IF NOT EXISTS records_by_cause ON records (cause, seq) WHERE cause IS NOT NULL;
         CREATE TABLE IF NOT EXISTS record_subjects (
             subject TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (subject, seq)) STRICT, WITHOUT ROWID;"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let run = || -> rusqlite::Result<()> {
            let record = entry.record;
            transaction
                .prepare_cached(
                    "INSERT INTO records (seq, time, kind, actor, cause, command) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    record.seq.0,
                    to_nanos(record.time),
                    record.event.kind(),
                    actor_text(&record.actor),
                    record.cause.map(|cause| cause.0),
                    record.command.id.as_str(),
                ])?;
            let sql = "INSERT INTO record_subjects (subject, seq) VALUES (?1, ?2)";
            let mut insert = transaction.prepare_cached(sql)?;
            for subject in subjects(entry.bytes) {
                insert.execute(params![subject, record.seq.0])?;
            }
            Ok(())
        };
        run().map_err(|source| entry.database(source))
    }
}

/// The actor as one word or identifier.
pub fn actor_text(actor: &Actor) -> String {
    match actor {
        Actor::System => "system".to_owned(),
        Actor::Admin(admin) => admin.to_string(),
        Actor::User(user) => user.to_string(),
        Actor::Node(node) => node.to_string(),
        Actor::Agent => "agent".to_owned(),
        Actor::Anonymous => "anonymous".to_owned(),
    }
}

/// Every identifier that stands open in a record.
fn subjects(bytes: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Ok(Json::Object(mut record)) = serde_json::from_str(bytes) {
        for part in ["actor", "event"] {
            collect(&record.remove(part).unwrap_or(Json::Null), &mut found);
        }
    }
    found
}

fn collect(value: &Json, found: &mut BTreeSet<String>) {
    match value {
        Json::String(text) if is_identifier(text) && found.len() < MAX_SUBJECTS => {
            found.insert(text.clone());
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Json::Object(members) => members.values().for_each(|member| collect(member, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn is_identifier(text: &str) -> bool {
    let prefixes = ["net_", "usr_", "nod_", "adm_", "enk_", "tok_", "aut_", "prp_"];
    text.len() == ID_CHARS && prefixes.iter().any(|prefix| text.starts_with(prefix))
}

const COLUMNS: &str = "r.seq, r.time, r.kind, r.actor, r.cause, r.command";

fn row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    Ok(RecordRow {
        seq: Seq(row.get("seq")?),
        time: time(row, "time")?,
        kind: row.get("kind")?,
        actor: row.get("actor")?,
        cause: row.get::<_, Option<u64>>("cause")?.map(Seq),
        command: row.get("command")?,
    })
}

/// Records that a filter lets through, in order.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    filter: &RecordFilter,
    slice: &Slice<Seq>,
) -> Result<Page<RecordRow>, ViewError> {
    let (sql, values) = select(COLUMNS, moment, filter, (slice.after, slice.newest_first), slice.limit());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// The positions alone, of as many records as the caller wants to hold: those that any of the filters lets through.
pub fn positions(
    connection: &Connection,
    moment: &Moment,
    filters: &[RecordFilter],
    after: Option<Seq>,
    limit: usize,
) -> Result<Page<Seq>, ViewError> {
    let more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut found = BTreeSet::new();
    // The first of all are among the first of each, which an index serves.
    for filter in filters {
        let (sql, values) = select("r.seq", moment, filter, (after, false), more);
        let mut statement = connection.prepare_cached(&sql)?;
        for seq in statement.query_map(params_from_iter(values), |row| row.get(0).map(Seq))? {
            found.insert(seq?);
        }
    }
    let has_next = found.len() > limit;
    Ok(Page { rows: found.into_iter().take(limit).collect(), has_next })
}

/// The statement for a filter, with what is bound to it. A condition stands in it only if it restricts, so that an index
/// can serve it.
fn select(
    columns: &str,
    moment: &Moment,
    filter: &RecordFilter,
    (after, newest_first): (Option<Seq>, bool),
    limit: i64,
) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {columns} FROM records r");
    let mut values: Vec<Value> = Vec::new();
    let mut bind = |sql: &mut String, condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&condition.replace('?', &format!("?{}", values.len())));
    };
    let integer = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    if let Some(subject) = &filter.subject {
        bind(&mut sql, " JOIN record_subjects s ON s.seq = r.seq AND s.subject = ?", subject.clone().into());
    }
    bind(&mut sql, " WHERE r.seq < ?", moment.bound().into());
    if let Some(after) = after {
        let condition = if newest_first { " AND r.seq < ?" } else { " AND r.seq > ?" };
        bind(&mut sql, condition, integer(after.0));
    }
    if let Some(from) = filter.from {
        bind(&mut sql, " AND r.time >= ?", to_nanos(from).into());
    }
    if let Some(to) = filter.to {
        bind(&mut sql, " AND r.time < ?", to_nanos(to).into());
    }
    if let Some(actor) = &filter.actor {
        bind(&mut sql, " AND r.actor = ?", actor.clone().into());
    }
    if let Some(cause) = filter.cause {
        bind(&mut sql, " AND r.cause = ?", integer(cause.0));
    }
    for (index, kind) in filter.kinds.iter().enumerate() {
        bind(&mut sql, if index == 0 { " AND r.kind IN (?" } else { ", ?" }, kind.clone().into());
    }
    sql.push_str(if filter.kinds.is_empty() { "" } else { ")" });
    sql.push_str(if newest_first { " ORDER BY r.seq DESC" } else { " ORDER BY r.seq" });
    bind(&mut sql, " LIMIT ?", limit.into());
    (sql, values)
}

/// How many records of each kind fall into a time.
pub fn counts(
    connection: &Connection,
    moment: &Moment,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<BTreeMap<String, u64>, ViewError> {
    let sql = "SELECT kind, count(*) FROM records WHERE seq < ?1 AND time >= ?2 AND time < ?3 GROUP BY kind";
    let bounds = (from.map_or(i64::MIN, to_nanos), to.map_or(i64::MAX, to_nanos));
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map(params![moment.bound(), bounds.0, bounds.1], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first and the last record of a time.
pub fn range(
    connection: &Connection,
    moment: &Moment,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Option<(Seq, Seq)>, ViewError> {
    let sql = "SELECT min(seq), max(seq) FROM records WHERE seq < ?1 AND time >= ?2 AND time < ?3";
    let bounds = (from.map_or(i64::MIN, to_nanos), to.map_or(i64::MAX, to_nanos));
    let found: (Option<u64>, Option<u64>) = connection
        .prepare_cached(sql)?
        .query_row(params![moment.bound(), bounds.0, bounds.1], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.0.zip(found.1).map(|(first, last)| (Seq(first), Seq(last))))
}

/// The rows of these records. Unknown ones are left out.
pub fn of_seqs(connection: &Connection, seqs: &BTreeSet<Seq>) -> Result<BTreeMap<Seq, RecordRow>, ViewError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM records r WHERE seq = ?1"))?;
    let mut found = BTreeMap::new();
    for seq in seqs {
        for record in statement.query_map(params![seq.0], row)? {
            found.insert(*seq, record?);
        }
    }
    Ok(found)
}
