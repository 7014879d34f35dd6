//! writ-relay.
