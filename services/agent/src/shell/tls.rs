//! Whom the agent takes for its control plane: a server that a public authority vouches for, or the one certificate
//! that the enrolment key named.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use writ_tls::Pin;

/// The TLS configuration for a control plane, with its certificate's SHA-256 (base64url) if it is pinned.
pub(super) fn client_config(pin: Option<&str>) -> Result<Arc<ClientConfig>> {
    let config = match pin {
        Some(pin) => {
            let pin: Pin =
                pin.parse().context("the enrolment names no certificate that can be recognised")?;
            writ_tls::by_pin(pin).context("TLS cannot be set up")?.0
        }
        None => by_web_authority().context("TLS cannot be set up")?,
    };
    Ok(Arc::new(config))
}

/// Carries its authorities along: an endpoint need not have any installed.
fn by_web_authority() -> Result<ClientConfig, rustls::Error> {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_that_is_no_sha_256_is_refused() {
        for bad in ["", "AAAA", "not base64url!"] {
            assert!(client_config(Some(bad)).is_err(), "{bad}");
        }
        assert!(client_config(Some(&Pin::of(b"certificate").to_string())).is_ok());
        assert!(client_config(None).is_ok());
    }
}
