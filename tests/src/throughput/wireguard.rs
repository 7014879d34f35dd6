//! WireGuard programs of others, set up by their UAPI socket.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::lab::{Host, Process, wait_for};

const LIMIT: Duration = Duration::from_secs(10);
const PORT: u16 = 51820;

/// One end.
pub struct End {
    host: Host,
    program: PathBuf,
    interface: String,
    secret: StaticSecret,
    address: Ipv4Addr,
    mtu: u16,
}

impl End {
    /// An end on a host that is not started yet.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn new(
        host: &Host,
        program: &Path,
        interface: &str,
        address: Ipv4Addr,
        mtu: u16,
    ) -> anyhow::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).context("there are no random bytes")?;
        Ok(Self {
            host: host.clone(),
            program: program.to_owned(),
            interface: interface.to_owned(),
            secret: secret.into(),
            address,
            mtu,
        })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its address in the tunnel.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// Starts it with one peer.
    ///
    /// # Errors
    /// When it does not take its settings; the message has what it said.
    pub fn start(&self, peer: &Self) -> anyhow::Result<Process> {
        let socket = PathBuf::from(format!("/var/run/wireguard/{}.sock", self.interface));
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(&self.program);
        command.args(["--foreground", &self.interface]);
        let process = self.host.spawn(&command)?;
        wait_for(LIMIT, "a WireGuard program has its socket", || {
            if socket.exists() { Ok(()) } else { Err(process.stderr()) }
        })?;
        let settings = format!(
            "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint={}\nallowed_ip={}/32\n\n",
            HEXLOWER.encode(self.secret.as_bytes()),
            HEXLOWER.encode(PublicKey::from(&peer.secret).as_bytes()),
            SocketAddr::new(peer.host.address().into(), PORT),
            peer.address,
        );
        let answer = ask(&socket, &settings).with_context(|| format!("{}", socket.display()))?;
        ensure!(answer.contains("errno=0"), "{} refuses: {answer}", self.program.display());
        let (address, mtu) = (format!("{}/24", self.address), self.mtu.to_string());
        for command in [
            &["ip", "address", "add", &address, "dev", &self.interface][..],
            &["ip", "link", "set", &self.interface, "mtu", &mtu, "up"],
        ] {
            let output = self.host.exec(command)?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(process)
    }
}

fn ask(socket: &Path, settings: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(settings.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
