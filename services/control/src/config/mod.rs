//! Configuration: one TOML file, every value with a safe default, overridden by `WRIT_…` in the environment.

mod error;
mod log;
mod log_key;
mod stun;
mod witness;

pub use error::ConfigError;
pub use log::{KafkaConfig, LogConfig, Store};
pub use log_key::LogKeyConfig;
pub use stun::{STUN_PORTS, StunConfig};
pub use witness::{Panel, Witness, WitnessEntry};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use writ_ledger::store::COSIGNED;

use error::MAX_CONFIG_BYTES;

/// How `writd` runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder with everything that lasts: log, vault, views, keys.
    pub data: PathBuf,
    /// URL under which agents and people reach this server; it is written into enrolment keys.
    pub url: String,
    /// Where HTTP is served.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where relay and STUN are served (UDP).
    #[serde(default = "default_relay_listen")]
    pub relay_listen: SocketAddr,
    /// The relay's address as agents see it. By default the host of `url` and the port of `relay_listen`.
    #[serde(default)]
    pub relay_address: Option<SocketAddr>,
    /// Where STUN is answered besides.
    #[serde(default)]
    pub stun: StunConfig,
    /// TLS. Without it, a self-made certificate is used, which enrolment keys pin.
    #[serde(default)]
    pub tls: TlsConfig,
    /// How the log is kept.
    #[serde(default)]
    pub log: LogConfig,
    /// Life of an authorization, in seconds.
    #[serde(default = "default_authorization_seconds")]
    pub authorization_seconds: u32,
    /// Where the log's signing key is.
    #[serde(default)]
    pub log_key: LogKeyConfig,
    /// Witnesses that are asked to cosign the log's checkpoints.
    #[serde(default)]
    pub witness: Vec<WitnessEntry>,
    /// How many of them have to cosign what is published. By default more than half.
    #[serde(default)]
    pub witness_quorum: Option<usize>,
    /// OTLP/HTTP endpoint for traces.
    #[serde(default)]
    pub otlp_endpoint: Option<String>,
    /// Structured logs as JSON instead of text.
    #[serde(default)]
    pub log_json: bool,
}

/// How HTTP is protected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Plain HTTP on an address that others can reach. Only behind a proxy that adds TLS.
    #[serde(default)]
    pub insecure_http: bool,
}

impl TlsConfig {
    /// Whether nothing was said about TLS.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// What the server speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TLS with a given certificate.
    GivenCertificate {
        /// PEM file of the chain.
        certificate: PathBuf,
        /// PEM file of the private key.
        key: PathBuf,
    },
    /// TLS with a certificate that the server makes and keeps; enrolment keys pin it.
    SelfMade,
    /// No TLS.
    Plain,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443))
}

fn default_relay_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3478))
}

fn default_authorization_seconds() -> u32 {
    // The constant is small and positive.
    u32::try_from(writ_schema::protocol::AUTHORIZATION_SECONDS).unwrap_or(u32::MAX)
}

