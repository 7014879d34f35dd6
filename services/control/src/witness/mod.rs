//! `writd witness`: cosigns the checkpoints of other networks' logs (C2SP tlog-witness).
//!
//! A witness belongs on another machine than the logs that it watches, in other hands: it is what keeps even the holder of
//! a log's key from showing two histories.

mod command;
mod config;
mod http;

pub use command::Task;
pub use config::WitnessConfig;
pub use http::WitnessServer;
