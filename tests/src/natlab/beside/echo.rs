//! Small datagrams and their echo: what a pair says to each other once it is connected.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::{Host, LabError};

/// How often a thread looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// At first as often as a voice would be sent, so that a direct path is seen as soon as it is used.
const PACE: Duration = Duration::from_millis(10);
/// Later only so that the pair does not fall asleep.
const SLOW_PACE: Duration = Duration::from_millis(500);
/// The longest datagram.
const BYTES_LIMIT: usize = 1200;

/// Something that goes on in a host's network until it is dropped.
pub(super) struct Task {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    fn start(
        host: &Host,
        name: &str,
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = host.thread(name, move || work(&stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends every datagram that comes to a port back.
pub(super) fn serve(host: &Host, port: u16) -> Result<Task, LabError> {
    let socket = host.udp(port)?;
    Task::start(host, "echo", move |stop| {
        let _ = socket.set_read_timeout(Some(LOOK));
        let mut buffer = [0; BYTES_LIMIT];
        while !stop.load(Ordering::SeqCst) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            // Who cannot be answered has gone.
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    })
}

/// Sends datagrams of a length to a server of [`serve`], often for `busy` and then seldom, but not for longer than `limit`.
pub(super) fn keep_asking(
    host: &Host,
    server: SocketAddr,
    bytes: usize,
    (busy, limit): (Duration, Duration),
) -> Result<Task, LabError> {
    Task::start(host, "asking", move |stop| {
        let start = Instant::now();
        let Ok(socket) = connect(server) else { return };
        while !stop.load(Ordering::SeqCst) && start.elapsed() < limit {
            // A packet that finds no way yet is one that is lost.
            let _ = socket.send(&vec![0; bytes]);
            std::thread::sleep(if start.elapsed() < busy { PACE } else { SLOW_PACE });
        }
    })
}

/// Asks so many times, one after the other, and returns how long each answer that came within `limit` took.
pub(super) fn round_trips(
    host: &Host,
    server: SocketAddr,
    bytes: usize,
    (count, limit): (u8, Duration),
) -> Result<Vec<Duration>, LabError> {
    host.inside(move || {
        let Ok(socket) = connect(server) else { return Vec::new() };
        (0..count).filter_map(|number| round_trip(&socket, number, bytes, limit).ok()).collect()
    })
}

fn round_trip(socket: &UdpSocket, number: u8, bytes: usize, limit: Duration) -> io::Result<Duration> {
    let (sent, mut got) = (vec![number; bytes], [0; BYTES_LIMIT]);
    let start = Instant::now();
    socket.send(&sent)?;
    loop {
        let left = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
        socket.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        let length = socket.recv(&mut got)?;
        // The echo of one that was given up may come late.
        if got.get(..length) == Some(&sent[..]) {
            return Ok(start.elapsed());
        }
    }
}

fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    Ok(socket)
}
