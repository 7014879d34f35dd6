//! What a command brings about in a state, one file per family of commands.

mod access;
mod administration;
mod assurance;
mod connection;
mod join;
mod node;
mod policy;
mod retention;
mod routes;
mod user;
mod values;
mod withdrawal;

pub use connection::MAX_LIVE_PER_SOURCE;
pub(in crate::core) use connection::{Denial, Granted, Wanted, display_name, grant};
pub use policy::PolicyChange;

use writ_schema::event::Source;
use writ_schema::seal::Sealed;
use writ_schema::{Actor, AdminId, Event, NodeId};

use super::command::{Command, Submission};
use super::context::Context;
use super::refusals::RefusalFact;
use super::rejection::Rejection;
use super::state::{Network, Node, State};

/// An event that is to become a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What happens.
    pub event: Event,
    /// Position, in the same decision, of the draft that brings this one about.
    pub cause: Option<usize>,
    /// Who is recorded as having caused it.
    pub actor: Actor,
}

/// A command was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The answer.
    pub rejection: Rejection,
    /// What is to be recorded of it, repeats counted.
    pub fact: Option<RefusalFact>,
}

impl From<Rejection> for Box<Refusal> {
    fn from(rejection: Rejection) -> Self {
        Self::new(Refusal { rejection, fact: None })
    }
}

/// What a command brings about, in order; or why nothing does.
pub type Decision = Result<Vec<Draft>, Box<Refusal>>;

/// Decides a command.
pub fn decide(state: &State, context: &Context, submission: &Submission) -> Decision {
    let Submission { actor, command, .. } = submission;
    if let Command::CreateNetwork { .. } = command {
        return assurance::create_network(state, actor, command);
    }
    let case = Case { state, network: state.network().ok_or(Rejection::NoNetwork)?, context, actor };
    access::check(&case, command)?;
    match command {
        Command::CreateNetwork { .. }
        | Command::OpenLog { .. }
        | Command::RotateLogKey { .. }
        | Command::CloseLog
        | Command::RecordQuery { .. }
        | Command::RecordDeanonymised { .. }
        | Command::RecordReport { .. } => assurance::decide(&case, command),
        Command::LapseRetention { quarter } => retention::lapse(&case, *quarter),
        Command::ProvisionUser { .. } | Command::ReceiveLeaver { .. } | Command::EraseUser { .. } => {
            user::decide(&case, command)
        }
        Command::GrantRole { .. }
        | Command::RevokeRole { .. }
        | Command::LogIn { .. }
        | Command::RecordDeniedAct { .. }
        | Command::CreateEnrolmentKey { .. }
        | Command::RevokeEnrolmentKey { .. } => administration::decide(&case, command),
        Command::Join { request } => join::decide(&case, request),
        Command::RemoveNode { .. }
        | Command::RotateKey { .. }
        | Command::StartSession { .. }
        | Command::EndSession { .. }
        | Command::RecordFrameRejected { .. } => node::decide(&case, command),
        Command::AdvertiseRoutes { .. } | Command::ApproveRoutes { .. } => routes::decide(&case, command),
        Command::SetPolicy { text, proposal, base, allow_everything } => {
            policy::set(&case, text, proposal, *base, *allow_everything)
        }
        Command::UndoPolicy { to, proposal } => policy::undo(&case, *to, proposal),
        Command::RequestConnection { .. } | Command::Acknowledge { .. } | Command::ReportClosed { .. } => {
            connection::decide(&case, command)
        }
    }
}

/// What a decision is made from.
struct Case<'a> {
    state: &'a State,
    network: &'a Network,
    context: &'a Context,
    actor: &'a Actor,
}

impl<'a> Case<'a> {
    /// An event caused by whoever submitted the command.
    fn draft(&self, event: impl Into<Event>) -> Draft {
        self.draft_by(self.actor.clone(), event)
    }

    /// An event caused by somebody who follows from the command itself.
    fn draft_by(&self, actor: Actor, event: impl Into<Event>) -> Draft {
        Draft { event: event.into(), cause: None, actor }
    }

    /// A consequence of an earlier draft of the decision.
    fn consequence(&self, cause: usize, event: impl Into<Event>) -> Draft {
        Draft { event: event.into(), cause: Some(cause), actor: self.actor.clone() }
    }

    /// The administrator who submitted the command.
    fn admin(&self) -> Result<&AdminId, Rejection> {
        match self.actor {
            Actor::Admin(id) => Ok(id),
            _ => Err(Rejection::NotAnAdmin),
        }
    }

    /// A node of the network.
    fn live_node(&self, node: &NodeId) -> Result<&'a Node, Rejection> {
        self.state.node(node).ok_or_else(|| Rejection::UnknownNode(node.clone()))
    }

    /// The source of a connection, sealed.
    fn sealed_source(&self, source: &Node) -> Sealed<Source> {
        self.seal(&source.id, Source { node: source.id.clone(), user: source.user().cloned() })
    }

    /// Seals what would show which node a connection record is about.
    fn seal<T>(&self, node: &NodeId, value: T) -> Sealed<T> {
        Sealed::new(self.state.subject_of(node), State::connection_retention(self.context.now), value)
    }
}
