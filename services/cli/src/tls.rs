//! How a server is recognised: by the authorities that the system trusts, or by one certificate and no other.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use data_encoding::BASE64URL_NOPAD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};

/// SHA-256 of a certificate's DER, written in base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            "a pin is the SHA-256 of the server's certificate in base64url: 43 characters".to_owned()
        })
    }
}

/// Remembers the certificate that was shown instead of the pinned one.
#[derive(Debug, Clone, Default)]
pub struct Stranger(Arc<OnceLock<Pin>>);

impl Stranger {
    /// The pin of the wrong certificate, if one was shown.
    pub fn seen(&self) -> Option<Pin> {
        self.0.get().copied()
    }
}

/// TLS that accepts the certificates that the system trusts.
pub fn by_authority() -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}

/// TLS that accepts the pinned certificate only.
pub fn by_pin(pin: Pin) -> Result<(ClientConfig, Stranger), Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let stranger = Stranger::default();
    let verifier = Arc::new(PinVerifier { pin, stranger: stranger.clone(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok((config, stranger))
}

#[derive(Debug)]
struct PinVerifier {
    pin: Pin,
    stranger: Stranger,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Pin::of(end_entity);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        // Only the first stranger is reported.
        let _ = self.stranger.0.set(shown);
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    // A certificate is public: only these signatures show that the server holds its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_as_it_is_written() {
        let pin = Pin::of(b"certificate");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(format!("{pin}=").parse(), Ok(pin));
        for bad in ["", "abc", &"A".repeat(44)] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
    }
}
