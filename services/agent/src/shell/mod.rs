//! The IO around the engine.

mod agent;
mod join;
mod keeper;
pub mod local;
mod net;
mod server;
mod session;
mod status;
mod tls;
mod token;
mod traces;

pub use agent::{Options, up};
pub use status::{AgentStatus, SessionStatus};
