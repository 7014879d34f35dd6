//! Real Apache Kafka brokers for tests: one node of KRaft, or several, on loopback ports that are free, their data in folders that
//! are removed, their jars fetched once by Maven (`pom.xml`) into the target folder.
//!
//! A broker ends with whoever started it: when it is dropped, and by the kernel when the process dies.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who may sign in.
pub const USER: &str = "writ";

/// With what.
pub const PASSWORD: &str = "a-password-that-no-log-line-holds";

/// The certificate alone, and with its key, in the broker's folder.
const AUTHORITY: &str = "authority.pem";
const IDENTITY: &str = "identity.pem";

/// Any cluster id does: a cluster ends with its test.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// How long a broker may take to serve: two Java programs start, on a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long it may take to stop in order.
const STOP_LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(50);

/// Where a broker listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    plain: SocketAddr,
    controller: SocketAddr,
    secure: SocketAddr,
}

impl Ports {
    fn free() -> io::Result<Self> {
        let [plain, controller, secure] = free_ports()?;
        Ok(Self { plain, controller, secure })
    }
}

/// Brokers that replicate to each other and elect a controller among them.
#[derive(Debug)]
pub struct Cluster(Vec<Broker>);

impl Cluster {
    /// Fetches the jars if need be, and starts so many brokers with no data.
    ///
    /// # Errors
    /// As for [`Broker::start`].
    pub fn start(brokers: usize) -> io::Result<Self> {
        let members = (0..brokers).map(|_| Ports::free()).collect::<io::Result<Vec<_>>>()?;
        let brokers = (0..brokers).map(|node| Broker::new(node, &members)).collect::<io::Result<_>>()?;
        let cluster = Self(brokers);
        cluster.each(|broker| {
            broker.format()?;
            broker.restart()
        })?;
        Ok(cluster)
    }

    /// The brokers; the one with Kafka's number 1 comes first.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.0
    }

    /// Starts again whichever does not run. None serves before most of them do.
    ///
    /// # Errors
    /// When one does not come up; its log is in the error.
    pub fn restart(&self) -> io::Result<()> {
        self.each(Broker::restart)
    }

    fn each(&self, work: impl Fn(&Broker) -> io::Result<()> + Sync) -> io::Result<()> {
        let work = &work;
        std::thread::scope(|scope| {
            let working: Vec<_> = self.0.iter().map(|broker| scope.spawn(move || work(broker))).collect();
            let results = working.into_iter().map(|worker| {
                worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread of a broker has ended")))
            });
            results.collect::<Vec<_>>().into_iter().collect()
        })
    }
}

/// A broker that can be stopped, killed and started again on the same data.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
    ports: Ports,
    jars: PathBuf,
    running: Mutex<Option<Child>>,
}

impl Broker {
    /// Fetches the jars if need be, and starts a broker with no data.
    ///
    /// # Errors
    /// When Java or Maven is missing, or the broker does not come up; its log is in the error.
    pub fn start() -> io::Result<Self> {
        let broker = Self::new(0, &[Ports::free()?])?;
        broker.format()?;
        broker.restart()?;
        Ok(broker)
    }

