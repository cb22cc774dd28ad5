//! Accepts connections and serves a router on them, with deadlines and an orderly end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{self, ServerConfig};

/// How long a client may take to begin, to send a request head, or between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The most bytes of a request head.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How long new connections and requests are still taken after readiness went off: balancers and
/// clients that keep connections open learn of the end from an answer, not from a reset.
const LAST_ORDERS: Duration = Duration::from_millis(500);
/// How long a connection that was taken last has to send its request, before idle ones are closed.
const LAST_REQUEST: Duration = Duration::from_millis(200);
/// How long requests under way may take to be answered after that.
const DRAIN: Duration = Duration::from_secs(9);

/// The TLS side of a listener; its certificate can be exchanged while it runs.
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
}

/// Serves `router` on `listener` until `stop` turns true, then answers what is under way.
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut closing: Option<tokio::time::Instant> = None;
    loop {
        let last_orders = async {
            match closing {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    spawn(stream, peer, &tls, router.clone(), &graceful);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be given back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            changed = stop.changed(), if closing.is_none() => {
                if changed.is_err() || *stop.borrow() {
                    closing = Some(tokio::time::Instant::now() + LAST_ORDERS);
                }
            }
            () = last_orders => break,
        }
    }
    take_the_rest(listener, &tls, &router, &graceful);
    tokio::time::sleep(LAST_REQUEST).await;
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were not answered in time and are cut off");
    }
}

/// Takes the connections that the kernel has queued up and closes the listener: closing it first
/// would reset them.
fn take_the_rest(listener: TcpListener, tls: &Tls, router: &Router, graceful: &GracefulShutdown) {
    /// More than a backlog holds.
    const MOST: usize = 8192;
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..MOST {
        let Ok((stream, peer)) = listener.accept() else { return };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            spawn(stream, peer, tls, router.clone(), graceful);
        }
    }
}

fn spawn(
    stream: TcpStream,
    peer: SocketAddr,
    tls: &Tls,
    router: Router,
    graceful: &GracefulShutdown,
) {
    // Without it small answers wait for the other side's delayed acknowledgement.
    drop(stream.set_nodelay(true));
    let watcher = graceful.watcher();
    let config = tls.0.load_full();
    tokio::spawn(async move {
        // The protocol is told apart by the first bytes, and that has no deadline of its own.
        let mut first = [0];
        let began = tokio::time::timeout(HEAD_DEADLINE, stream.peek(&mut first)).await;
        if !matches!(began, Ok(Ok(1..))) {
            return;
        }
        let Some(config) = config else {
            return connection(stream, peer, router, watcher).await;
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => connection(stream, peer, router, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    });
}

async fn connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = tower_service(router, peer);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 * 1024)
        .max_concurrent_streams(100)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%error, "connection ended early");
    }
}

type Requests = hyper::Request<hyper::body::Incoming>;

/// The router as hyper's service, each request told who the peer is.
fn tower_service(
    router: Router,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    Requests,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone {
    let service = TowerToHyperService::new(router);
    hyper::service::service_fn(move |mut request: Requests| {
        request.extensions_mut().insert(ConnectInfo(peer));
        hyper::service::Service::call(&service, request.map(axum::body::Body::new))
    })
}
