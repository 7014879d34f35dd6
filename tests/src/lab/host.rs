//! A host of the lab and what can be done on it.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::command;
use super::core::LabCore;
use super::counter::{Counter, Transport};
use super::error::LabError;
use super::namespace::Namespace;
use super::privilege;
use super::process::Process;
use super::segment::{Plug, Segment};
use super::services::{EchoServer, HttpServer};
use super::traffic::{self, Flow, Response};

/// The interface by which a host is connected.
const INTERFACE: &str = "eth0";

/// Commands that are run to their end get this long.
const EXEC_LIMIT: Duration = Duration::from_secs(60);

/// A host of the lab. Copies mean the same host.
#[derive(Debug, Clone)]
pub struct Host {
    core: Arc<LabCore>,
    namespace: Arc<Namespace>,
    plug: Plug,
}

impl Host {
    pub(crate) fn create(core: &Arc<LabCore>, segment: &Arc<Segment>, name: &str) -> Result<Self, LabError> {
        let namespace = core.namespace(name)?;
        let plug = segment.attach(&namespace, INTERFACE)?;
        Ok(Self { core: Arc::clone(core), namespace, plug })
    }

    /// Its address in the network it is plugged into.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.plug.address()
    }

    /// Its number in the network it is plugged into.
    pub(crate) fn number(&self) -> u8 {
        self.plug.number()
    }

    /// Takes an address whose packets the router of the LAN forwards.
    pub(crate) fn take_ipv6(&self, address: Ipv6Addr) -> Result<(), LabError> {
        command::ip(
            &self.namespace,
            &format!(
                "addr add {address}/128 dev {INTERFACE} nodad\nroute replace default via fe80::1 dev {INTERFACE}\n"
            ),
        )
    }

    /// A port at its address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address()), port)
    }

    /// The name of its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// What a person types before a command to run it on this host from another terminal.
    #[must_use]
    pub fn shell_prefix(&self) -> String {
        privilege::shell_prefix(self.namespace.name())
    }

    /// Starts a program on the host. It sees PATH, HOME and what the command sets, and no other variable; its
    /// output goes to files of the lab; its standard input is empty.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &Command) -> Result<Process, LabError> {
        Process::spawn(&self.core, &self.namespace, command)
    }

    /// Runs a program on the host to its end, whatever its exit code.
    ///
    /// # Errors
    /// When `args` is empty, or the program cannot be started or has not ended after a minute.
    pub fn exec<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output, LabError> {
        let mut args = args.into_iter();
        let program = args
            .next()
            .ok_or_else(|| LabError::io("run a command")(std::io::ErrorKind::InvalidInput.into()))?;
        let mut command = Command::new(program);
        command.args(args);
        self.spawn(&command)?.output(EXEC_LIMIT)
    }

    /// Runs code inside the host's network and waits for its result. A panic goes on in the caller.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LabError> {
        self.thread("work", work)?.join().map_err(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread inside the host's network. Sockets it makes stay in that network wherever they are used.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        self.namespace.thread(name, work)
    }

    /// A UDP socket of the host on every address; port 0 takes any.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn udp(&self, port: u16) -> Result<UdpSocket, LabError> {
        self.inside(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?
            .map_err(LabError::io(format!("bind UDP port {port} in {}", self.namespace())))
    }

    /// A TCP listener of the host on every address; port 0 takes any.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(&self, port: u16) -> Result<TcpListener, LabError> {
        self.inside(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?
            .map_err(LabError::io(format!("listen on TCP port {port} in {}", self.namespace())))
    }

    /// A TCP connection from the host.
    ///
    /// # Errors
    /// When nobody answers within `limit`, or somebody refuses.
    pub fn connect(&self, target: SocketAddr, limit: Duration) -> Result<TcpStream, LabError> {
        self.inside(move || TcpStream::connect_timeout(&target, limit))?
            .map_err(LabError::io(format!("connect to {target} from {}", self.namespace())))
    }

    /// Asks an HTTP server for a path, from this host.
    ///
    /// # Errors
    /// When there is no complete answer within `limit`.
    pub fn http_get(&self, server: SocketAddr, path: &str, limit: Duration) -> Result<Response, LabError> {
        let stream = self.connect(server, limit)?;
        traffic::http_get(stream, server, path, limit)
            .map_err(LabError::io(format!("get http://{server}{path} from {}", self.namespace())))
    }

    /// A live TCP connection from this host to an echo server, which sends and checks a line every `interval`
    /// and knows for how long it was silent.
    ///
    /// # Errors
    /// When the connection is not made within `limit`.
    pub fn flow(&self, target: SocketAddr, interval: Duration, limit: Duration) -> Result<Flow, LabError> {
        let stream = self.connect(target, limit)?;
        Flow::start(stream, interval).map_err(LabError::io("start a flow"))
    }

    /// Counts packets that reach this host for a destination port.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn count(&self, transport: Transport, port: u16) -> Result<Counter, LabError> {
        Counter::create(&self.namespace, transport, port)
    }

    /// Watches the UDP datagrams that arrive from the network the host is plugged into.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn watch_arrivals(&self) -> Result<Arrivals, LabError> {
        Arrivals::watch(&self.namespace, self.address())
    }

    /// A small HTTP server on every address of the host; see [`HttpServer`].
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve_http(&self, port: u16, greeting: &str) -> Result<HttpServer, LabError> {
        HttpServer::start(self, port, greeting)
    }

    /// A TCP server on every address of the host that sends back what it gets.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve_echo(&self, port: u16) -> Result<EchoServer, LabError> {
        EchoServer::start(self, port)
    }

    /// Pulls the host's network cable, or plugs it in again.
    ///
    /// # Errors
    /// When a command fails.
    pub fn set_connected(&self, connected: bool) -> Result<(), LabError> {
        self.plug.set_connected(connected)
    }
}
