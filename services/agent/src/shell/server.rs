//! Addresses of the control plane.

use anyhow::{Context as _, Result, bail};
use reqwest::Url;

/// Where nodes join.
pub(super) fn join_url(server: &str) -> Result<String> {
    endpoint(server, "agent/v1/join").map(Into::into)
}

/// What says that it lives.
pub(super) fn health_url(server: &str) -> Result<String> {
    endpoint(server, "healthz").map(Into::into)
}

/// Where sessions are opened.
pub(super) const SESSION: &str = "agent/v1/session";
/// Where streams to the relay are opened.
pub(super) const RELAY: &str = "agent/v1/relay";

/// Where WebSockets of this kind are opened.
pub(super) fn websocket_url(server: &str, path: &str) -> Result<String> {
    let mut url = endpoint(server, path)?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    if url.set_scheme(scheme).is_err() {
        bail!("the address of the control plane cannot be used for a WebSocket");
    }
    Ok(url.into())
}

/// Where it listens: a name or an address, and the port.
pub(super) fn host_and_port(server: &str) -> Result<(String, u16)> {
    let url = endpoint(server, "")?;
    let host = url.host_str().context("the address of the control plane names no host")?;
    let port = url.port_or_known_default().context("the address of the control plane names no port")?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// Plain HTTP is taken only because the enrolment key, which came another way, names it so.
fn endpoint(server: &str, path: &str) -> Result<Url> {
    let mut url = Url::parse(server).context("the address of the control plane is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        bail!("the address of the control plane is neither http:// nor https://");
    }
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/{path}"));
    url.set_query(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_from_the_base() {
        assert_eq!(join_url("https://writ.example").unwrap(), "https://writ.example/agent/v1/join");
        let session = |server| websocket_url(server, SESSION).unwrap();
        assert_eq!(session("https://writ.example/x/"), "wss://writ.example/x/agent/v1/session");
        assert_eq!(session("http://127.0.0.1:8"), "ws://127.0.0.1:8/agent/v1/session");
        let place = |server| host_and_port(server).unwrap();
        assert_eq!(place("https://writ.example/x"), ("writ.example".to_owned(), 443));
        assert_eq!(place("https://[fd00::1]:8"), ("fd00::1".to_owned(), 8));
        assert!(join_url("ftp://writ.example").is_err() && join_url("writ.example").is_err());
    }
}
