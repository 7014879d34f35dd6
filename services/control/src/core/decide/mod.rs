//! What a command brings about in a state.

use writ_schema::{Actor, Event};

use super::command::Submission;
use super::context::Context;
use super::rejection::Rejection;
use super::state::State;

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

/// Why nothing was decided but a refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The answer.
    pub rejection: Rejection,
    /// What is to be recorded of it, repeats counted.
    pub fact: Option<super::refusals::RefusalFact>,
}

/// Decides a command.
pub fn decide(state: &State, context: &Context, submission: &Submission) -> Result<Vec<Draft>, Box<Refusal>> {
    let _ = (state, context, submission);
    Err(Box::new(Refusal { rejection: Rejection::NoNetwork, fact: None }))
}
