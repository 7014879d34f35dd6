//! Whom the agent takes for its control plane: a server that a public authority vouches for, or the one certificate
//! that the enrolment key named.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// The TLS configuration for a control plane, with its certificate's SHA-256 (base64url) if it is pinned.
pub(super) fn client_config(pin: Option<&str>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?;
    let config = match pin {
        Some(pin) => {
            let digest =
                BASE64URL_NOPAD.decode(pin.as_bytes()).context("the certificate pin is not base64url")?;
            ensure!(digest.len() == 32, "the certificate pin is not a SHA-256");
            let verifier = Arc::new(Pinned { digest, provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        None => {
            let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(Arc::new(config))
}

/// Accepts exactly one certificate. That the server holds its key is checked as always.
#[derive(Debug)]
struct Pinned {
    digest: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Sha256::digest(end_entity.as_ref()).as_slice() == self.digest {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("the server's certificate is not the one that the enrolment key names".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_accepts_one_certificate_and_no_other() {
        let (named, other) = (CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![1, 2, 4]));
        let digest = Sha256::digest(named.as_ref()).to_vec();
        let verifier = Pinned { digest, provider: Arc::new(aws_lc_rs::default_provider()) };
        let name = ServerName::try_from("writ.example").unwrap();
        let verdict = |cert| verifier.verify_server_cert(cert, &[], &name, &[], UnixTime::now());
        assert!(verdict(&named).is_ok());
        assert!(verdict(&other).is_err());
    }

    #[test]
    fn a_pin_that_is_no_sha_256_is_refused() {
        for bad in ["", "AAAA", "not base64url!"] {
            assert!(client_config(Some(bad)).is_err(), "{bad}");
        }
        assert!(client_config(None).is_ok());
    }
}
