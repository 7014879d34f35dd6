//! writ-telemetry.
