//! Clients: an HTTP request, and a flow that notices silence.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Larger answers than this are not for us.
const RESPONSE_LIMIT_BYTES: u64 = 64 << 20;

/// How often a silent flow looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);

/// What an HTTP server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
    /// From the request to the last byte.
    pub took: Duration,
}

/// One GET on an open connection. The server is asked to close it, so the body ends where the stream ends.
pub(crate) fn http_get(
    mut stream: TcpStream,
    server: SocketAddr,
    path: &str,
    limit: Duration,
) -> io::Result<Response> {
    let start = Instant::now();
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(RESPONSE_LIMIT_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (status, body) = parse(&text).ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    Ok(Response { status, body: body.to_owned(), took: start.elapsed() })
}

fn parse(text: &str) -> Option<(u16, &str)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split_whitespace().next()?.parse().ok()?;
    Some((status, body))
}

/// A TCP connection that sends a numbered line again and again, and checks that it comes back.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Mutex<Progress>>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Progress {
    echoed: u64,
    last_echo: Instant,
    longest_silence: Duration,
    ended: Option<String>,
    stop: bool,
}

/// How a flow is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowReport {
    /// Lines that came back unaltered and in order.
    pub echoed: u64,
    /// Since the last line came back.
    pub silent_for: Duration,
    /// The longest time between two lines that came back, the present silence included.
    pub longest_silence: Duration,
    /// Why the connection ended, if it has.
    pub ended: Option<String>,
}

impl Flow {
    /// Sends the first line at once, and the next `interval` after the last came back.
    pub(crate) fn start(stream: TcpStream, interval: Duration) -> io::Result<Self> {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
        let shared = Arc::new(Mutex::new(Progress {
            echoed: 0,
            last_echo: Instant::now(),
            longest_silence: Duration::ZERO,
            ended: None,
            stop: false,
        }));
        let (progress, mut socket) = (Arc::clone(&shared), stream.try_clone()?);
        let thread = thread::Builder::new().name("flow".into()).spawn(move || {
            let end = exchange(&mut socket, &progress, interval);
            lock(&progress).ended = end.err().map(|error| error.to_string());
        })?;
        Ok(Self { shared, stream, thread: Some(thread) })
    }

    /// How it is doing now.
    #[must_use]
    pub fn report(&self) -> FlowReport {
        let progress = lock(&self.shared);
        let silent_for = progress.last_echo.elapsed();
        FlowReport {
            echoed: progress.echoed,
            silent_for,
            longest_silence: progress.longest_silence.max(silent_for),
            ended: progress.ended.clone(),
        }
    }

    /// The address the connection goes out from.
    ///
    /// # Errors
    /// When the socket has none any more.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends without an error only when asked to stop.
fn exchange(socket: &mut TcpStream, shared: &Mutex<Progress>, interval: Duration) -> io::Result<()> {
    let mut number = 0_u64;
    loop {
        let line = format!("{number}\n").into_bytes();
        socket.write_all(&line)?;
        if !read_back(socket, shared, &line)? {
            return Ok(());
        }
        number = number.wrapping_add(1);
        {
            let mut progress = lock(shared);
            progress.echoed = number;
            progress.longest_silence = progress.longest_silence.max(progress.last_echo.elapsed());
            progress.last_echo = Instant::now();
        }
        thread::sleep(interval);
    }
}

/// Reads the line that was sent. False when asked to stop.
fn read_back(socket: &mut TcpStream, shared: &Mutex<Progress>, line: &[u8]) -> io::Result<bool> {
    let mut got = Vec::with_capacity(line.len());
    let mut byte = [0_u8];
    while got.len() < line.len() {
        if lock(shared).stop {
            return Ok(false);
        }
        match socket.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => got.extend_from_slice(&byte),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    if got == line { Ok(true) } else { Err(io::Error::other("what came back is not what was sent")) }
}

fn lock(shared: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let text = "HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nno such page";
        assert_eq!(parse(text), Some((404, "no such page")));
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
    }
}
