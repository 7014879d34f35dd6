//! Sessions: when which agent was connected.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use writ_schema::event::{Event, SessionEnd};
use writ_schema::{NodeId, Seq};

use super::read::{optional_word, parsed, to_word};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds sessions.
pub struct Sessions;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub node: NodeId,
    /// Version of the agent, as it says.
    pub agent: String,
    /// The record of its beginning.
    pub started: Seq,
    /// The record of its end, if it had ended by then.
    pub ended: Option<Seq>,
    /// Why it ended.
    pub reason: Option<SessionEnd>,
}

impl Projection for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS sessions (
             valid_from INTEGER PRIMARY KEY, valid_until INTEGER, node TEXT NOT NULL, agent TEXT NOT NULL,
             reason TEXT) STRICT;
         CREATE INDEX IF NOT EXISTS sessions_by_node ON sessions (node, valid_from);
         CREATE INDEX IF NOT EXISTS sessions_open ON sessions (node) WHERE valid_until IS NULL;"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let seq = entry.seq();
        let end = |node: Option<&NodeId>, reason: SessionEnd| -> rusqlite::Result<()> {
            let sql = "UPDATE sessions SET valid_until = ?1, reason = ?2
                       WHERE valid_until IS NULL AND (?3 IS NULL OR node = ?3)";
            let node = node.map(NodeId::as_str);
            transaction.prepare_cached(sql)?.execute(params![seq, to_word(&reason)?, node]).map(drop)
        };
        let start = |node: &NodeId, agent: &str| -> rusqlite::Result<()> {
            let sql = "INSERT INTO sessions (valid_from, node, agent) VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute(params![seq, node.as_str(), agent]).map(drop)
        };
        let folded = match &entry.record.event {
            // No session outlives the program that held it, even if it was stopped by force.
            Event::LogOpened(_) => end(None, SessionEnd::ControlPlaneStopped),
            Event::SessionStarted(event) => {
                end(Some(&event.node), SessionEnd::Replaced).and_then(|()| start(&event.node, &event.agent))
            }
            Event::SessionTerminated(event) => end(Some(&event.node), event.reason),
            _ => Ok(()),
        };
        folded.map_err(|source| entry.database(source))
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        node: parsed(row, "node")?,
        agent: row.get("agent")?,
        started: Seq(row.get("valid_from")?),
        ended: row.get::<_, Option<u64>>("ended")?.map(Seq),
        reason: optional_word(row, "reason")?,
    })
}

// An end that came after the moment asked for is not known at that moment.
const SELECT: &str = "SELECT node, agent, valid_from, iif(valid_until < :bound, valid_until, NULL) AS ended,
                          iif(valid_until < :bound, reason, NULL) AS reason
                      FROM sessions";

/// Sessions that had begun by a moment, by their first record.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    node: Option<&NodeId>,
    only_open: bool,
    slice: &Slice<Seq>,
) -> Result<Page<Session>, ViewError> {
    let (after, order) = if slice.newest_first { ("<", "DESC") } else { (">", "ASC") };
    let sql = format!(
        "{SELECT} WHERE valid_from < :bound AND (:after IS NULL OR valid_from {after} :after)
             AND (:node IS NULL OR node = :node)
             AND (NOT :open OR valid_until IS NULL OR valid_until >= :bound)
         ORDER BY valid_from {order} LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.map(|seq| seq.0),
        ":node": node.map(NodeId::as_str),
        ":open": only_open,
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// The session that a node had at a moment.
pub fn open_of(
    connection: &Connection,
    moment: &Moment,
    node: &NodeId,
) -> Result<Option<Session>, ViewError> {
    let sql = format!(
        "{SELECT} WHERE node = :node AND valid_from < :bound AND (valid_until IS NULL OR valid_until >= :bound)"
    );
    let parameters = named_params! { ":bound": moment.bound(), ":node": node.as_str() };
    Ok(connection.prepare_cached(&sql)?.query_row(parameters, row).optional()?)
}
