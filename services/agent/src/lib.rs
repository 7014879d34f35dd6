//! writ-agent.
