//! Servers for the hosts of the lab: something to reach, that knows who came.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::error::LabError;
use super::host::Host;

/// How many visitors are remembered.
const VISITORS_LIMIT: usize = 256;
/// A request head may be this long.
const HEAD_LIMIT_BYTES: usize = 8 << 10;
/// `/bytes/<n>` gives at most this many.
const BODY_LIMIT_BYTES: usize = 32 << 20;
/// Between two lines of `/stream`.
const STREAM_INTERVAL: Duration = Duration::from_millis(100);

/// An HTTP server: `/` greets, `/stream` sends a line ten times a second until the client goes, `/bytes/<n>` sends
/// so many bytes. It stops when dropped.
#[derive(Debug)]
pub struct HttpServer {
    service: Service,
}

/// A server that sends back what it gets. It stops when dropped.
#[derive(Debug)]
pub struct EchoServer {
    service: Service,
}

impl HttpServer {
    pub(crate) fn start(host: &Host, port: u16, greeting: &str) -> Result<Self, LabError> {
        let greeting: Arc<str> = greeting.into();
        let service = Service::start(host, port, move |stream| serve_http(stream, Arc::clone(&greeting)))?;
        Ok(Self { service })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.service.port
    }

    /// Who connected, the last ones.
    #[must_use]
    pub fn visitors(&self) -> Vec<IpAddr> {
        self.service.visitors()
    }
}

impl EchoServer {
    pub(crate) fn start(host: &Host, port: u16) -> Result<Self, LabError> {
        Ok(Self { service: Service::start(host, port, echo)? })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.service.port
    }

    /// Who connected, the last ones.
    #[must_use]
    pub fn visitors(&self) -> Vec<IpAddr> {
        self.service.visitors()
    }
}

/// A listener with a thread of its own in the host's network.
#[derive(Debug)]
struct Service {
    port: u16,
    visitors: Arc<Mutex<VecDeque<IpAddr>>>,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Service {
    fn start<F>(
        host: &Host,
        port: u16,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Result<Self, LabError>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = host.listen(port)?;
        let port = listener.local_addr().map_err(LabError::io("read a listener's address"))?.port();
        let visitors = Arc::new(Mutex::new(VecDeque::new()));
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::clone(&visitors);
        run_until(
            stopped,
            accept_all(listener, move |stream, peer: SocketAddr| {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.len() == VISITORS_LIMIT {
                    seen.pop_front();
                }
                seen.push_back(peer.ip());
                let answer = serve(stream);
                tokio::spawn(async move {
                    // A visitor that hangs up is no concern of the server's.
                    let _ = answer.await;
                });
            }),
        )?;
        Ok(Self { port, visitors, _stop: stop })
    }

    fn visitors(&self) -> Vec<IpAddr> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// Runs a task on a thread and a runtime of its own, until it ends or the other half of `stopped` is dropped; all
/// that it spawned ends with it.
pub(crate) fn run_until(
    stopped: oneshot::Receiver<()>,
    work: impl Future<Output = io::Result<()>> + Send + 'static,
) -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::io("start a runtime"))?;
    std::thread::Builder::new()
        .name("service".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = work => {}
                }
            });
            runtime.shutdown_background();
        })
        .map_err(LabError::io("start a thread"))?;
    Ok(())
}

/// Hands every connection to `take`.
pub(crate) async fn accept_all(
    listener: TcpListener,
    mut take: impl FnMut(TcpStream, SocketAddr),
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => take(stream, peer),
            // Out of file descriptors, most likely: others may be closed meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

async fn serve_http(mut stream: TcpStream, greeting: Arc<str>) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let path = head.split_whitespace().nth(1).unwrap_or("/");
    if path == "/stream" {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n").await?;
        for line in 0_u64.. {
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            tokio::time::sleep(STREAM_INTERVAL).await;
        }
    }
    let (status, body) = match path.strip_prefix("/bytes/").map(str::parse::<usize>) {
        Some(Ok(count)) if count <= BODY_LIMIT_BYTES => ("200 OK", vec![b'.'; count]),
        Some(_) => ("400 Bad Request", b"not a number of bytes, or too many\n".to_vec()),
        None if path == "/" => ("200 OK", format!("{greeting}\n").into_bytes()),
        None => ("404 Not Found", b"no such page\n".to_vec()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut chunk = [0_u8; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await?;
        if count == 0 || head.len() > HEAD_LIMIT_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend(chunk.iter().take(count));
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
