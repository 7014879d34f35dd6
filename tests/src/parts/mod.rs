//! Writ's own programs, run on hosts of the lab: a control plane, agents, and an operator who types commands.

mod agent;
mod control_plane;
mod operator;
mod web;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

pub use self::agent::Agent;
pub use self::control_plane::{ControlPlane, Settings};
pub use self::operator::{Operator, Owner};
pub use self::web::{Page, Web};

use crate::programs;

/// Programs of ours start and stop well within this, on a busy machine too.
pub const START_LIMIT: Duration = Duration::from_secs(20);

/// Where our programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Those of a folder.
    #[must_use]
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Those of a folder that a person named, or else those that were built along with this program.
    ///
    /// # Errors
    /// When the folder cannot be used, or the system does not say where this program is.
    pub fn at(directory: Option<&Path>) -> anyhow::Result<Self> {
        let Some(directory) = directory else { return Self::built() };
        let found = directory.canonicalize();
        found
            .map(Self::in_directory)
            .with_context(|| format!("--bin-dir {} cannot be used", directory.display()))
    }

    /// Those that were built along with this program.
    ///
    /// # Errors
    /// When the system does not say where this program is.
    pub fn built() -> anyhow::Result<Self> {
        Ok(Self { directory: programs::built()? })
    }

    /// Their folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One of them, ready for arguments.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn command(&self, name: &str) -> anyhow::Result<Command> {
        Ok(Command::new(programs::find(&self.directory, name)?))
    }
}
