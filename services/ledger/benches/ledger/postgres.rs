//! The same rows inserted into PostgreSQL: a server of its own from the installed binaries, as it is configured by default.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::append::{BATCHES, Rates};
use crate::events::Events;
use crate::{Timing, figure};

/// Commits per batch size: far fewer than for the log, for they take longer.
const COMMITS: usize = 300;

pub fn run(folder: &Path, log: &Rates) {
    let Some(server) = Server::start(&folder.join("postgres")) else {
        println!("postgres: skipped, no server binaries in /usr/lib/postgresql");
        return;
    };
    let mut client = server.client();
    client.batch_execute("CREATE TABLE records (seq bigint PRIMARY KEY, record text NOT NULL)").unwrap();
    let mut next = 0_i64;
    for (batch, _) in BATCHES {
        let mut events = Events::new(batch as u64);
        let rows: Vec<(Vec<i64>, Vec<String>)> = (0..COMMITS)
            .map(|_| {
                let records =
                    events.batch(batch).into_iter().map(|record| String::from_utf8(record).unwrap());
                let first = next;
                next += batch as i64;
                ((first..next).collect(), records.collect())
            })
            .collect();
        // One statement for the whole batch: the fastest way there is, short of COPY.
        let insert =
            client.prepare("INSERT INTO records SELECT * FROM unnest($1::bigint[], $2::text[])").unwrap();
        let timing = Timing::of(COMMITS, |at| {
            client.execute(&insert, &[&rows[at].0, &rows[at].1]).unwrap();
        });
        let name = |what: &str| format!("append.{batch}.{what}");
        figure(&name("postgres.rate"), timing.per_second(batch), "records/s");
        figure(&name("postgres.p50"), timing.percentile(50), "us");
        figure(&name("postgres.p99"), timing.percentile(99), "us");
        if let Some((_, rate)) = log.0.iter().find(|(of, _)| *of == batch) {
            figure(&name("rate_to_postgres"), rate / timing.per_second(batch), "x");
        }
    }
}

/// A server that listens on a socket in its own folder. Stopped when dropped.
struct Server {
    folder: PathBuf,
    process: Child,
}

impl Server {
    fn start(folder: &Path) -> Option<Self> {
        let binaries = binaries()?;
        std::fs::create_dir(folder).unwrap();
        let data = folder.join("data");
        own(folder);
        let made = as_user(&binaries.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=bench", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        let process = as_user(&binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c"])
            .arg(format!("unix_socket_directories={}", folder.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { folder: folder.to_owned(), process })
    }

    fn client(&self) -> Client {
        let settings = format!("host={} user=bench dbname=postgres", self.folder.display());
        for _ in 0..100 {
            if let Ok(client) = Client::connect(&settings, NoTls) {
                return client;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("PostgreSQL does not answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The newest version that is installed.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .max()
}

/// PostgreSQL refuses to run as root; then it runs as `nobody`.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

fn own(folder: &Path) {
    if is_root() {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        // The way to it must be open to that user.
        for above in folder.ancestors().skip(1).take(1) {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(above, open).unwrap();
        }
    }
}

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}
