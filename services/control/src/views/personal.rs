//! Personal data: every value that came out of a sealed field, by its record and field.
//!
//! Nothing else in the views holds any. A row goes when its subject's key is shredded; views that are rebuilt
//! afterwards never had it, since the field can no longer be opened.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;
use writ_schema::event::Event;
use writ_schema::seal::{DestroyedKeys, SealVisitor, Sealable, Sealed};
use writ_schema::{NodeId, Seq, UserId};

use super::{Entry, FoldError, Moment, Projection, ViewError};

/// Folds the table of personal values.
pub struct Personal;

impl Projection for Personal {
    fn name(&self) -> &'static str {
        "personal"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS personal (
             seq INTEGER NOT NULL, field TEXT NOT NULL, subject TEXT NOT NULL, retention TEXT NOT NULL,
             value TEXT NOT NULL, PRIMARY KEY (seq, field)) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS personal_by_subject ON personal (subject);
         CREATE INDEX IF NOT EXISTS personal_by_retention ON personal (retention);
         CREATE INDEX IF NOT EXISTS personal_by_value ON personal (field, value) WHERE field <> 'text';"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let run = || -> rusqlite::Result<()> {
            if let Some(keys) = entry.record.event.destroyed_keys() {
                let (sql, of) = match keys {
                    DestroyedKeys::OfSubject(subject) => {
                        ("DELETE FROM personal WHERE subject = ?1", subject.to_string())
                    }
                    DestroyedKeys::OfRetention(retention) => {
                        ("DELETE FROM personal WHERE retention = ?1", retention.to_string())
                    }
                };
                transaction.prepare_cached(sql)?.execute([of])?;
                return Ok(());
            }
            // Of an acknowledgement only the signature is sealed: a proof, nothing that anybody asks for.
            if matches!(entry.record.event, Event::ConnectionAcknowledged(_)) {
                return Ok(());
            }
            let mut opened = Opened(Vec::new());
            entry.record.event.clone().visit_sealed(&mut opened);
            let sql =
                "INSERT INTO personal (seq, field, subject, retention, value) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = transaction.prepare_cached(sql)?;
            for OpenValue { field, subject, retention, value } in opened.0 {
                insert.execute(params![entry.seq(), field, subject, retention, value])?;
            }
            Ok(())
        };
        run().map_err(|source| entry.database(source))
    }
}

struct OpenValue {
    field: String,
    subject: String,
    retention: String,
    value: String,
}

/// Collects the open fields; an object gives one value for each of its members.
struct Opened(Vec<OpenValue>);

impl SealVisitor for Opened {
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>) {
        let Some(value) = sealed.value().and_then(|value| serde_json::to_value(value).ok()) else { return };
        let Some((subject, retention)) = sealed.of() else { return };
        let (subject, retention) = (subject.to_string(), retention.to_string());
        let mut push = |field: String, value: String| {
            let (subject, retention) = (subject.clone(), retention.clone());
            self.0.push(OpenValue { field, subject, retention, value });
        };
        match value {
            Value::String(text) => push(field.to_owned(), text),
            Value::Object(members) => {
                for (name, member) in members {
                    if let Value::String(text) = member {
                        push(format!("{field}.{name}"), text);
                    }
                }
            }
            other => push(field.to_owned(), other.to_string()),
        }
    }
}

/// The value of a field of a record, if it can still be known.
pub fn value(connection: &Connection, seq: Seq, field: &str) -> Result<Option<String>, ViewError> {
    let sql = "SELECT value FROM personal WHERE seq = ?1 AND field = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![seq.0, field], |row| row.get(0)).optional()?)
}

/// A person behind a pseudonym.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// The pseudonym.
    pub user: UserId,
    /// Sign-in name; gone after an erasure.
    pub login: Option<String>,
    /// Name for people; gone after an erasure.
    pub display_name: Option<String>,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({})", self.user)
    }
}

/// The persons behind pseudonyms. Unknown pseudonyms are left out.
pub fn persons(connection: &Connection, moment: &Moment, users: &[UserId]) -> Result<Vec<Person>, ViewError> {
    let sql = "SELECT provisioned_seq FROM users WHERE user = ?1 AND valid_from < ?2 LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    for user in users {
        let seq: Option<u64> =
            statement.query_row(params![user.as_str(), moment.bound()], |row| row.get(0)).optional()?;
        if let Some(seq) = seq.map(Seq) {
            let login = value(connection, seq, "login")?;
            let display_name = value(connection, seq, "display_name")?;
            found.push(Person { user: user.clone(), login, display_name });
        }
    }
    Ok(found)
}

/// The pseudonym of a login: of a user who can sign in if there is one, else of the newest who had it.
pub fn user_of_login(
    connection: &Connection,
    moment: &Moment,
    login: &str,
) -> Result<Option<UserId>, ViewError> {
    let sql = "SELECT u.user FROM personal p JOIN users u ON u.provisioned_seq = p.seq
               WHERE p.field = 'login' AND p.value = ?1 AND u.valid_from < ?2
                   AND (u.valid_until IS NULL OR u.valid_until >= ?2)
               ORDER BY u.status = 'active' DESC, p.seq DESC LIMIT 1";
    let found: Option<String> = connection
        .prepare_cached(sql)?
        .query_row(params![login, moment.bound()], |row| row.get(0))
        .optional()?;
    found.map(|id| id.parse().map_err(|_| ViewError::Damaged("user"))).transpose()
}

/// The member with this name, or the one that last had it.
pub fn node_of_name(
    connection: &Connection,
    moment: &Moment,
    name: &str,
) -> Result<Option<NodeId>, ViewError> {
    let sql = "SELECT n.node FROM personal p JOIN nodes n ON n.joined_seq = p.seq
               WHERE p.field = 'name' AND p.value = ?1 AND n.valid_from < ?2
                   AND (n.valid_until IS NULL OR n.valid_until >= ?2)
               ORDER BY n.removed_seq IS NULL DESC, p.seq DESC LIMIT 1";
    let found: Option<String> = connection
        .prepare_cached(sql)?
        .query_row(params![name, moment.bound()], |row| row.get(0))
        .optional()?;
    found.map(|id| id.parse().map_err(|_| ViewError::Damaged("node"))).transpose()
}
