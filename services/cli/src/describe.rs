//! Records in one line each, for people.

use std::fmt::Display;

use writ_schema::Record;
use writ_schema::event::{Event, NodeOwner, Source};
use writ_schema::net::Prefix;
use writ_schema::seal::Sealed;

use crate::output::bytes;

/// What stands where a sealed field cannot be read.
const SEALED: &str = "(sealed)";

/// What a record says happened. Fields that are not open are shown as sealed.
pub fn event(record: &Record) -> String {
    match &record.event {
        Event::NetworkCreated(e) => {
            format!("network {} ({}) with {} and {}", e.name, e.network, e.prefix_v4, e.prefix_v6)
        }
        Event::LogOpened(e) => {
            format!(
                "writd {} started{}",
                e.program,
                if e.clean { "" } else { "; it had been stopped by force" }
            )
        }
        Event::LogKeyRotated(e) => format!("the log's key changed from {} to {}", e.old_key, e.new_key),
        Event::LogClosed(_) => "writd stopped in order".to_owned(),
        Event::KeyShredded(e) => format!("all keys of {} destroyed", e.subject),
        Event::RetentionLapsed(e) => {
            format!("connection records of {} lapsed: whose they were cannot be read any more", e.quarter)
        }
        Event::AuditQueryExecuted(e) => format!("{} read {}", e.admin, e.fields.join(", ")),
        Event::AuditDeanonymiseExecuted(e) => {
            format!("{} saw who is behind {}: {}", e.admin, list(&e.users), sealed(&e.purpose))
        }
        Event::ReportGenerated(e) => {
            format!("{} made a report: {}, before record {}", e.admin, e.framework, e.as_of)
        }
        Event::UserProvisioned(e) => match (e.login.value(), e.display_name.value()) {
            (None, None) => format!("{} is known (who it is, is sealed)", e.user),
            _ => format!("{} is {} ({})", e.user, sealed(&e.login), sealed(&e.display_name)),
        },
        Event::UserLeaverReceived(e) => format!("{} leaves", e.user),
        Event::UserDisabled(e) => format!("{} may do nothing any more", e.user),
        Event::PolicyChangeProposed(e) => format!(
            "{}: {} permissions gained, {} lost, {} connections cut, {} tests passed",
            e.proposal, e.effect.gained, e.effect.lost, e.effect.connections_cut, e.effect.tests_passed
        ),
        Event::PolicyActivated(e) => match e.restores {
            Some(old) => format!("version {} in force ({}), restores version {old}", e.version, e.proposal),
            None => format!("version {} in force ({})", e.version, e.proposal),
        },
        _ => about_access(record),
    }
}

fn about_access(record: &Record) -> String {
    match &record.event {
        Event::AdminRoleGranted(e) => format!("{} ({}) is {}", e.admin, sealed(&e.name), word(&e.role)),
        Event::AdminRoleRevoked(e) => format!("{} may do nothing any more", e.admin),
        Event::AdminActDenied(e) => {
            format!("{} tried {}, which needs {}{}", e.admin, e.operation, word(&e.needs), times(e.count))
        }
        Event::LoginSucceeded(e) => format!("{} signed in ({}), until {}", e.admin, e.token, e.expires_at),
        Event::LoginFailed(e) => {
            let who = e.admin.as_ref().map_or_else(|| "somebody unknown".to_owned(), ToString::to_string);
            format!("{who}: {}{}", word(&e.reason), times(e.count))
        }
        Event::EnrolKeyCreated(e) => {
            format!("{} for {}, {} uses, until {}", e.key, owner(&e.owner), e.max_uses, e.expires_at)
        }
        Event::EnrolKeyRevoked(e) => format!("{} revoked", e.key),
        Event::NodeJoined(e) => format!(
            "{} ({}) of {} joined as {} with {}",
            e.node,
            sealed(&e.name),
            owner(&e.owner),
            e.address_v4,
            e.enrolment_key
        ),
        Event::NodeJoinRefused(e) => format!("{}: {}{}", e.node, word(&e.reason), times(e.count)),
        Event::NodeRemoved(e) => format!("{}: {}", e.node, word(&e.reason)),
        Event::NodeRoutesAdvertised(e) => {
            format!("{} offers to carry packets for {}", e.node, prefixes(&e.routes))
        }
        Event::NodeRoutesApproved(e) => {
            let by = e.policy.map(|policy| format!(", by policy {policy}")).unwrap_or_default();
            format!("{} may carry packets for {}{by}", e.node, prefixes(&e.routes))
        }
        Event::KeyRotated(e) => format!("{} has WireGuard key number {}", e.node, e.generation),
        Event::SessionStarted(e) => format!("{} connected (agent {})", e.node, e.agent),
        Event::SessionTerminated(e) => format!("{} disconnected: {}", e.node, word(&e.reason)),
        Event::SessionFrameRejected(e) => {
            let what = e.rejection.value().map_or(SEALED, |rejection| rejection.reason.as_str());
            format!("{} did not accept what it was sent: {what}{}", source(&e.source), times(e.count))
        }
        _ => about_connections(record),
    }
}

fn prefixes(routes: &[Prefix]) -> String {
    if routes.is_empty() {
        return "nothing".to_owned();
    }
    routes.iter().map(Prefix::to_string).collect::<Vec<_>>().join(", ")
}

