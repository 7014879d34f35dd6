//! Who may submit what. It is checked here as well as where commands come in, so that it cannot be forgotten there.

use writ_schema::Actor;
use writ_schema::event::{AdminActDenied, Role, Version};

use super::{Case, Refusal};
use crate::core::command::Command;
use crate::core::refusals::RefusalFact;
use crate::core::rejection::Rejection;

/// Who a command is for.
enum Access {
    /// The control plane itself.
    System,
    /// Administrators with this role or one above it.
    Role(Role),
    /// Any administrator.
    AnyAdmin,
    /// Whoever can prove in the command, or has proved in their session, who they are.
    Open,
}

fn access(command: &Command) -> Access {
    match command {
        Command::CreateNetwork { .. } | Command::OpenLog { .. } | Command::CloseLog => Access::System,
        Command::RotateLogKey { .. }
        | Command::GrantRole { .. }
        | Command::RevokeRole { .. }
        | Command::LapseRetention { .. } => Access::Role(Role::Owner),
        Command::ProvisionUser { .. } | Command::ReceiveLeaver { .. } | Command::EraseUser { .. } => {
            Access::Role(Role::Admin)
        }
        Command::CreateEnrolmentKey { .. }
        | Command::RevokeEnrolmentKey { .. }
        | Command::RemoveNode { .. }
        | Command::ApproveRoutes { .. }
        | Command::SetPolicy { .. }
        | Command::UndoPolicy { .. } => Access::Role(Role::NetworkAdmin),
        Command::RecordDeanonymised { .. } | Command::RecordReport { .. } => Access::Role(Role::Auditor),
        Command::RecordQuery { .. } | Command::RecordDeniedAct { .. } => Access::AnyAdmin,
        Command::LogIn { .. }
        | Command::Join { .. }
        | Command::RotateKey { .. }
        | Command::AdvertiseRoutes { .. }
        | Command::StartSession { .. }
        | Command::EndSession { .. }
        | Command::RecordFrameRejected { .. }
        | Command::RequestConnection { .. }
        | Command::Acknowledge { .. }
        | Command::ReportClosed { .. } => Access::Open,
    }
}

pub(super) fn check(case: &Case<'_>, command: &Command) -> Result<(), Box<Refusal>> {
    let needs = match access(command) {
        Access::Open => return Ok(()),
        _ if *case.actor == Actor::System => return Ok(()),
        Access::System => return Err(Rejection::NotAnAdmin.into()),
        Access::Role(role) => role,
        Access::AnyAdmin => Role::Viewer,
    };
    let admin = case.admin()?;
    let known = case.state.admin(admin).filter(|known| !known.is_revoked).ok_or(Rejection::NotAnAdmin)?;
    if known.role <= needs {
        return Ok(());
    }
    Err(denied_act(case, command.name().to_owned(), needs)?)
}

/// The refusal of an act that the submitting administrator's role does not allow.
pub(super) fn denied_act(case: &Case<'_>, operation: String, needs: Role) -> Result<Box<Refusal>, Rejection> {
    let admin = case.admin()?.clone();
    let denied = AdminActDenied { v: Version, admin, operation, needs, count: 1 };
    Ok(Box::new(Refusal { rejection: Rejection::NotAllowed { needs }, fact: Some(RefusalFact::Act(denied)) }))
}
