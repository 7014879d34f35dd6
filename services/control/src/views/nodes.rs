//! Nodes, their keys and owners.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, named_params, params};
use writ_schema::event::{Event, NodeOwner, NodeRemoval};
use writ_schema::net::Prefix;
use writ_schema::{EnrolmentKeyId, NodeId, Seq, UserId};

use super::projection::{Versioned, supersede};
use super::read::{json, optional_word, owner, owner_columns, parsed, time, to_json, to_nanos, to_word};
use super::{Entry, FoldError, Moment, Page, Projection, Slice, ViewError};

/// Folds nodes.
pub struct Nodes;

const TABLE: Versioned = Versioned {
    name: "nodes",
    key: "node",
    columns: &[
        "owner_user",
        "owner_tags",
        "identity_key",
        "wireguard_key",
        "key_generation",
        "key_since",
        "address_v4",
        "address_v6",
        "enrolment_key",
        "joined_seq",
        "rotated_seq",
        "removed_seq",
        "removal",
        "advertised",
        "approved",
    ],
};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node: named by its identity key.
    pub node: NodeId,
    /// To whom it belongs.
    pub owner: NodeOwner,
    /// Its identity key, base64.
    pub identity_key: String,
    /// Its WireGuard key, base64.
    pub wireguard_key: String,
    /// How often the WireGuard key was changed.
    pub key_generation: u64,
    /// Since when the WireGuard key is in use.
    pub key_since: Timestamp,
    /// Its IPv4 address in the network.
    pub address_v4: Ipv4Addr,
    /// Its IPv6 address in the network.
    pub address_v6: Ipv6Addr,
    /// The key it joined with.
    pub enrolment_key: EnrolmentKeyId,
    /// The record of its joining.
    pub joined: Seq,
    /// The record of its newest WireGuard key, if it was ever changed.
    pub rotated: Option<Seq>,
    /// The record of its removal.
    pub removed: Option<Seq>,
    /// Why it was removed.
    pub removal: Option<NodeRemoval>,
    /// What it offered to carry packets for.
    pub advertised: Vec<Prefix>,
    /// What it might carry packets for.
    pub approved: Vec<Prefix>,
}

impl Node {
    /// What it carried packets for: what it offered and might.
    pub fn routes(&self) -> impl Iterator<Item = Prefix> {
        self.advertised.iter().copied().filter(|route| self.approved.contains(route))
    }
}

/// Which nodes are wanted. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct NodeFilter {
    /// Only this one.
    pub node: Option<NodeId>,
    /// Of this user.
    pub owner: Option<UserId>,
    /// With this tag.
    pub tag: Option<String>,
    /// Those that were removed as well.
    pub with_removed: bool,
}

impl Projection for Nodes {
    fn name(&self) -> &'static str {
        "nodes"
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS nodes (
             node TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_until INTEGER, owner_user TEXT, owner_tags TEXT,
             identity_key TEXT NOT NULL, wireguard_key TEXT NOT NULL, key_generation INTEGER NOT NULL,
             key_since INTEGER NOT NULL, address_v4 TEXT NOT NULL, address_v6 TEXT NOT NULL,
             enrolment_key TEXT NOT NULL, joined_seq INTEGER NOT NULL, rotated_seq INTEGER, removed_seq INTEGER,
             removal TEXT, advertised TEXT NOT NULL DEFAULT '[]', approved TEXT NOT NULL DEFAULT '[]',
             PRIMARY KEY (node, valid_from)) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS nodes_by_owner ON nodes (owner_user, node);
         CREATE INDEX IF NOT EXISTS nodes_by_joining ON nodes (joined_seq);"
    }

    fn fold(&self, transaction: &Transaction<'_>, entry: Entry<'_>) -> Result<(), FoldError> {
        let (seq, now) = (entry.seq(), to_nanos(entry.record.time));
        match &entry.record.event {
            Event::NodeJoined(event) => {
                let (user, tags) = owner_columns(&event.owner);
                let insert = || -> rusqlite::Result<()> {
                    // A node that was removed may join again; its removal ends there.
                    transaction
                        .prepare_cached(
                            "UPDATE nodes SET valid_until = ?1 WHERE node = ?2 AND valid_until IS NULL",
                        )?
                        .execute(params![seq, event.node.as_str()])?;
                    let sql = "INSERT INTO nodes (node, valid_from, owner_user, owner_tags, identity_key,
                                   wireguard_key, key_generation, key_since, address_v4, address_v6, enrolment_key,
                                   joined_seq)
                               VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?2)";
                    transaction.prepare_cached(sql)?.execute(params![
                        event.node.as_str(),
                        seq,
                        user,
                        tags,
                        event.identity_key.to_string(),
                        event.wireguard_key.to_string(),
                        now,
                        event.address_v4.to_string(),
                        event.address_v6.to_string(),
                        event.enrolment_key.as_str(),
                    ])?;
                    Ok(())
                };
                insert().map_err(|source| entry.database(source))
            }
            Event::KeyRotated(event) => {
                let (key, generation) = (event.wireguard_key.to_string(), event.generation);
                let changes: [(&str, &dyn ToSql); 4] = [
                    ("wireguard_key", &key),
                    ("key_generation", &generation),
                    ("key_since", &now),
                    ("rotated_seq", &seq),
                ];
                supersede(transaction, &TABLE, entry, event.node.as_str(), &changes)
            }
            Event::NodeRemoved(event) => {
                let removal = to_word(&event.reason).map_err(|source| entry.database(source))?;
                let changes: [(&str, &dyn ToSql); 2] = [("removed_seq", &seq), ("removal", &removal)];
                supersede(transaction, &TABLE, entry, event.node.as_str(), &changes)
            }
            Event::NodeRoutesAdvertised(event) => {
                set_routes(transaction, entry, event.node.as_str(), "advertised", &event.routes)
            }
            Event::NodeRoutesApproved(event) => {
                set_routes(transaction, entry, event.node.as_str(), "approved", &event.routes)
            }
            _ => Ok(()),
        }
    }
}

