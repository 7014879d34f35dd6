//! A door from this machine's loopback into the lab.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use super::error::LabError;
use super::host::Host;
use super::services::{accept_all, run_until};

/// A browser opens six; a person has a few tabs.
const CONNECTIONS_LIMIT: usize = 64;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Carries TCP connections into the lab until it is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    /// Dropping it ends the forwarding.
    _stop: oneshot::Sender<()>,
}

impl Forward {
    pub(crate) fn start(listen: SocketAddr, host: Host, target: SocketAddr) -> Result<Self, LabError> {
        if !listen.ip().is_loopback() {
            let action = format!("forward from {listen}, which is not on the loopback");
            return Err(LabError::io(action)(std::io::ErrorKind::InvalidInput.into()));
        }
        // The caller's thread is in the machine's own network, so this listener is too.
        let listener = TcpListener::bind(listen).map_err(LabError::io(format!("listen on {listen}")))?;
        let address = listener.local_addr().map_err(LabError::io("read a listener's address"))?;
        let (stop, stopped) = oneshot::channel();
        let places = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        run_until(
            stopped,
            accept_all(listener, move |outside, _| {
                // One too many is hung up on.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { return };
                let host = host.clone();
                tokio::spawn(async move {
                    carry(outside, host, target).await;
                    drop(place);
                });
            }),
        )?;
        Ok(Self { address, _stop: stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Either side hanging up, or the inside not answering, ends the other.
async fn carry(mut outside: TcpStream, host: Host, target: SocketAddr) {
    let connect = tokio::task::spawn_blocking(move || host.connect(target, CONNECT_LIMIT));
    let Ok(Ok(inside)) = connect.await else { return };
    if inside.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(mut inside) = TcpStream::from_std(inside) else { return };
    let _ = copy_bidirectional(&mut outside, &mut inside).await;
}
