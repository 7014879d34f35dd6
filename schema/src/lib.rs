//! The words that Writ's services share: identifiers, events, records and agent messages.
//!
//! This crate knows what things are called and how they are written; it decides nothing. The contracts that follow
//! from it are published beside it (`events.schema.json`, `agent.schema.json`), and a test keeps them equal to the code.

pub mod event;
pub mod ids;
pub mod internet;
pub mod keys;
pub mod net;
pub mod protocol;
pub mod record;
pub mod seal;
mod text;

pub use event::Event;
pub use ids::*;
pub use net::Tag;
pub use record::{Actor, CommandRef, DecodeError, Record};
