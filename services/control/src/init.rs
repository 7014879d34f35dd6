//! `writd init`: everything that a network needs before its first node, made once in an empty folder.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use writ_ledger::{FileLog, SigningKey};
use writ_schema::event::Role;
use writ_schema::keys::SecretHash;
use writ_schema::{Actor, AdminId, CommandId, NetworkId};
use zeroize::Zeroizing;

use crate::config::{Config, TlsConfig, Transport};
use crate::core::{Command, Submission};
use crate::entropy;
use crate::sequencer::{Options, Sequencer, SequencerHandle};
use crate::tls::{Identity, write_private};
use crate::vault::Vault;

/// Stands in a folder while it is being made. What is beside it is worth nothing.
const UNFINISHED: &str = "init.unfinished";

/// What the operator chooses.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// The data folder.
    pub data: PathBuf,
    /// Name of the network, a DNS label.
    pub name: String,
    /// URL under which the server is reached.
    pub url: String,
    /// Where the configuration goes; into the data folder by default.
    pub config_out: Option<PathBuf>,
    /// Where HTTP is served; by default at the URL's port.
    pub listen: Option<SocketAddr>,
    /// Where the relay is served.
    pub relay_listen: Option<SocketAddr>,
    /// The relay's address as agents see it.
    pub relay_address: Option<SocketAddr>,
    /// Certificate and key.
    pub tls: TlsConfig,
    /// Prefix of the nodes' IPv4 addresses.
    pub prefix_v4: String,
    /// Life of an authorization, in seconds.
    pub authorization_seconds: Option<u32>,
    /// Name of the first administrator.
    pub admin_name: String,
}

/// What was made. The secret is shown once and kept nowhere.
#[derive(Serialize)]
pub struct Made {
    /// The data folder.
    pub data: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// The URL.
    pub url: String,
    /// The network.
    pub network: NetworkId,
    /// Its name.
    pub name: String,
    /// Verifier key of the log.
    pub log_key: String,
    /// SHA-256 of the self-made certificate, base64url.
    pub certificate_sha256: Option<String>,
    /// The first owner.
    pub admin: AdminId,
    /// Their sign-in secret.
    pub secret: String,
}

/// The folder was made whole.
pub fn is_unfinished(data: &Path) -> bool {
    data.join(UNFINISHED).exists()
}

/// Makes a network. When it fails, nothing of it is left.
pub fn init(wishes: &Wishes) -> Result<Made> {
    let config = config_of(wishes)?;
    let config_file = wishes.config_out.clone().unwrap_or_else(|| config.data.join("writ.toml"));
    claim(&wishes.data)?;
    let made = make(wishes, &config, &config_file);
    if made.is_err() {
        // The first error is the one to tell; a second `init` would clean up as well.
        let _ = empty(&wishes.data);
    }
    made
}

/// Takes the folder for this network alone.
fn claim(data: &Path) -> Result<()> {
    let folder = || format!("cannot make the data folder {}", data.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).with_context(folder)?;
    if is_unfinished(data) {
        empty(data).with_context(|| format!("cannot clean up the unfinished {}", data.display()))?;
    }
    let is_empty = fs::read_dir(data).with_context(folder)?.next().is_none();
    ensure!(
        is_empty,
        "{} is not empty: give an empty or a new folder, or run the network that is in it with `writd run`",
        data.display()
    );
    write_private(&data.join(UNFINISHED), b"").context("cannot write into the data folder")
}

/// Removes what an unfinished `init` has left. The mark goes last.
fn empty(data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == UNFINISHED) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    fs::remove_file(data.join(UNFINISHED))
}

fn make(wishes: &Wishes, config: &Config, config_file: &Path) -> Result<Made> {
    ensure!(
        !config_file.exists(),
        "{} is there already: move it away or choose another place with --config-out",
        config_file.display()
    );
    let certificate_sha256 = match config.transport() {
        Transport::SelfMade => Some(Identity::self_made(&wishes.data, config.host())?.pin()),
        Transport::GivenCertificate { certificate, key } => {
            Identity::load(&certificate, &key)?;
            None
        }
        Transport::Plain => None,
    };
    let key = SigningKey::create(&config.log_key_file(), &origin(config.host(), &wishes.name))?;
    let log_key = key.verifier_key().to_string();
    write_private(&config.relay_secret_file(), &*Zeroizing::new(entropy::bytes::<32>()?))?;
    let vault = Vault::open(&config.vault_file())?;
    let log = FileLog::create(&config.log_dir(), Box::new(key))?;
    let (sequencer, guard) = Sequencer::start(log, vault, Options::default())?;
    let written = write_first_records(&sequencer, wishes, &log_key);
    guard.stop();
    let (network, admin, secret) = written?;
    let text = toml::to_string(&written_config(config)).context("cannot write the configuration")?;
    write_private(config_file, text.as_bytes())?;
    fs::remove_file(wishes.data.join(UNFINISHED)).context("cannot finish the data folder")?;
    Ok(Made {
        data: config.data.clone(),
        config: config_file.to_owned(),
        url: config.url.clone(),
        network,
        name: wishes.name.clone(),
        log_key,
        certificate_sha256,
        admin,
        secret,
    })
}

