//! writ-cli.
