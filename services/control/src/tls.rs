//! TLS: a given certificate, or one that the server makes once, keeps, and has pinned by every enrolment key.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use writ_tls::Pin;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM of what it should hold.
    #[error("{path} holds no PEM {what}: {problem}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit together.
    #[error("the certificate and its key cannot be used")]
    Rustls(#[from] rustls::Error),
}

/// A server identity: what to serve with, and how to recognise it.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a certificate chain and its key from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = |path: &Path, what, error: rustls_pki_types::pem::Error| match error {
            rustls_pki_types::pem::Error::Io(source) => TlsError::File { path: path.to_owned(), source },
            other => TlsError::Pem { path: path.to_owned(), what, problem: other.to_string() },
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|error| pem(certificate, "certificate", error))?;
        if chain.is_empty() {
            let problem = "there is none".to_owned();
            return Err(TlsError::Pem { path: certificate.to_owned(), what: "certificate", problem });
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, "private key", error))?;
        Ok(Self { chain, key })
    }

    /// The self-made certificate of this folder (`tls.crt`, `tls.key`), made now if there is none.
    pub fn self_made(folder: &Path, host: &str) -> Result<Self, TlsError> {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        if !certificate.exists() {
            make(&certificate, &key, host)?;
        }
        Self::load(&certificate, &key)
    }

    /// What an enrolment key pins: the leaf certificate.
    pub fn pin(&self) -> String {
        Pin::of(self.chain.first().map(AsRef::as_ref).unwrap_or_default()).to_string()
    }

    /// The rustls configuration. HTTP/1.1 only.
    pub fn server_config(self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn make(certificate: &Path, key: &Path, host: &str) -> Result<(), TlsError> {
    let pair = rcgen::KeyPair::generate()?;
    let mut names = vec![host.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    names.dedup();
    let mut parameters = rcgen::CertificateParams::new(names)?;
    // Pinned by its digest, not by its dates: agents go on trusting it until the operator replaces it.
    parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
    let common_name = if host.parse::<IpAddr>().is_ok() { "writ control plane" } else { host };
    parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    let made = parameters.self_signed(&pair)?;
    // The key first: a certificate without its key would never be replaced.
    write_private(key, pair.serialize_pem().as_bytes())?;
    write_private(certificate, made.pem().as_bytes())
}

/// Writes a file that only its owner can read, durably and whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    let file_error = |source| TlsError::File { path: path.to_owned(), source };
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(file_error)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(file_error)?;
    fs::rename(&draft, path).map_err(file_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_made_certificate_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::self_made(folder.path(), "192.0.2.1").unwrap();
        let second = Identity::self_made(folder.path(), "192.0.2.1").unwrap();
        assert_eq!(first.pin(), second.pin());
        assert!(first.server_config().is_ok());
    }

    #[test]
    fn the_private_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        Identity::self_made(folder.path(), "writ.example").unwrap();
        let mode = fs::metadata(folder.path().join("tls.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        fs::write(&path, "hello").unwrap();
        let error = Identity::load(&path, &path).unwrap_err().to_string();
        assert!(error.contains("x.pem") && error.contains("certificate"), "{error}");
    }
}
