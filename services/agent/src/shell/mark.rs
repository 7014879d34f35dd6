//! The mark on the agent's own packets: they go to peers, the relay and the control plane, and never into the tunnel itself.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Mark;

/// The firewall mark (socket(7), `SO_MARK`).
pub(super) const MARK: u32 = 0x1752;

/// Marks what a socket sends.
pub(super) fn mark(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, Mark, &MARK).map_err(io::Error::from)
}
