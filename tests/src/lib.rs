//! writ-tests.
