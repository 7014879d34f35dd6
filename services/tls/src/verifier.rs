//! TLS configurations of clients, and the verifier that knows one certificate.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::Pin;

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
///
/// # Errors
/// When the system has no certificates of authorities.
pub fn by_authority() -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}

/// TLS that accepts the pinned certificate only, whatever names and dates stand in it.
///
/// # Errors
/// When TLS cannot be set up at all.
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
        Err(Error::General(format!(
            "the server shows the certificate {shown}, not the pinned one, {}",
            self.pin
        )))
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
    fn a_pin_accepts_one_certificate_and_the_first_stranger_is_remembered() {
        let [named, other, third] = [3, 4, 5].map(|byte| CertificateDer::from(vec![1, 2, byte]));
        let (pin, stranger) = (Pin::of(&named), Stranger::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = PinVerifier { pin, stranger: stranger.clone(), provider };
        let name = ServerName::try_from("writ.example").unwrap();
        let verdict =
            |certificate| verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now());
        assert!(verdict(&named).is_ok());
        assert_eq!(stranger.seen(), None);
        let refusal = verdict(&other).unwrap_err().to_string();
        assert!(
            refusal.contains(&Pin::of(&other).to_string()) && refusal.contains(&pin.to_string()),
            "{refusal}"
        );
        assert!(verdict(&third).is_err());
        assert_eq!(stranger.seen(), Some(Pin::of(&other)));
    }
}
