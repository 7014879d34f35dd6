//! What can go wrong in the lab.

use std::io;
use std::net::Ipv4Addr;

use super::wait::Timeout;

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// This machine does not let us make network namespaces, or lacks a tool.
    #[error("the network lab cannot run here: {reason}; {remedy}")]
    Unavailable {
        /// What forbids it.
        reason: String,
        /// What the person can do about it.
        remedy: String,
    },
    /// A command that shapes the network failed.
    #[error("`{command}` failed in {place}: {message}")]
    Command {
        /// The command line.
        command: String,
        /// The namespace it ran in.
        place: String,
        /// What it said.
        message: String,
    },
    /// An operation of the system failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error(transparent)]
    Timeout(#[from] Timeout),
    /// A network of the lab has no address left.
    #[error("no address is left in {segment}")]
    AddressesExhausted {
        /// The network.
        segment: String,
    },
    /// A router would have the same network on both sides.
    #[error("the router {name} cannot have {lan}/24 inside: that is the network outside of it too")]
    SameNetwork {
        /// The router.
        name: String,
        /// The network.
        lan: Ipv4Addr,
    },
    /// A name that cannot be a node's.
    #[error("`{name}` cannot name a node of the lab: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The lab is being taken down.
    #[error("the lab is closed")]
    Closed,
}

impl LabError {
    /// Wraps an error of the system with what was tried.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// As [`LabError::io`], for errors that came as a bare error number.
    pub(crate) fn errno(action: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let action = action.into();
        move |errno| Self::Io { action, source: errno.into() }
    }
}
