//! The relay on a real socket.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::UdpSocket;
use writ_schema::NodeId;

use crate::counters::Counters;
use crate::permits::PermitsFull;
use crate::relay::{CLEAN_UP_INTERVAL, Limits, Relay, Sizes};
use crate::wire::MAX_DATAGRAM_BYTES;

/// Datagrams taken from the socket before the lock is given back, so that a revocation waits less than a millisecond.
const BATCH: usize = 64;
/// Pause after an error of the socket, so that one which repeats does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The relay as the rest of the process sees it: permits in, numbers out, from any thread. Clones share one relay.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    relay: Arc<Mutex<Relay>>,
}

impl RelayHandle {
    /// A relay that permits nothing yet; [`serve`] puts it on a socket.
    pub fn new(secret: [u8; 32], limits: Limits) -> Self {
        Self { relay: Arc::new(Mutex::new(Relay::new(secret, limits))) }
    }

    /// Lets the two nodes talk until then. See [`Relay::permit`].
    pub fn permit(&self, a: &NodeId, b: &NodeId, until: SystemTime) -> Result<(), PermitsFull> {
        let until = Clock::read().instant_of(until);
        self.lock().permit(a, b, until)
    }

    /// Ends the permit of the two nodes. When this returns, no packet between them is forwarded any more.
    pub fn revoke(&self, a: &NodeId, b: &NodeId) {
        self.lock().revoke(a, b);
    }

    /// Puts these permits in the place of all others. See [`Relay::set_permits`].
    pub fn set_permits(
        &self,
        permits: impl IntoIterator<Item = (NodeId, NodeId, SystemTime)>,
    ) -> Result<(), PermitsFull> {
        let clock = Clock::read();
        // Collected first: the caller's iterator must not run under the lock.
        let permits: Vec<_> =
            permits.into_iter().map(|(a, b, until)| (a, b, clock.instant_of(until))).collect();
        self.lock().set_permits(permits)
    }

    /// Ends the node's binding and all of its permits. See [`Relay::drop_node`].
    pub fn drop_node(&self, node: &NodeId) {
        self.lock().drop_node(node);
    }

    /// What was done since the start.
    pub fn counters(&self) -> Counters {
        self.lock().counters()
    }

    /// How much is held now.
    pub fn sizes(&self) -> Sizes {
        self.lock().sizes()
    }

    fn lock(&self) -> MutexGuard<'_, Relay> {
        // A relay holds no invariant that a panic elsewhere could break half-way: every table stands by itself.
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is served on a socket.
#[derive(Debug, Clone, Copy)]
enum Service {
    All,
    Stun,
}

/// Serves the relay on the socket until `shutdown` completes. Run it as a task of its own.
pub async fn serve(socket: UdpSocket, handle: RelayHandle, shutdown: impl Future<Output = ()>) {
    run(socket, handle, Service::All, shutdown).await;
}

/// Answers STUN alone on the socket, within the same limits. Who asks on two ports and is seen the same way knows that its NAT
/// has one mapping for both (RFC 5780, 4.3).
pub async fn serve_stun(socket: UdpSocket, handle: RelayHandle, shutdown: impl Future<Output = ()>) {
    run(socket, handle, Service::Stun, shutdown).await;
}

async fn run(socket: UdpSocket, handle: RelayHandle, service: Service, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut clean_up = tokio::time::interval(CLEAN_UP_INTERVAL);
    // One byte more than the longest message, so that a longer one shows.
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            _ = clean_up.tick() => handle.lock().handle_timeout(Instant::now()),
            ready = socket.readable() => {
                if let Err(error) = ready.and_then(|()| take_batch(&socket, &handle, service, &mut buffer)) {
                    tracing::warn!(%error, "the relay's socket failed; trying again");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
                // A busy socket is always ready: let the runtime's other tasks have their turn.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Handles what has arrived, up to a batch, under one lock.
fn take_batch(
    socket: &UdpSocket,
    handle: &RelayHandle,
    service: Service,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut relay = handle.lock();
    let now = Instant::now();
    for _ in 0..BATCH {
        let (length, from) = match socket.try_recv_from(buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut unsent = false;
        // UDP may lose packets: one that the socket does not take now is lost, and counted.
        let mut send = |to: SocketAddr, bytes: &[u8]| unsent |= socket.try_send_to(bytes, to).is_err();
        let datagram = buffer.get(..length).unwrap_or_default();
        match service {
            Service::All => relay.handle_datagram(now, from, datagram, &mut send),
            Service::Stun => relay.handle_stun(now, from, datagram, &mut send),
        }
        if unsent {
            relay.count_failed_send();
        }
    }
    Ok(())
}

/// Both clocks at one moment: permits come in calendar time, the relay runs on the steady clock.
struct Clock {
    steady: Instant,
    calendar: SystemTime,
}

impl Clock {
    /// Farthest moment that is told apart; a longer permit ends then.
    const HORIZON: Duration = Duration::from_secs(365 * 24 * 3600);

    fn read() -> Self {
        Self { steady: Instant::now(), calendar: SystemTime::now() }
    }

    fn instant_of(&self, moment: SystemTime) -> Instant {
        let ahead = moment.duration_since(self.calendar).unwrap_or_default();
        self.steady.checked_add(ahead.min(Self::HORIZON)).unwrap_or(self.steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_in_the_past_or_far_ahead_is_bounded() {
        let clock = Clock::read();
        assert_eq!(clock.instant_of(clock.calendar - Duration::from_secs(9)), clock.steady);
        assert_eq!(
            clock.instant_of(clock.calendar + Duration::from_secs(9)),
            clock.steady + Duration::from_secs(9)
        );
        let far = clock.calendar + Clock::HORIZON * 3;
        assert_eq!(clock.instant_of(far), clock.steady + Clock::HORIZON);
    }
}
