//! writ-schema.
