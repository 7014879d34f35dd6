//! What the steps play on: the scene, the programs, and what earlier steps left for later ones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use writ_schema::Seq;

use crate::lab::{Eavesdropper, Flow, Scene, privilege, scene};
use crate::parts::{Agent, ControlPlane, Operator, Programs};

/// What the staging server says, and nobody in between may read.
pub const GREETING: &str = "hello from staging-cluster";

/// The scene, the programs that are run on it, and what the steps have made so far.
pub struct Stage {
    /// Our programs.
    pub programs: Programs,
    /// What the control plane, the operator and the agents do; it ends before the hosts do.
    pub cast: Option<Cast>,
    /// What later steps need of earlier ones.
    pub notes: Notes,
    /// Somebody who listens to the internet.
    pub eavesdropper: Eavesdropper,
    /// Hosts, routers and servers.
    pub scene: Scene,
}

/// Everything of Writ that runs.
pub struct Cast {
    /// On the developer's laptop.
    pub developer: Agent,
    /// On the on-call engineer's laptop.
    pub engineer: Agent,
    /// On the staging cluster.
    pub staging: Agent,
    /// On the production database's machine.
    pub production: Agent,
    /// Who types commands.
    pub operator: Operator,
    /// The control plane.
    pub control: ControlPlane,
}

/// What later steps need of earlier ones.
#[derive(Default)]
pub struct Notes {
    /// Packets for the database's port, counted when only its neighbour had reached it.
    pub counted_before: u64,
    /// The engineer's live connection to the database.
    pub engineer_flow: Option<Flow>,
    /// A moment at which the engineer could reach the database and did.
    pub while_on_call: Option<Timestamp>,
    /// A moment at which nobody could.
    pub while_nobody: Option<Timestamp>,
    /// The record that authorized the developer.
    pub developer_record: Option<Seq>,
    /// Evidence that was written, to be checked offline.
    pub bundles: Vec<PathBuf>,
}

impl Stage {
    /// Builds the scene. Agents will need TUN devices, so it is an error not to have them.
    ///
    /// # Errors
    /// When the lab cannot run here; the message says what to do.
    pub fn build(programs: Programs) -> anyhow::Result<Self> {
        privilege::require_tun()?;
        let scene = scene().context("the scene cannot be built")?;
        let eavesdropper = scene.lab.eavesdrop(GREETING)?;
        Ok(Self { programs, cast: None, notes: Notes::default(), eavesdropper, scene })
    }

    /// What runs.
    ///
    /// # Errors
    /// When the step that starts it was not played.
    pub fn cast(&self) -> anyhow::Result<&Cast> {
        self.cast.as_ref().context("nothing of Writ runs yet")
    }

    /// A folder for state that goes when the demonstration ends.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scene.lab.directory()
    }

    /// How a person can look around while things run; `explorer` is where the API's page is reached.
    ///
    /// # Errors
    /// When nothing runs.
    pub fn look_around(&self, explorer: SocketAddr) -> anyhow::Result<String> {
        let (scene, cast) = (&self.scene, self.cast()?);
        let bin = self.programs.directory().display();
        let credentials = cast.operator.credentials().display();
        let made = cast.control.made();
        let mut text = format!(
            "Everything is still running. Look around:\n\n  \
             The GraphQL explorer   https://{explorer}/graphql   (its certificate is self-made)\n  \
             Sign in there as       {} with {}\n  \
             The log                {}\n  \
             Its key                {}\n\n\
             From another terminal, as the operator:\n  \
             export WRIT_CONFIG={credentials}\n  \
             {} {bin}/writ log show\n  \
             {} {bin}/writ who-can-reach production-database\n\n\
             On a host, by putting this before a command:",
            made.admin,
            made.secret,
            cast.control.log_directory().display(),
            made.log_key,
            scene.control.shell_prefix(),
            scene.control.shell_prefix(),
        );
        let hosts = [
            ("the developer's laptop", &scene.developer),
            ("the on-call engineer's laptop", &scene.engineer),
            ("the staging cluster", &scene.staging),
            ("the production database", &scene.production),
            ("the control plane", &scene.control),
        ];
        for (name, host) in hosts {
            text.push_str(&format!("\n  {name:<30}  {}", host.shell_prefix()));
        }
        text.push_str(&format!(
            "\n\nFor example:\n  {} {bin}/writ-agent status --state {}",
            scene.engineer.shell_prefix(),
            cast.engineer.state().display()
        ));
        Ok(text)
    }
}
