//! The network and its log, and who read what.

use writ_schema::event::{
    AuditDeanonymiseExecuted, AuditQueryExecuted, LogClosed, LogKeyRotated, LogOpened, NetworkCreated,
    ReportGenerated, SessionEnd, SessionTerminated, Version,
};
use writ_schema::seal::{Retention, Sealed, Subject};
use writ_schema::{Actor, Seq, UserId};

use super::values::{check_digest, check_line, invalid, is_dns_label};
use super::{Case, Decision, Draft};
use crate::core::command::Command;
use crate::core::rejection::Rejection;
use crate::core::state::{Prefixes, State};

/// Longest origin and verifier key of a log, in characters.
const MAX_KEY_CHARS: usize = 512;

/// Most top-level fields of a query that are named.
const MAX_FIELDS: usize = 64;

/// Most people whose names are shown at once.
const MAX_DEANONYMISED: usize = 500;

pub(super) fn create_network(state: &State, actor: &Actor, command: &Command) -> Decision {
    let Command::CreateNetwork { network, name, prefix_v4, prefix_v6, origin, log_key } = command else {
        return Err(Rejection::NetworkExists.into());
    };
    if state.network().is_some() || state.size() > 0 {
        return Err(Rejection::NetworkExists.into());
    }
    if *actor != Actor::System {
        return Err(Rejection::NotAnAdmin.into());
    }
    if !is_dns_label(name) {
        return Err(invalid("name", "expected a DNS label: up to 63 of a-z, 0-9 and -".to_owned()).into());
    }
    Prefixes::parse(prefix_v4, prefix_v6).map_err(|(field, message)| invalid(field, message))?;
    check_line("origin", origin, MAX_KEY_CHARS)?;
    check_line("log_key", log_key, MAX_KEY_CHARS)?;
    let created = NetworkCreated {
        v: Version,
        network: network.clone(),
        name: name.clone(),
        prefix_v4: prefix_v4.clone(),
        prefix_v6: prefix_v6.clone(),
        origin: origin.clone(),
        log_key: log_key.clone(),
    };
    Ok(vec![Draft { event: created.into(), cause: None, actor: actor.clone() }])
}

pub(super) fn decide(case: &Case<'_>, command: &Command) -> Decision {
    match command {
        Command::OpenLog { program } => open(case, program),
        Command::RotateLogKey { new_key, rotation } => rotate(case, new_key, rotation),
        Command::CloseLog => Ok(close(case)),
        Command::RecordQuery { fields, digest } => query(case, fields, digest),
        Command::RecordDeanonymised { users, purpose } => deanonymised(case, users, purpose),
        Command::RecordReport { framework, bundle_digest, as_of } => {
            report(case, framework, bundle_digest, *as_of)
        }
        _ => Err(Rejection::NetworkExists.into()),
    }
}

fn open(case: &Case<'_>, program: &str) -> Decision {
    check_line("program", program, 64)?;
    let opened = LogOpened { v: Version, program: program.to_owned(), clean: !case.state.is_open() };
    let ended = ended_sessions(case).map(|event| case.consequence(0, event));
    Ok(std::iter::once(case.draft(opened)).chain(ended).collect())
}

fn rotate(case: &Case<'_>, new_key: &str, rotation: &str) -> Decision {
    check_line("new_key", new_key, MAX_KEY_CHARS)?;
    let rotated = LogKeyRotated {
        v: Version,
        old_key: case.network.log_key().to_owned(),
        new_key: new_key.to_owned(),
        rotation: rotation.to_owned(),
    };
    Ok(vec![case.draft(rotated)])
}

fn close(case: &Case<'_>) -> Vec<Draft> {
    if !case.state.is_open() {
        return Vec::new();
    }
    let ended = ended_sessions(case).map(|event| case.draft(event));
    ended.chain([case.draft(LogClosed { v: Version })]).collect()
}

fn ended_sessions(case: &Case<'_>) -> impl Iterator<Item = SessionTerminated> {
    case.state.nodes().filter(|node| node.session.is_some()).map(|node| SessionTerminated {
        v: Version,
        node: node.id.clone(),
        reason: SessionEnd::ControlPlaneStopped,
    })
}

fn query(case: &Case<'_>, fields: &[String], digest: &str) -> Decision {
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(invalid("fields", format!("expected 1 to {MAX_FIELDS} names")).into());
    }
    for field in fields {
        check_line("fields", field, 64)?;
    }
    check_digest("digest", digest)?;
    let admin = case.admin()?.clone();
    let executed =
        AuditQueryExecuted { v: Version, admin, fields: fields.to_vec(), digest: digest.to_owned() };
    Ok(vec![case.draft(executed)])
}

fn deanonymised(case: &Case<'_>, users: &[UserId], purpose: &str) -> Decision {
    if users.is_empty() || users.len() > MAX_DEANONYMISED {
        return Err(invalid("users", format!("expected 1 to {MAX_DEANONYMISED} users")).into());
    }
    if let Some(unknown) = users.iter().find(|user| case.state.user(user).is_none()) {
        return Err(Rejection::UnknownUser(unknown.clone()).into());
    }
    check_line("purpose", purpose, 500)?;
    let admin = case.admin()?.clone();
    let purpose = Sealed::new(Subject::Admin(admin.clone()), Retention::Identity, purpose.to_owned());
    let executed = AuditDeanonymiseExecuted { v: Version, admin, users: users.to_vec(), purpose };
    Ok(vec![case.draft(executed)])
}

fn report(case: &Case<'_>, framework: &str, bundle_digest: &str, as_of: Seq) -> Decision {
    check_line("framework", framework, 128)?;
    check_digest("bundle_digest", bundle_digest)?;
    if as_of.0 > case.state.size() {
        return Err(invalid("as_of", format!("the log has {} records", case.state.size())).into());
    }
    let generated = ReportGenerated {
        v: Version,
        admin: case.admin()?.clone(),
        framework: framework.to_owned(),
        bundle_digest: bundle_digest.to_owned(),
        as_of,
    };
    Ok(vec![case.draft(generated)])
}
