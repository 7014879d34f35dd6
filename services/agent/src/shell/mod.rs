//! The IO around the engine.

mod agent;
mod changes;
pub mod check;
mod dial;
mod exit;
mod firewall;
mod forwarding;
mod host_dns;
mod http;
mod join;
mod keeper;
pub mod local;
mod mark;
mod net;
mod relay;
mod resolver;
mod routes;
mod server;
mod session;
mod sockets;
mod status;
mod tls;
mod token;
mod traces;
mod tun;

pub use agent::{Options, up};
pub use firewall::DroppingChain;
pub use forwarding::exit_routes;
pub use host_dns::{HostDnsMode, HostDnsStatus, Way};
pub use status::{AgentStatus, LogLine, SessionStatus, WhyStatus};