impl Config {
    /// Reads a file and the environment.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        config.apply(|name| std::env::var(name).ok())?;
        config.check()?;
        Ok(config)
    }

    /// The configuration of a new data folder.
    pub(crate) fn for_url(data: PathBuf, url: String, tls: TlsConfig) -> Self {
        Self {
            data,
            url,
            listen: default_listen(),
            relay_listen: default_relay_listen(),
            relay_address: None,
            stun: StunConfig::default(),
            tls,
            log: LogConfig::default(),
            authorization_seconds: default_authorization_seconds(),
            log_key: LogKeyConfig::default(),
            witness: Vec::new(),
            witness_quorum: None,
            otlp_endpoint: None,
            log_json: false,
        }
    }

    fn apply(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        if let Some(url) = variable("WRIT_URL") {
            self.url = url;
        }
        if let Some(data) = variable("WRIT_DATA") {
            self.data = data.into();
        }
        if let Some(endpoint) = variable("WRIT_OTLP_ENDPOINT") {
            self.otlp_endpoint = Some(endpoint);
        }
        let address = |key: &'static str, text: String| {
            text.parse()
                .map_err(|_| ConfigError::Value { key, problem: format!("`{text}` is not ADDRESS:PORT") })
        };
        if let Some(text) = variable("WRIT_LISTEN") {
            self.listen = address("WRIT_LISTEN", text)?;
        }
        if let Some(text) = variable("WRIT_RELAY_LISTEN") {
            self.relay_listen = address("WRIT_RELAY_LISTEN", text)?;
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let value = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        if !(self.url.starts_with("https://") || self.url.starts_with("http://")) {
            return value("url", "expected https://HOST[:PORT]");
        }
        if !(10..=86_400).contains(&self.authorization_seconds) {
            return value("authorization_seconds", "expected 10 to 86400");
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return value("tls", "`certificate` and `key` belong together: give both or neither");
        }
        let plain = self.url.starts_with("http://");
        if plain && !self.listen.ip().is_loopback() && !self.tls.insecure_http {
            return value(
                "url",
                "plain HTTP is served on a loopback address only; use https://, or set `tls.insecure_http = true` \
                 if a proxy in front adds TLS",
            );
        }
        if let Some(problem) = self.stun.problem() {
            return value("stun", &problem);
        }
        self.log.check()?;
        self.log_key.check()?;
        self.panel().map(|_| ())
    }

    /// The witnesses that are asked to cosign.
    pub fn panel(&self) -> Result<Panel, ConfigError> {
        Panel::read(&self.witness, self.witness_quorum)
    }

    /// What the server speaks.
    pub fn transport(&self) -> Transport {
        match (&self.tls.certificate, &self.tls.key) {
            (Some(certificate), Some(key)) => {
                Transport::GivenCertificate { certificate: certificate.clone(), key: key.clone() }
            }
            _ if self.tls.insecure_http || self.url.starts_with("http://") => Transport::Plain,
            _ => Transport::SelfMade,
        }
    }

    /// Host of the URL, without port or brackets.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((v6, _)) => v6,
            None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
        }
    }

    /// Port of the URL: given, or the one of its scheme.
    pub fn port(&self) -> Option<u16> {
        let (scheme, rest) = self.url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        match after_host.rsplit_once(':') {
            Some((_, port)) => port.parse().ok(),
            None => Some(if scheme == "http" { 80 } else { 443 }),
        }
    }

    /// The relay's address as agents see it: given, or the host of the URL if that is an address.
    pub fn relay_address(&self) -> Result<SocketAddr, ConfigError> {
        if let Some(address) = self.relay_address {
            return Ok(address);
        }
        let host: IpAddr = self.host().parse().map_err(|_| ConfigError::Value {
            key: "relay_address",
            problem: format!("`{}` is a name; give the relay's public ADDRESS:PORT", self.host()),
        })?;
        Ok(SocketAddr::new(host, self.relay_listen.port()))
    }

    /// Life of an authorization.
    pub fn authorization_life(&self) -> Duration {
        Duration::from_secs(self.authorization_seconds.into())
    }

    /// Folder of the log, or of its copy.
    pub fn log_dir(&self) -> PathBuf {
        self.data.join("log")
    }

    /// File of the vault.
    pub fn vault_file(&self) -> PathBuf {
        self.data.join("vault.db")
    }

    /// File of the views.
    pub fn views_file(&self) -> PathBuf {
        self.data.join("views.db")
    }

    /// File of the newest checkpoint that witnesses have cosigned.
    pub fn cosigned_file(&self) -> PathBuf {
        self.log_dir().join(COSIGNED)
    }

    /// File of the log's signing key, unless an ssh-agent holds it.
    pub fn log_key_file(&self) -> PathBuf {
        self.log_key.file.clone().unwrap_or_else(|| self.data.join("log.key"))
    }

    /// File of the log's next signing key, while it is prepared or being changed to.
    pub fn next_log_key_file(&self) -> PathBuf {
        let mut file = self.log_key_file().into_os_string();
        file.push(".next");
        file.into()
    }

    /// File of the secret that relay keys follow from.
    pub fn relay_secret_file(&self) -> PathBuf {
        self.data.join("relay.key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn two_lines_are_enough_and_safe() {
        let config = parse("data = '/var/lib/writ'\nurl = 'https://192.0.2.1:8443'").unwrap();
        assert_eq!(config.transport(), Transport::SelfMade);
        assert_eq!(config.relay_address().unwrap(), "192.0.2.1:3478".parse().unwrap());
    }

    #[test]
    fn stun_servers_that_agents_would_not_ask_are_refused() {
        let config = |servers: &str| {
            parse(&format!("data = 'd'\nurl = 'https://192.0.2.1:8443'\n[stun]\nservers = [{servers}]"))
        };
        assert_eq!(config("'198.51.100.7:3478'").unwrap().stun.servers.len(), 1);
        let problem = config(&"'198.51.100.7:3478',".repeat(6)).unwrap_err();
        assert!(problem.contains("stun") && problem.contains("name fewer"), "{problem}");
    }

    #[test]
    fn plain_http_on_a_public_address_must_be_asked_for_by_name() {
        let public = "data = 'd'\nurl = 'http://192.0.2.1:80'\nlisten = '192.0.2.1:80'\n";
        assert!(parse(public).unwrap_err().contains("loopback"));
        assert_eq!(
            parse(&format!("{public}tls.insecure_http = true")).unwrap().transport(),
            Transport::Plain
        );
        let local = "data = 'd'\nurl = 'http://127.0.0.1:80'\nlisten = '127.0.0.1:80'";
        assert_eq!(parse(local).unwrap().transport(), Transport::Plain);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("data = 'd'\nurl = 'https://a'\nlissten = '1.2.3.4:5'").unwrap_err();
        assert!(error.contains("lissten"), "{error}");
    }

    #[test]
    fn the_host_of_a_url_is_found() {
        for (url, host) in [
            ("https://a.example", "a.example"),
            ("https://[::1]:8/x", "::1"),
            ("http://1.2.3.4:5", "1.2.3.4"),
        ] {
            let config = Config { url: url.to_owned(), ..parse("data='d'\nurl='https://a'").unwrap() };
            assert_eq!(config.host(), host);
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let mut config = parse("data = 'd'\nurl = 'https://a'").unwrap();
        config.apply(|name| (name == "WRIT_LISTEN").then(|| "127.0.0.1:9".to_owned())).unwrap();
        assert_eq!(config.listen.port(), 9);
        assert!(config.apply(|_| Some("nonsense".to_owned())).is_err());
    }
}