fn write_first_records(
    sequencer: &SequencerHandle,
    wishes: &Wishes,
    log_key: &str,
) -> Result<(NetworkId, AdminId, String)> {
    let network = NetworkId::from_bytes(entropy::bytes()?);
    let origin = log_key.split('+').next().unwrap_or_default().to_owned();
    submit(
        sequencer,
        Command::CreateNetwork {
            network: network.clone(),
            name: wishes.name.clone(),
            prefix_v4: wishes.prefix_v4.clone(),
            prefix_v6: unique_local_prefix()?,
            origin,
            log_key: log_key.to_owned(),
        },
    )?;
    let admin = AdminId::from_bytes(entropy::bytes()?);
    let secret = format!("writ-secret-{}", BASE64URL_NOPAD.encode(&entropy::bytes::<24>()?));
    submit(
        sequencer,
        Command::GrantRole {
            admin: admin.clone(),
            name: wishes.admin_name.clone(),
            role: Role::Owner,
            secret_hash: SecretHash::of(&secret),
        },
    )?;
    Ok((network, admin, secret))
}

fn submit(sequencer: &SequencerHandle, command: Command) -> Result<()> {
    let id = CommandId::from_bytes(entropy::bytes()?);
    let submission = Submission { id, actor: Actor::System, command, trace: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(sequencer.submit(submission))?;
    Ok(())
}

/// A random /48 of fd00::/8, after RFC 4193.
fn unique_local_prefix() -> Result<String> {
    let [a, b, c, d, e] = entropy::bytes()?;
    let group = |high, low| u16::from_be_bytes([high, low]);
    let address = std::net::Ipv6Addr::new(group(0xfd, a), group(b, c), group(d, e), 0, 0, 0, 0, 0);
    Ok(format!("{address}/48"))
}

/// Origin of the log: who runs it and which it is.
fn origin(host: &str, name: &str) -> String {
    let host: String = host.chars().filter(|c| !c.is_whitespace() && *c != '+').collect();
    format!("{host}/{name}")
}

fn config_of(wishes: &Wishes) -> Result<Config> {
    let data = std::path::absolute(&wishes.data).context("the data folder has no path")?;
    let mut config = Config::for_url(data, wishes.url.clone(), wishes.tls.clone());
    config.listen = match wishes.listen {
        Some(listen) => listen,
        None => default_listen(&config)?,
    };
    if let Some(listen) = wishes.relay_listen {
        config.relay_listen = listen;
    }
    config.relay_address = wishes.relay_address;
    if let Some(seconds) = wishes.authorization_seconds {
        config.authorization_seconds = seconds;
    }
    config.check()?;
    config.relay_address()?;
    Ok(config)
}

/// The URL's port, on every address of the machine; on the loopback address alone if the URL names it.
fn default_listen(config: &Config) -> Result<SocketAddr> {
    let Some(port) = config.port() else {
        bail!("url: expected https://HOST[:PORT], and a port up to 65535")
    };
    let host = config.host().parse::<IpAddr>().ok().filter(IpAddr::is_loopback);
    Ok(SocketAddr::new(host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port))
}

/// What stands in the file: what was chosen, not what is the default anyway.
#[derive(Serialize)]
struct WrittenConfig {
    data: PathBuf,
    url: String,
    listen: SocketAddr,
    relay_listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_address: Option<SocketAddr>,
    authorization_seconds: u32,
    #[serde(skip_serializing_if = "WrittenTls::is_empty")]
    tls: WrittenTls,
}

#[derive(Serialize)]
struct WrittenTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure_http: bool,
}

impl WrittenTls {
    fn is_empty(&self) -> bool {
        self.certificate.is_none() && self.key.is_none() && !self.insecure_http
    }
}

fn written_config(config: &Config) -> WrittenConfig {
    WrittenConfig {
        data: config.data.clone(),
        url: config.url.clone(),
        listen: config.listen,
        relay_listen: config.relay_listen,
        relay_address: config.relay_address,
        authorization_seconds: config.authorization_seconds,
        tls: WrittenTls {
            certificate: config.tls.certificate.clone(),
            key: config.tls.key.clone(),
            insecure_http: config.tls.insecure_http,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(data: &Path) -> Wishes {
        Wishes {
            data: data.to_owned(),
            name: "corp".to_owned(),
            url: "https://127.0.0.1:8443".to_owned(),
            config_out: None,
            listen: None,
            relay_listen: None,
            relay_address: None,
            tls: TlsConfig::default(),
            prefix_v4: "100.64.0.0/10".to_owned(),
            authorization_seconds: None,
            admin_name: "owner".to_owned(),
        }
    }

    #[test]
    fn what_is_made_can_be_loaded_and_its_keys_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let made = init(&wishes(&data)).unwrap();
        let config = Config::load(&made.config).unwrap();
        assert_eq!((config.listen.port(), config.listen.ip().is_loopback()), (8443, true));
        for file in
            [config.log_key_file(), config.relay_secret_file(), config.vault_file(), data.join("tls.key")]
        {
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", file.display());
        }
        assert!(!is_unfinished(&data));
        let log = fs::read_to_string(
            fs::read_dir(config.log_dir().join("segments")).unwrap().next().unwrap().unwrap().path(),
        );
        assert!(!log.unwrap().contains(&made.secret));
    }

    #[test]
    fn a_folder_in_use_is_refused_and_an_unfinished_one_is_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("diary"), "mine").unwrap();
        assert!(init(&wishes(folder.path())).is_err());
        assert!(folder.path().join("diary").exists());
        fs::write(folder.path().join(UNFINISHED), "").unwrap();
        init(&wishes(folder.path())).unwrap();
        assert!(!folder.path().join("diary").exists());
        assert!(init(&wishes(folder.path())).is_err());
    }

    #[test]
    fn a_bad_name_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let bad = Wishes { name: "not a label".to_owned(), ..wishes(folder.path()) };
        assert!(init(&bad).is_err());
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
