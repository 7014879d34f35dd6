//! The same pairs, crossed by what others make as well, each on a lab of its own of the same shape.
//!
//! A product is measured from outside, so that all are measured alike. All nodes are up and know of each other, nobody has
//! spoken yet, and each product does with peers that are idle what it does by default. A pair at a time, the left host then
//! asks a web server on the right host for a page, which gives the time to the first byte, and goes on with small datagrams
//! that are echoed. A path is direct when those datagrams arrive at the right host's own interface, encrypted as WireGuard
//! does, from somewhere else than the host that relays: their length says whose they are.

mod comparison;
mod crossing;
mod echo;
mod foreign;
mod netbird;
mod tailscale;
mod writ;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use clap::ValueEnum;

pub use self::comparison::{Comparison, Crossing, Pair};

use super::Access;
use crate::lab::{Host, Lab};
use crate::parts::Programs;

/// What others make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Other {
    /// Tailscale's client with Headscale, and the relay that Headscale has inside.
    Tailscale,
    /// NetBird's agent with its server, which has its relay inside.
    Netbird,
}

/// Whose nodes cross the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maker {
    /// This build.
    Writ,
    /// Somebody else.
    Other(Other),
}

/// Servers and nodes of one maker.
trait Product {
    /// Brings a node up on a host and returns its address in the overlay.
    fn join(&mut self, lab: &Lab, host: &Host, name: &str) -> anyhow::Result<IpAddr>;

    /// Waits until every node is connected to the servers and knows of all others.
    fn wait_ready(&self) -> anyhow::Result<()>;
}

/// Crosses every pair of these ways to be connected with Writ, and then with these others. Their programs are in `directory`.
///
/// # Errors
/// When the lab cannot run here, or a program is missing or fails; a pair that does not connect is no error but a cell that
/// says so.
pub fn compare(
    programs: &Programs,
    directory: &Path,
    others: &[Other],
    accesses: &[Access],
) -> anyhow::Result<Comparison> {
    let makers = std::iter::once(Maker::Writ).chain(others.iter().copied().map(Maker::Other));
    let crossings = makers.map(|maker| {
        crossing::cross(maker, accesses, |lab, host| {
            Ok(match maker {
                Maker::Writ => Box::new(writ::Writ::start(programs, lab, host)?) as Box<dyn Product>,
                Maker::Other(Other::Tailscale) => {
                    Box::new(tailscale::Tailscale::start(directory, lab, host)?)
                }
                Maker::Other(Other::Netbird) => Box::new(netbird::NetBird::start(directory, lab, host)?),
            })
        })
    });
    Ok(Comparison { crossings: crossings.collect::<anyhow::Result<_>>()? })
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Writ => "writ",
            Self::Other(Other::Tailscale) => "tailscale",
            Self::Other(Other::Netbird) => "netbird",
        })
    }
}
