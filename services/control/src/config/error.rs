//! Why a configuration cannot be used.

use std::path::PathBuf;

/// Largest configuration file that is read.
pub(super) const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{path} has more than {MAX_CONFIG_BYTES} bytes: is it a configuration?")]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not TOML, or a key is unknown or of the wrong type.
    #[error("{path}: {source}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("{key}: {problem}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
}
