//! History views: SQLite tables that are folded from the log and can be dropped and rebuilt from it at any time.
//!
//! Every projection keeps its position in the same transaction as its rows, so a record is folded exactly once. Rows
//! are never overwritten: each holds from one record (`valid_from`) until another (`valid_until`), or is a fact of
//! one record (`seq`). A question about the past is therefore the same question with a smaller number of records, the
//! [`Moment`]. Values that came out of sealed fields live in one table of their own ([`personal`]), joined only for those
//! who may see them and emptied when their keys are shredded.

pub mod admins;
pub mod changes;
pub mod connections;
pub mod denials;
pub mod enrolment_keys;
mod error;
mod fold;
mod handle;
mod moment;
pub mod nodes;
mod page;
pub mod personal;
pub mod policies;
mod projection;
mod projector;
mod read;
pub mod records;
pub mod sessions;
mod store;
pub mod users;
pub mod withdrawals;

#[cfg(test)]
mod tests;

pub use error::{FoldError, ViewError};
pub use fold::{fold_batch, projections};
pub use handle::{Progress, Views};
pub use moment::{AsOf, Moment};
pub use page::{MAX_PAGE, Page, Slice};
pub use projection::{Entry, Projection};
pub use projector::{
    LogSource, Projector, ProjectorError, Source, SourceError, SourceRecord, Waker, rebuild,
};
pub use store::{fingerprint, open_for_folding, positions};
