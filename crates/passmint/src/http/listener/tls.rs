//! The TLS side of a listener; its certificate can be exchanged while it runs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{self, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::domain::time::Timestamp;

/// What new connections are secured with; nothing: they are plain.
#[derive(Clone, Default)]
pub struct Tls(Arc<ArcSwapOption<ServerConfig>>);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate where one should be.
    #[error("server.tls_cert: {0} {1}")]
    Certificate(String, Unread),
    /// No private key where one should be.
    #[error("server.tls_key: {0} {1}")]
    Key(String, Unread),
    /// One is not the other's.
    #[error("server.tls_key: {0} does not belong to the certificate of server.tls_cert, {1}")]
    NotAPair(String, String),
    /// The library refused.
    #[error("server.tls_cert, server.tls_key: the certificate and key do not work: {0}")]
    Refused(rustls::Error),
}

/// Why a PEM file gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// Nothing of that kind is in it.
    #[error("holds no {0} in PEM")]
    Missing(&'static str),
    /// As it says.
    #[error("cannot be read: {0}")]
    Unreadable(rustls_pki_types::pem::Error),
    /// Its certificate is none.
    #[error("holds a certificate that does not say until when it is valid")]
    NoValidity,
}

impl Unread {
    fn of(error: rustls_pki_types::pem::Error, wanted: &'static str) -> Self {
        match error {
            rustls_pki_types::pem::Error::NoItemsFound => Self::Missing(wanted),
            error => Self::Unreadable(error),
        }
    }
}

impl Tls {
    /// Takes certificate chain and key from PEM files, for all connections from now on. Until when the
    /// certificate is valid.
    pub fn load(&self, cert: &Path, key: &Path) -> Result<Timestamp, TlsError> {
        let (cert_path, key_path) = (cert.display().to_string(), key.display().to_string());
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| Unread::of(error, "certificate"))
            .and_then(|chain| {
                if chain.is_empty() { Err(Unread::Missing("certificate")) } else { Ok(chain) }
            })
            .map_err(|why| TlsError::Certificate(cert_path.clone(), why))?;
        let until = valid_until(&chain)
            .ok_or_else(|| TlsError::Certificate(cert_path.clone(), Unread::NoValidity))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TlsError::Key(key_path.clone(), Unread::of(error, "private key")))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::NotAPair(key_path, cert_path),
                error => TlsError::Refused(error),
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.0.store(Some(Arc::new(config)));
        Ok(until)
    }

    /// What counts now.
    pub(super) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.0.load_full()
    }
}

/// `notAfter` of the server's own certificate (RFC 5280 section 4.1.2.5), the first of the chain.
fn valid_until(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let own = Certificate::from_der(chain.first()?).ok()?;
    let seconds = own.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    Some(Timestamp::from_micros(i64::try_from(seconds).ok()?.saturating_mul(1_000_000)))
}
