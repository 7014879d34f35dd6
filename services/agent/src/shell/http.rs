//! Plain HTTP requests to the control plane.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::tls;

/// A client that believes only the control plane's certificate. It follows nobody elsewhere.
pub(super) fn client(pin: Option<&str>, timeout: Duration) -> Result<reqwest::Client> {
    let config = tls::client_config(pin)?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(Arc::unwrap_or_clone(config))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("the HTTP client cannot be made")
}
