//! writ-compliance.
