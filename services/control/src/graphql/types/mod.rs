//! What answers are made of. Every row names the records that it stands on.

mod connection;
mod log;
mod node;
mod paths;
mod policy;
mod reach;
mod user;

use async_graphql::connection::{Connection, Edge};
use async_graphql::{Context, Result, SimpleObject};

pub use connection::*;
pub use log::*;
pub use node::*;
pub use paths::*;
pub use policy::*;
pub use reach::*;
pub use user::*;

/// A page with the moment it stands on.
pub(super) type Rows<T> = Connection<String, T, Basis>;

/// What a list stands on.
#[derive(SimpleObject)]
pub struct Basis {
    /// The moment of the log that the list is about.
    pub as_of: AsOf,
}

/// Makes a page of rows with their cursors.
pub(super) fn rows<T: async_graphql::OutputType>(
    context: &Context<'_>,
    moment: &crate::views::Moment,
    (edges, has_next): (Vec<(String, T)>, bool),
    has_previous: bool,
) -> Result<Rows<T>> {
    let basis = Basis { as_of: AsOf::new(context, moment)? };
    let mut page = Connection::with_additional_fields(has_previous, has_next, basis);
    page.edges = edges.into_iter().map(|(cursor, row)| Edge::new(cursor, row)).collect();
    Ok(page)
}