fn about_connections(record: &Record) -> String {
    match &record.event {
        Event::ConnectionAuthorized(e) => format!(
            "{}: {} -> {}{} {} {} by {} of policy {}, until {}",
            e.authorization,
            source(&e.source),
            e.route.map(|route| format!("{route} through ")).unwrap_or_default(),
            e.destination,
            e.protocol,
            e.ports,
            e.rule,
            e.policy,
            e.expires_at
        ),
        Event::ConnectionDenied(e) => {
            let destination = e.destination.as_ref().map(|node| format!(" ({node})")).unwrap_or_default();
            format!(
                "{} -> {}{destination} {} {}: {}{}",
                source(&e.source),
                e.address,
                e.protocol,
                e.port,
                word(&e.reason),
                times(e.count)
            )
        }
        Event::ConnectionRevoked(e) => format!("{}: {}", e.authorization, word(&e.reason)),
        Event::ConnectionAcknowledged(e) => {
            format!("{}: {} {} (record {})", e.authorization, word(&e.side), e.action, e.record)
        }
        Event::ConnectionClosed(e) => {
            let path = e.path.map(|path| format!(", {}", word(&path))).unwrap_or_default();
            let (sent, received) = (bytes(e.bytes_sent), bytes(e.bytes_received));
            format!(
                "{}: {} says {}, sent {sent}, received {received}{path}",
                e.authorization,
                word(&e.side),
                word(&e.reason)
            )
        }
        other => other.kind().to_owned(),
    }
}

fn sealed(field: &Sealed<String>) -> &str {
    field.value().map_or(SEALED, String::as_str)
}

fn source(field: &Sealed<Source>) -> String {
    match field.value() {
        Some(Source { node, user: Some(user) }) => format!("{node} of {user}"),
        Some(Source { node, user: None }) => node.to_string(),
        None => SEALED.to_owned(),
    }
}

fn owner(owner: &NodeOwner) -> String {
    match owner {
        NodeOwner::User(user) => user.to_string(),
        NodeOwner::Tags(tags) => list(tags),
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// An enumerated value as the record spells it, in words.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text.replace('_', " "),
        _ => String::new(),
    }
}

fn times(count: u32) -> String {
    if count > 1 { format!(" ({count} times)") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_schema::event::{ConnectionDenied, DenialReason};
    use writ_schema::net::Protocol;
    use writ_schema::seal::{HeldKey, KeyRef, Place, Retention, Salt, SealingKeys, Subject, SubjectKey};
    use writ_schema::{Actor, CommandId, CommandRef, NodeId, Seq, UserId};

    /// The key of everybody.
    struct OneKey;

    impl SealingKeys for OneKey {
        fn sealing_key(&self, _: &(Subject, Retention), place: Place) -> Option<HeldKey> {
            let key = SubjectKey::from_bytes([3; 32]).field_key(place);
            Some(HeldKey { key_ref: KeyRef::from_bytes([0; KeyRef::BYTES]), key })
        }
    }

    #[test]
    fn what_lies_behind_a_node_is_not_taken_for_the_node() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/golden/4-routes");
        let files = std::fs::read_dir(golden).unwrap().map(|file| file.unwrap().path());
        let described = files.filter(|path| path.to_string_lossy().contains(".v")).map(|path| {
            let record = Record::decode(&std::fs::read(&path).unwrap()).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), event(&record))
        });
        let described: Vec<(String, String)> = described.collect();
        for (kind, part) in [
            ("connection.authorized.v2", " -> 10.20.0.0/24 through nod_"),
            ("node.routes_advertised", "offers to carry packets for 10.20.0.0/16"),
            ("node.routes_approved", "may carry packets for 10.20.0.0/16, by policy 1"),
            ("connection.revoked.v2", "route withdrawn"),
        ] {
            assert!(
                described.iter().any(|(of, text)| of.contains(kind) && text.contains(part)),
                "{described:#?}"
            );
        }
    }

    #[test]
    fn an_open_source_is_named_and_a_closed_one_is_not() {
        let user = UserId::from_bytes([1; 16]);
        let source = Source { node: NodeId::from_bytes([2; 16]), user: Some(user.clone()) };
        let denied = ConnectionDenied {
            v: Default::default(),
            source: Sealed::new(Subject::User(user.clone()), Retention::Identity, source),
            address: "100.64.0.9".parse().unwrap(),
            destination: None,
            protocol: Protocol::Tcp,
            port: 5432,
            reason: DenialReason::NoRule,
            rule: None,
            policy: None,
            count: 3,
        };
        let mut record = Record {
            seq: Seq(1),
            time: "2026-03-14T10:00:00Z".parse().unwrap(),
            actor: Actor::Agent,
            command: CommandRef { id: CommandId::from_bytes([0; 16]), digest: String::new() },
            cause: None,
            salt: Some(Salt::from_bytes([0; Salt::BYTES])),
            event: denied.into(),
        };
        let open = event(&record);
        assert!(
            open.contains(user.as_str()) && open.ends_with("100.64.0.9 tcp 5432: no rule (3 times)"),
            "{open}"
        );
        record.close(&OneKey).unwrap();
        assert!(event(&record).starts_with("(sealed) -> 100.64.0.9"));
    }
}
