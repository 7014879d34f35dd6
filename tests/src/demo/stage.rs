//! What the steps play on: the scene, the programs, and what earlier steps left for later ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::lab::{Scene, privilege, scene};
use crate::programs;

/// The scene and the programs that are run on it.
pub struct Stage {
    bin_dir: PathBuf,
    /// Hosts, routers and servers.
    pub scene: Scene,
}

impl Stage {
    /// Builds the scene. Agents will need TUN devices, so it is an error not to have them.
    ///
    /// # Errors
    /// When the lab cannot run here; the message says what to do.
    pub fn build(bin_dir: PathBuf) -> anyhow::Result<Self> {
        privilege::require_tun()?;
        let scene = scene().context("the scene cannot be built")?;
        Ok(Self { bin_dir, scene })
    }

    /// One of our programs, ready for arguments.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn program(&self, name: &str) -> anyhow::Result<Command> {
        Ok(Command::new(programs::find(&self.bin_dir, name)?))
    }

    /// A folder for state that goes when the demonstration ends.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scene.lab.directory()
    }

    /// How a person can look around while things run.
    #[must_use]
    pub fn look_around(&self) -> String {
        let scene = &self.scene;
        let hosts = [
            ("the developer's laptop", &scene.developer),
            ("the on-call engineer's laptop", &scene.engineer),
            ("the staging cluster", &scene.staging),
            ("the production database", &scene.production),
            ("the control plane", &scene.control),
        ];
        let mut text = String::from("Look around from another terminal, by putting this before a command:");
        for (name, host) in hosts {
            text.push_str(&format!("\n  {name:<30}  {}", host.shell_prefix()));
        }
        text
    }
}
