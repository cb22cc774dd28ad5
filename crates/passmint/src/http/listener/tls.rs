//! The TLS side of a listener; its certificate can be exchanged while it runs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{self, ServerConfig};

/// What new connections are secured with; nothing: they are plain.
#[derive(Clone, Default)]
pub struct Tls(Arc<ArcSwapOption<ServerConfig>>);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {0}: {1}")]
    Pem(String, rustls_pki_types::pem::Error),
    /// The library refused.
    #[error("the certificate and key do not work: {0}")]
    Refused(#[from] rustls::Error),
}

impl Tls {
    /// Takes certificate chain and key from PEM files, for all connections from now on.
    pub fn load(&self, cert: &Path, key: &Path) -> Result<(), TlsError> {
        let wrong = |path: &Path| {
            let path = path.display().to_string();
            move |error| TlsError::Pem(path, error)
        };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(wrong(cert))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.0.store(Some(Arc::new(config)));
        Ok(())
    }

    /// What counts now.
    pub(super) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.0.load_full()
    }
}
