//! writ-ledger.
