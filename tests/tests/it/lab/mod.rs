//! The lab itself: it must be believed before what is tested in it can be.

mod hosts;
mod lifetime;
mod nats;
mod rootless;
