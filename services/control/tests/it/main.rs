//! The control plane as its clients see it: over real HTTP and WebSockets.

mod access;
mod agent;
mod crash;
mod joins;
mod plane;
mod sessions;
