//! The agent of a node: it carries the node's packets to those it may reach, and to nobody else.
//!
//! - [`trust`] verifies what the control plane sends against the log; only its types reach the engine. Pure.
//! - [`engine`] is WireGuard, the packet filter and the paths: packets, messages and time in; packets, messages and the
//!   next deadline out. No sockets, and no clock but the one that boringtun reads itself.
//! - [`coalesce`] puts packets together for a TUN device with segmentation offload. Pure.
//! - [`names`] answers for the network's names. Pure.
//! - [`state`] keeps keys, the newest verified checkpoint and what is live under it on disk.
//! - [`shell`] moves the bytes: TUN device, UDP sockets, the session, the local socket.

pub mod coalesce;
pub mod engine;
pub mod names;
pub mod shell;
pub mod state;
pub mod trust;
