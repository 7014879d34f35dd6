//! What agents and the control plane say to each other.
//!
//! A node joins once over `POST /agent/v1/join` and then holds one WebSocket, `GET /agent/v1/session`, opened with a
//! token that it signs itself. Frames are JSON text. Every frame of the server has a number; an agent that comes back
//! names the last one it has seen and gets what it missed, or everything anew.

mod join;
mod proven;
mod session;

pub use join::*;
pub use proven::*;
pub use session::*;