fn set_routes(
    transaction: &Transaction<'_>,
    entry: Entry<'_>,
    node: &str,
    column: &'static str,
    routes: &[Prefix],
) -> Result<(), FoldError> {
    let text = to_json(routes).map_err(|source| entry.database(source))?;
    supersede(transaction, &TABLE, entry, node, &[(column, &text)])
}

fn row(row: &Row<'_>) -> rusqlite::Result<Node> {
    Ok(Node {
        node: parsed(row, "node")?,
        owner: owner(row)?,
        identity_key: row.get("identity_key")?,
        wireguard_key: row.get("wireguard_key")?,
        key_generation: row.get("key_generation")?,
        key_since: time(row, "key_since")?,
        address_v4: parsed(row, "address_v4")?,
        address_v6: parsed(row, "address_v6")?,
        enrolment_key: parsed(row, "enrolment_key")?,
        joined: Seq(row.get("joined_seq")?),
        rotated: row.get::<_, Option<u64>>("rotated_seq")?.map(Seq),
        removed: row.get::<_, Option<u64>>("removed_seq")?.map(Seq),
        removal: optional_word(row, "removal")?,
        advertised: json(row, "advertised")?,
        approved: json(row, "approved")?,
    })
}

/// The nodes of a moment, by identifier.
pub fn list(
    connection: &Connection,
    moment: &Moment,
    filter: &NodeFilter,
    slice: &Slice<NodeId>,
) -> Result<Page<Node>, ViewError> {
    let sql = "SELECT * FROM nodes
               WHERE valid_from < :bound AND (valid_until IS NULL OR valid_until >= :bound) AND node > :after
                   AND (:node IS NULL OR node = :node)
                   AND (:owner IS NULL OR owner_user = :owner)
                   AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(owner_tags) WHERE value = :tag))
                   AND (:removed OR removed_seq IS NULL)
               ORDER BY node LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let parameters = named_params! {
        ":bound": moment.bound(),
        ":after": slice.after.as_ref().map_or("", NodeId::as_str),
        ":node": filter.node.as_ref().map(NodeId::as_str),
        ":owner": filter.owner.as_ref().map(UserId::as_str),
        ":tag": filter.tag,
        ":removed": filter.with_removed,
        ":limit": slice.limit(),
    };
    let rows = statement.query_map(parameters, row)?.collect::<Result<_, _>>()?;
    Ok(slice.page(rows))
}

/// Every member of the network at a moment: whom a policy is compiled for.
pub fn members(connection: &Connection, moment: &Moment) -> Result<Vec<Node>, ViewError> {
    let sql = "SELECT * FROM nodes WHERE valid_from < ?1 AND (valid_until IS NULL OR valid_until >= ?1)
                   AND removed_seq IS NULL ORDER BY node";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map(params![moment.bound()], row)?.collect::<Result<_, _>>()?)
}

/// The record that last changed who is a member, whose node is whose, what lies behind it, or who is a user.
pub fn last_change(connection: &Connection, moment: &Moment) -> Result<Option<Seq>, ViewError> {
    let sql = "SELECT max(seq) FROM records
               WHERE seq < ?1 AND kind IN ('user.provisioned', 'node.joined', 'node.removed', 'node.routes_advertised',
                   'node.routes_approved')";
    let last: Option<u64> =
        connection.prepare_cached(sql)?.query_row(params![moment.bound()], |row| row.get(0))?;
    Ok(last.map(Seq))
}

/// One node as of a moment.
pub fn get(connection: &Connection, moment: &Moment, node: &NodeId) -> Result<Option<Node>, ViewError> {
    let sql = "SELECT * FROM nodes WHERE node = ?1 AND valid_from < ?2 AND (valid_until IS NULL OR valid_until >= ?2)";
    Ok(connection.prepare_cached(sql)?.query_row(params![node.as_str(), moment.bound()], row).optional()?)
}
