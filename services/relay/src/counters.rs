//! What the relay did, as numbers for metrics.

/// Why the relay dropped a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not a message that the relay reads.
    Malformed,
    /// A payload longer than is forwarded.
    Oversize,
    /// A hello whose mac does not prove the node's key.
    BadMac,
    /// A hello whose counter was seen before.
    StaleHello,
    /// A hello of one more node than the relay holds.
    Full,
    /// A hello from a source that sends too many.
    HelloRate,
    /// Data from an address that is bound to no node.
    NotBound,
    /// Data between a pair that holds no live permit.
    NoPermit,
    /// Data for a node that is not bound.
    PeerAbsent,
    /// A STUN message that is too long, broken or not a Binding request.
    BadStun,
    /// A STUN request from a source that sends too many.
    StunRate,
    /// A forwarded packet that the operating system did not take.
    SendFailed,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Oversize,
        Self::BadMac,
        Self::StaleHello,
        Self::Full,
        Self::HelloRate,
        Self::NotBound,
        Self::NoPermit,
        Self::PeerAbsent,
        Self::BadStun,
        Self::StunRate,
        Self::SendFailed,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::BadMac => "bad_mac",
            Self::StaleHello => "stale_hello",
            Self::Full => "full",
            Self::HelloRate => "hello_rate",
            Self::NotBound => "not_bound",
            Self::NoPermit => "no_permit",
            Self::PeerAbsent => "peer_absent",
            Self::BadStun => "bad_stun",
            Self::StunRate => "stun_rate",
            Self::SendFailed => "send_failed",
        }
    }
}

/// What the relay did since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Data messages forwarded.
    pub forwarded_packets: u64,
    /// Bytes of payload forwarded.
    pub forwarded_bytes: u64,
    /// Hellos that bound an address.
    pub hellos_accepted: u64,
    /// STUN requests answered, with an address or with an error.
    pub stun_answered: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Counters {
    /// Datagrams refused for this reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason as usize).copied().unwrap_or_default()
    }

    /// Datagrams refused, for every reason.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().map(|reason| (reason, self.refused(reason)))
    }

    pub(crate) fn refuse(&mut self, reason: Refusal) {
        if let Some(count) = self.refused.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_count_and_label() {
        let mut counters = Counters::default();
        for (n, reason) in Refusal::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| counters.refuse(reason));
        }
        let counts: Vec<u64> = counters.refusals().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=12).collect::<Vec<u64>>());
        let labels: std::collections::BTreeSet<_> = Refusal::ALL.map(Refusal::label).into();
        assert_eq!(labels.len(), Refusal::ALL.len());
    }
}
