//! Counting packets where they arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::command;
use super::error::LabError;
use super::namespace::Namespace;

static COUNTERS: AtomicU32 = AtomicU32::new(0);

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    fn keyword(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What a counter has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes, with the IP header.
    pub bytes: u64,
}

/// Counts every packet that reaches a node for one destination port, on every interface (tunnels and loopback
/// too), IPv4 and IPv6, before any rule or program could drop it.
#[derive(Debug)]
pub struct Counter {
    namespace: Arc<Namespace>,
    name: String,
}

impl Counter {
    pub(crate) fn create(
        namespace: &Arc<Namespace>,
        transport: Transport,
        port: u16,
    ) -> Result<Self, LabError> {
        let protocol = transport.keyword();
        let number = COUNTERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{protocol}_{port}_{number}");
        command::nft(
            namespace,
            &format!(
                "table inet writ_count {{\n\
                 counter {name} {{ }}\n\
                 chain arriving {{ type filter hook prerouting priority raw; \
                   {protocol} dport {port} counter name \"{name}\"; }}\n\
                 }}\n"
            ),
        )?;
        Ok(Self { namespace: Arc::clone(namespace), name })
    }

    /// What has been counted so far.
    ///
    /// # Errors
    /// When nftables does not answer as expected.
    pub fn read(&self) -> Result<Count, LabError> {
        let args = ["-j", "list", "counter", "inet", "writ_count", &self.name];
        let text = command::run(&self.namespace, "nft", &args, "")?;
        parse(&text).ok_or_else(|| LabError::Command {
            command: format!("nft {}", args.join(" ")),
            place: self.namespace.name().to_owned(),
            message: format!("no counter in its answer: {text}"),
        })
    }
}

fn parse(json: &str) -> Option<Count> {
    let answer: serde_json::Value = serde_json::from_str(json).ok()?;
    let counter = answer.get("nftables")?.as_array()?.iter().find_map(|item| item.get("counter"))?;
    serde_json::from_value(counter.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_nft_is_read() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "c", "table": "t", "handle": 2, "packets": 3, "bytes": 180}}]}"#;
        assert_eq!(parse(text), Some(Count { packets: 3, bytes: 180 }));
        assert_eq!(parse(r#"{"nftables": []}"#), None);
    }
}
