//! An HTTP client on a host of the lab.

use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::lab::Host;

/// Nothing here answers slower.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks one server from one host. It does not check the certificate: what it fetches is checked by other means, or is
/// public.
#[derive(Debug, Clone)]
pub struct Web {
    host: Host,
    client: reqwest::Client,
    base: String,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Web {
    /// A client for the server at `base`, as seen from `host`.
    ///
    /// # Errors
    /// When the system does not allow one.
    pub fn new(host: &Host, base: impl Into<String>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(LIMIT)
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .pool_max_idle_per_host(0)
            .build()
            .context("no HTTP client can be made")?;
        Ok(Self { host: host.clone(), client, base: base.into() })
    }

    /// Gets a page.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> anyhow::Result<Page> {
        self.send(self.client.get(format!("{}{path}", self.base)))
    }

    /// Posts a body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Page> {
        let mut request = self.client.post(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.send(request.header("content-type", "application/json").body(body))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Page> {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let answer = request.send().await?;
                let status = answer.status().as_u16();
                Ok::<_, anyhow::Error>(Page { status, body: answer.text().await? })
            })
        };
        self.host.inside(work)?.map_err(|error| anyhow!("{error:#}"))
    }
}
