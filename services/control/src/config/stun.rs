//! Where STUN is answered.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How many ports after the relay's own answer STUN unless others are named. With three, a NAT that draws from a few dozen
/// draws the same for all about once in a hundred thousand times.
pub const STUN_PORTS: u16 = 3;

/// Most servers beside the relay that agents ask.
const MAX_SERVERS: usize = 8;

/// Where STUN is answered beside the relay's own port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StunConfig {
    /// Where on this machine (UDP). By default the three ports after that of `relay_listen`. Agents reach them at the relay's
    /// address.
    #[serde(default)]
    pub listen: Option<Vec<SocketAddr>>,
    /// Other machines' STUN servers, which agents ask as well.
    #[serde(default)]
    pub servers: Vec<SocketAddr>,
}

impl StunConfig {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let count = self.listen.as_ref().map_or(usize::from(STUN_PORTS), Vec::len) + self.servers.len();
        (count > MAX_SERVERS)
            .then(|| format!("{count} servers, of which agents ask {MAX_SERVERS}: name fewer"))
    }
}
