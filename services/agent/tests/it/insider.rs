//! A peer whose agent does as it likes: it has the keys and the authorizations of a host, and speaks WireGuard itself.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;

use super::simulation::{World, take_packets};

/// It stands in the place of host 0, towards host 1.
pub struct Insider {
    tunn: Tunn,
}

impl Insider {
    /// Makes a tunnel of its own.
    pub fn enter(world: &mut World) -> Self {
        let theirs = PublicKey::from(&world.hosts[1].node.secret);
        let secret = world.hosts[0].node.secret.clone();
        let mut insider = Self { tunn: Tunn::new(secret, theirs, None, None, 7, None) };
        let mut buffer = [0; 2048];
        let initiation = written(insider.tunn.format_handshake_initiation(&mut buffer, false));
        for answer in deliver(world, &initiation.expect("an initiation")) {
            if answer.first() == Some(&2) {
                let confirmation = written(insider.tunn.decapsulate(None, &answer, &mut buffer));
                deliver(world, &confirmation.expect("a confirmation"));
            }
        }
        assert!(insider.tunn.time_since_last_handshake().is_some(), "the tunnel stands");
        insider
    }

    /// Sends bytes through the tunnel as if they were a packet. Gives what comes out at the other end.
    pub fn say(&mut self, world: &mut World, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; packet.len() + 256];
        let sealed = written(self.tunn.encapsulate(packet, &mut buffer)).expect("a sealed packet");
        deliver(world, &sealed);
        take_packets(&mut world.hosts[1].engine)
    }
}

/// Gives a datagram to host 1, and what it sends back to where host 0 is.
fn deliver(world: &mut World, datagram: &[u8]) -> Vec<Vec<u8>> {
    let (now, from) = (world.now(), world.hosts[0].address);
    let engine = &mut world.hosts[1].engine;
    engine.handle_datagram(now, from, datagram);
    let mut answers = Vec::new();
    while let Some(transmit) = engine.poll_transmit() {
        if transmit.to == from {
            answers.extend(transmit.datagrams().map(<[u8]>::to_vec));
        }
    }
    answers
}

fn written(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}
