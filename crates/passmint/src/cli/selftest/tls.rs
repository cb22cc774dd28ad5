//! Whom the self-test believes over https: the system's certificate authorities, those of a file, or
//! anybody.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Where trust comes from.
pub(super) enum Trust<'a> {
    /// The system's store.
    System,
    /// A PEM file with certificates of authorities, or the server's own.
    File(&'a Path),
    /// No certificate is checked.
    Nobody,
}

/// A connector that speaks HTTP/1.1 to whom `trust` allows.
pub(super) fn connector(trust: &Trust<'_>) -> Result<TlsConnector> {
    let provider = Arc::new(default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::System => by_authorities(system_roots()?, &provider)?,
        Trust::File(path) => Arc::new(Believer::of(path, provider.clone())?),
        Trust::Nobody => Arc::new(Believer { known: None, provider: provider.clone() }),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn by_authorities(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>> {
    let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    builder.build().context("cannot check certificates")
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        bail!("this system has no certificate authorities to trust: name some with --ca FILE");
    }
    Ok(roots)
}

/// Believes certificates that were handed to it, and asks the authorities about others; without any,
/// it believes everybody.
#[derive(Debug)]
struct Believer {
    known: Option<(Vec<CertificateDer<'static>>, Arc<WebPkiServerVerifier>)>,
    provider: Arc<CryptoProvider>,
}

impl Believer {
    /// A certificate that signed itself is often marked as an authority's, and then is no server's
    /// (RFC 5280 section 4.2.1.9); handed over by the operator, it is good as it is.
    fn of(path: &Path, provider: Arc<CryptoProvider>) -> Result<Self> {
        let what = || format!("cannot use the certificates of {}", path.display());
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(what)?;
        if certificates.is_empty() {
            bail!("{} holds no certificate", path.display());
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).with_context(what)?;
        }
        let authorities = by_authorities(roots, &provider)?;
        Ok(Self { known: Some((certificates, authorities)), provider })
    }
}

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.known {
            Some((handed_over, authorities)) if !handed_over.contains(certificate) => {
                authorities.verify_server_cert(certificate, chain, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
