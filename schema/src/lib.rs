//! The words that Writ's services share: identifiers, events, records and agent messages.
pub mod ids;
pub use ids::*;
