//! STUN server and relay on one UDP socket.
//!
//! Two nodes that cannot reach each other yet send their WireGuard packets through here. The relay sees
//! ciphertext only and never looks into it. It forwards a packet when, and only when, all of this holds:
//!
//! 1. the sender's address is *bound* to a node: that node sent a [`wire::Hello`] from there within
//!    [`wire::BINDING_LIFETIME`], with a MAC under its relay key and a counter that was not seen before;
//! 2. the control plane has given the pair of nodes a *permit* that has not expired;
//! 3. the destination is bound too.
//!
//! The relay key of a node follows from one secret and the node's name ([`relay_key`]), so the server keeps
//! no secret per node. [`Relay`] is the whole behaviour, without sockets or clock; [`serve`] moves bytes for
//! it and [`RelayHandle`] changes permits from any thread. An agent needs [`wire`] and [`RelayKey`] only and
//! builds this crate without its `server` feature.

mod key;
pub mod wire;

pub use key::{RelayKey, relay_key};

#[cfg(feature = "server")]
mod bindings;
#[cfg(feature = "server")]
mod counters;
#[cfg(feature = "server")]
mod permits;
#[cfg(feature = "server")]
mod rate;
#[cfg(feature = "server")]
mod relay;
#[cfg(feature = "server")]
mod shell;
#[cfg(feature = "server")]
mod stun;

#[cfg(feature = "server")]
pub use counters::{Counters, Refusal};
#[cfg(feature = "server")]
pub use permits::PermitsFull;
#[cfg(feature = "server")]
pub use relay::{Limits, Relay, Sizes};
#[cfg(feature = "server")]
pub use shell::{RelayHandle, serve, serve_stun};
