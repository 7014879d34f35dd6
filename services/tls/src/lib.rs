//! How clients recognise a control plane: by the authorities that the system trusts, or by one certificate and no other.

mod pin;
mod verifier;

pub use pin::{Pin, PinError};
pub use verifier::{Stranger, by_authority, by_pin};

/// Whether nobody on the way can read what is sent to a URL: it is TLS, or stays on this machine.
pub fn is_private(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    let stays_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && stays_here)
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn what_is_secret_goes_over_tls_or_stays_on_this_machine() {
        for url in ["https://writ.example", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://writ.example", "http://192.0.2.1", "ftp://127.0.0.1", "writ.example", "localhost"]
        {
            assert!(!is_private(url), "{url}");
        }
    }
}