    /// One of the members of a cluster, which does not run yet.
    fn new(node: usize, members: &[Ports]) -> io::Result<Self> {
        let jars = fetch_jars()?;
        let folder = tempfile::Builder::new().prefix("writ-kafka-").tempdir()?;
        let ports = *members.get(node).ok_or(io::ErrorKind::NotFound)?;
        make_certificate(folder.path())?;
        std::fs::write(
            folder.path().join("server.properties"),
            properties(folder.path(), node, members, ports),
        )?;
        Ok(Self { folder, ports, jars, running: Mutex::new(None) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> String {
        self.ports.plain.to_string()
    }

    /// Where clients connect by TLS and sign in as [`USER`] with [`PASSWORD`], by PLAIN or SCRAM-SHA-512.
    #[must_use]
    pub fn secure_address(&self) -> String {
        self.ports.secure.to_string()
    }

    /// The certificate by which that address is recognised, a PEM file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.file(AUTHORITY)
    }

    /// Starts it again on its data, after it was stopped or killed.
    ///
    /// # Errors
    /// When it does not come up; its log is in the error.
    pub fn restart(&self) -> io::Result<()> {
        let mut running = self.running();
        if running.is_some() {
            return Ok(());
        }
        let mut command = self.java("kafka.Kafka");
        command.arg(self.file("server.properties"));
        *running = Some(spawn_bound_to_this_process(command)?);
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect_timeout(&self.ports.plain, PAUSE).is_err() {
            let ended = running.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                return Err(self.failed("the broker does not come up"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&self) -> io::Result<()> {
        let Some(mut child) = self.running().take() else { return Ok(()) };
        let status = Command::new("kill").arg(child.id().to_string()).status()?;
        let deadline = Instant::now() + STOP_LIMIT;
        while status.success() && Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        child.kill()?;
        child.wait()?;
        Err(self.failed("the broker did not stop in order"))
    }

    /// Ends it at once, as a power cut of the process would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> io::Result<()> {
        let Some(mut child) = self.running().take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(|_: ExitStatus| ())
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn format(&self) -> io::Result<()> {
        let mut command = self.java("kafka.tools.StorageTool");
        command.args(["format", "-t", CLUSTER_ID, "-c"]).arg(self.file("server.properties"));
        command.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]"));
        match command.status()? {
            status if status.success() => Ok(()),
            _ => Err(self.failed("the broker's data folder cannot be made")),
        }
    }

    fn java(&self, class: &str) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.file("broker.log"));
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "KILL",
                "java",
                "-Xms128m",
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
            ])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class)
            .stdin(Stdio::null())
            .stdout(
                log.as_ref()
                    .ok()
                    .and_then(|file| file.try_clone().ok())
                    .map_or_else(Stdio::null, Stdio::from),
            )
            .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn failed(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(self.file("broker.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        io::Error::other(format!("{what}; its log ends with:\n{}", tail.join("\n")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The folder goes too: nothing is left to be kept in order.
        let _ = self.kill();
    }
}

/// The kernel ends a child with the *thread* that started it, so that one must last as long as the process.
fn spawn_bound_to_this_process(mut command: Command) -> io::Result<Child> {
    let (sender, started) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("kafka-broker".to_owned()).spawn(move || {
        if sender.send(command.spawn()).is_ok() {
            loop {
                std::thread::park();
            }
        }
    })?;
    started.recv().map_err(io::Error::other)?
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let bound: [_; N] = std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&bound) {
        *address = match listener {
            Ok(listener) => listener.local_addr()?,
            Err(error) => return Err(error.kind().into()),
        };
    }
    Ok(addresses)
}

/// A certificate of the broker's own.
fn make_certificate(folder: &Path) -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(vec![Ipv4Addr::LOCALHOST.to_string()]);
    let rcgen::CertifiedKey { cert, signing_key } = made.map_err(io::Error::other)?;
    std::fs::write(folder.join(AUTHORITY), cert.pem())?;
    std::fs::write(folder.join(IDENTITY), signing_key.serialize_pem() + &cert.pem())
}

fn properties(folder: &Path, node: usize, members: &[Ports], ports: Ports) -> String {
    let Ports { plain, controller, secure } = ports;
    let jaas = "org.apache.kafka.common.security";
    let node = node + 1;
    let voters: Vec<String> =
        (1..).zip(members).map(|(node, member)| format!("{node}@{}", member.controller)).collect();
    let voters = voters.join(",");
    let replicas = members.len().min(3);
    let min_in_sync = replicas.div_ceil(2);
    format!(
        "process.roles=broker,controller\n\
         node.id={node}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://{plain},CONTROLLER://{controller},SECURE://{secure}\n\
         advertised.listeners=PLAINTEXT://{plain},SECURE://{secure}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL\n\
         listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
         listener.name.secure.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
         listener.name.secure.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;\n\
         listener.name.secure.ssl.keystore.type=PEM\n\
         listener.name.secure.ssl.keystore.location={}\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         broker.session.timeout.ms=4000\n\
         broker.heartbeat.interval.ms=500\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={min_in_sync}\n\
         transaction.state.log.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n",
        folder.join(IDENTITY).display(),
        folder.join("data").display()
    )
}

/// The folder with the broker's jars. One process fetches them, others wait for it.
fn fetch_jars() -> io::Result<PathBuf> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| crate_folder.join("../../target"));
    std::fs::create_dir_all(&target)?;
    let (jars, complete) = (target.join("kafka"), target.join("kafka/complete"));
    let pom = std::fs::read(crate_folder.join("pom.xml"))?;
    let lock = File::create(target.join("kafka.lock"))?;
    lock.lock()?;
    if std::fs::read(&complete).is_ok_and(|made_from| made_from == pom) {
        return Ok(jars);
    }
    if jars.exists() {
        std::fs::remove_dir_all(&jars)?;
    }
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-q", "-f"]).arg(crate_folder.join("pom.xml")).arg("dependency:copy-dependencies");
    maven.arg(format!("-DoutputDirectory={}", jars.display())).stdin(Stdio::null());
    let fetched =
        maven.output().map_err(|error| io::Error::other(format!("Maven (`mvn`) is needed: {error}")))?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stdout).into_owned();
        return Err(io::Error::other(format!("Maven could not fetch Kafka's jars: {said}")));
    }
    File::create(complete)?.write_all(&pom)?;
    Ok(jars)
}
