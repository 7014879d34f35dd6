//! What is remembered between calls: servers, how to recognise them, tokens, and the newest checkpoint that was verified.
//!
//! One TOML file that only its owner can read: `WRIT_CONFIG`, or `writ/credentials.toml` in the folder for settings.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::{advised, usage};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Everything that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The server that is meant when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// What is known of each server, by its URL.
    #[serde(default)]
    pub servers: BTreeMap<String, Server>,
}

/// What is known of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// SHA-256 of its certificate, base64url; if absent, the certificate must be one that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Whether plain HTTP to another machine was asked for by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_http: bool,
    /// Who signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Their role at the last sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// When the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The log's key, as it was given or first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_key: Option<String>,
    /// The newest checkpoint of the log that was verified here: the next one has to continue it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// An access token. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Takes a token as the server issued it.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The token itself, for the one header that it belongs in.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

impl Server {
    /// The token, if it has not ended.
    pub fn live_token(&self, now: Timestamp) -> Option<&Token> {
        self.token.as_ref().filter(|_| self.expires_at.is_none_or(|end| end > now))
    }
}

/// Where credentials are kept.
pub fn path() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = set("WRIT_CONFIG") {
        return Ok(file);
    }
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    folder.map(|folder| folder.join("writ/credentials.toml")).ok_or_else(|| {
        advised(
            "there is no place for credentials: HOME is not set",
            "set WRIT_CONFIG to a file, or set HOME",
        )
    })
}

/// Reads what is remembered; nothing if there is no file.
pub fn load() -> Result<Credentials> {
    load_from(&path()?)
}

/// Changes what is remembered of one server. Another `writ` that does so at the same time waits.
pub fn update(url: &str, change: impl FnOnce(&mut Credentials, &mut Server)) -> Result<()> {
    update_at(&path()?, url, change)
}

/// The URL of the server that is meant, and what is known of it.
pub fn chosen(named: Option<&str>) -> Result<(String, Server)> {
    let credentials = load()?;
    let url = match named {
        Some(url) => normal_url(url)?,
        None => credentials.current.clone().ok_or_else(|| {
            advised(
                "no server is known yet",
                "sign in with `writ login --server https://HOST:8443 --admin adm_…`",
            )
        })?,
    };
    let server = credentials.servers.get(&url).cloned().unwrap_or_default();
    Ok((url, server))
}

/// A server's URL in the one form under which it is remembered.
pub fn normal_url(text: &str) -> Result<String> {
    let parsed = reqwest::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "https" | "http")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let url = parsed.ok_or_else(|| {
        usage(format!("`{text}` is not the URL of a server"), "write it as https://HOST or https://HOST:PORT")
    })?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn load_from(path: &Path) -> Result<Credentials> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mode =
        file.metadata().with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(advised(
            format!(
                "{} can be read by others (mode {:o}), and it holds tokens",
                path.display(),
                mode & 0o777
            ),
            format!("run `chmod 600 {}`, and sign in again if others use this machine", path.display()),
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    // The error of the parser would quote the line, which may be the one with the token.
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |head| head.lines().count().max(1));
        advised(
            format!("{} is damaged near line {line}: {}", path.display(), error.message()),
            "mend the line, or remove the file and sign in again",
        )
    })
}

fn update_at(path: &Path, url: &str, change: impl FnOnce(&mut Credentials, &mut Server)) -> Result<()> {
    let name = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make the folder of {name}"))?;
    }
    let lock = private(&path.with_extension("lock")).with_context(|| format!("cannot lock {name}"))?;
    lock.lock().with_context(|| format!("cannot lock {name}"))?;
    let mut credentials = load_from(path)?;
    let mut server = credentials.servers.remove(url).unwrap_or_default();
    change(&mut credentials, &mut server);
    credentials.servers.insert(url.to_owned(), server);
    let text = toml::to_string_pretty(&credentials).context("cannot write the credentials as TOML")?;
    let draft = path.with_extension("new");
    let mut file = private(&draft).with_context(|| format!("cannot write {}", draft.display()))?;
    file.set_len(0)
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {name}"))
}

fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://192.0.2.1:8443";

    #[test]
    fn what_is_written_is_read_back_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("writ/credentials.toml");
        assert_eq!(load_from(&path).unwrap(), Credentials::default());
        update_at(&path, URL, |all, server| {
            all.current = Some(URL.to_owned());
            server.token = Some(Token::new("writ-token-x".to_owned()));
            server.checkpoint = Some("origin\n1\nroot=\n\n— x y\n".to_owned());
        })
        .unwrap();
        update_at(&path, "https://b", |_, server| server.pin = Some("p".to_owned())).unwrap();
        let read = load_from(&path).unwrap();
        assert_eq!(read.servers[URL].token.as_ref().map(Token::expose), Some("writ-token-x"));
        assert_eq!((read.servers.len(), read.current.as_deref()), (2, Some(URL)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        update_at(&path, URL, |_, _| ()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_from(&path).unwrap_err().to_string().contains("644"));
    }

    #[test]
    fn a_damaged_file_is_refused_without_showing_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        private(&path).unwrap().write_all(b"current = \"a\"\n[servers.\"b\"]\ntoken = s3cret\n").unwrap();
        let error = load_from(&path).unwrap_err().to_string();
        assert!(error.contains("line 3") && !error.contains("s3cret"), "{error}");
        assert!(!format!("{:?}", Token::new("s3cret".to_owned())).contains("s3cret"));
    }

    #[test]
    fn a_token_ends() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let token = Some(Token::new("t".to_owned()));
        let server = Server { token, expires_at: Some(at("2026-03-14T10:00:00Z")), ..Server::default() };
        assert!(server.live_token(at("2026-03-14T09:59:59Z")).is_some());
        assert!(server.live_token(at("2026-03-14T10:00:00Z")).is_none());
    }

    #[test]
    fn urls_have_one_form() {
        assert_eq!(normal_url("HTTPS://Example.org/").unwrap(), "https://example.org");
        assert_eq!(normal_url("https://[::1]:8443").unwrap(), "https://[::1]:8443");
        for bad in ["example.org", "ftp://a", "https://u:p@a", "https://a/path", "https://a?x", ""] {
            assert!(normal_url(bad).is_err(), "{bad}");
        }
    }
}
