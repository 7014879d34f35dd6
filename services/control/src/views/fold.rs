//! Folding records into the tables of all projections.

use rusqlite::Connection;
use writ_schema::Seq;

use super::projection::{Entry, Projection};
use super::{FoldError, store};

/// All projections.
pub fn projections() -> Vec<Box<dyn Projection>> {
    vec![
        Box::new(super::records::Records),
        Box::new(super::personal::Personal),
        Box::new(super::users::Users),
        Box::new(super::nodes::Nodes),
        Box::new(super::sessions::Sessions),
        Box::new(super::enrolment_keys::EnrolmentKeys),
        Box::new(super::admins::Admins),
        Box::new(super::policies::Policies),
        Box::new(super::connections::Connections),
        Box::new(super::denials::Denials),
    ]
}

/// Folds a batch in one transaction: all of it, or nothing. Records that were folded already are passed over.
pub fn fold_batch(
    connection: &mut Connection,
    projections: &[Box<dyn Projection>],
    batch: &[Entry<'_>],
) -> Result<(), FoldError> {
    let Some(first) = batch.first() else { return Ok(()) };
    let at_start = |source| FoldError::Database { seq: first.record.seq, source };
    let transaction = connection.transaction().map_err(at_start)?;
    for projection in projections {
        let mut next = store::position(&transaction, projection.name()).map_err(at_start)?;
        for entry in batch {
            let seq = entry.record.seq;
            if seq < next {
                continue;
            }
            if seq > next {
                return Err(FoldError::Gap { projection: projection.name(), expected: next, found: seq });
            }
            projection.fold(&transaction, *entry)?;
            next = Seq(seq.0.saturating_add(1));
        }
        store::advance(&transaction, projection.name(), next).map_err(at_start)?;
    }
    if let Some(last) = batch.last() {
        store::remember_last(&transaction, last.record.seq, last.bytes).map_err(at_start)?;
    }
    transaction.commit().map_err(at_start)
}
