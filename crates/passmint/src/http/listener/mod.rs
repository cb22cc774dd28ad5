//! Accepts connections and serves a router on them, with limits (`caps`, `patience`) and an orderly end.

mod bodies;
mod caps;
mod patience;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode, Version};
use axum::response::IntoResponse as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::http::envelope::{Enveloped, Peer};
use crate::http::route::Route;
use crate::service::Settings;
use crate::telemetry::{CutReason, Metrics};

use bodies::{Lent, Rest, Watched};
use caps::Caps;
use patience::{Patient, Requests};

pub use caps::room_for_connections;
pub use tls::{Tls, TlsError};

/// The most bytes of a request head.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How many connections too many are told so at a time; further ones are merely closed.
const MOST_REFUSALS: usize = 32;
/// How much of an answer may wait in the kernel beyond what the client has room for. With the usual
/// megabytes a client that reads nothing would seem to have taken everything.
const MAX_UNSENT_BYTES: u32 = 16 * 1024;
/// How long new connections and requests are still taken after readiness went off: balancers and
/// clients that keep connections open learn of the end from an answer, not from a reset.
const LAST_ORDERS: Duration = Duration::from_millis(500);
/// How long a connection that was taken last has to send its request, before idle ones are closed.
const LAST_REQUEST: Duration = Duration::from_millis(200);
/// How long requests under way may take to be answered after that.
const DRAIN: Duration = Duration::from_secs(6);

/// What a refused connection is told where it can read it.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 36\r\nretry-after: 1\r\ncache-control: no-store\r\n\
    x-content-type-options: nosniff\r\nconnection: close\r\n\r\n\
    {\"detail\":\"Temporarily unavailable\"}";

/// A listener with what its connections are served with.
pub struct Listener {
    /// Where connections come in.
    pub socket: TcpListener,
    /// What secures them.
    pub tls: Tls,
    /// What answers them.
    pub router: Enveloped,
    /// The limits in force.
    pub settings: Settings,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until `stop` turns true, then answers what is under way.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self { socket, tls, router, settings, metrics } = self;
        // Connections inherit it.
        if let Err(error) = SockRef::from(&socket).set_tcp_notsent_lowat(MAX_UNSENT_BYTES) {
            tracing::warn!(%error, "clients that do not read their answers may not be noticed");
        }
        let caps = Caps::new(Arc::clone(&metrics));
        let refusals = Arc::new(Semaphore::new(MOST_REFUSALS));
        let doorkeeper = Doorkeeper { tls, router, settings, caps, metrics, refusals };
        let graceful = GracefulShutdown::new();
        let mut closing: Option<tokio::time::Instant> = None;
        let (mut unaccepted, mut told) = (0, None::<tokio::time::Instant>);
        loop {
            let last_orders = async {
                match closing {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => doorkeeper.take(stream, peer, &graceful),
                    Err(error) => {
                        // Out of file descriptors, most likely: wait for some to be given back.
                        unaccepted += 1;
                        if told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
                            told = Some(tokio::time::Instant::now());
                            tracing::warn!(%error, times = unaccepted, "no connection could be accepted");
                            unaccepted = 0;
                        }
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
        doorkeeper.take_the_rest(socket, &graceful);
        tokio::time::sleep(LAST_REQUEST).await;
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests were not answered in time and are cut off");
        }
    }
}

struct Doorkeeper {
    tls: Tls,
    router: Enveloped,
    settings: Settings,
    caps: Caps,
    metrics: Arc<Metrics>,
    /// Connections that are being told that there are too many.
    refusals: Arc<Semaphore>,
}

impl Doorkeeper {
    /// Takes the connections that the kernel has queued up and closes the listener: closing it first
    /// would reset them.
    fn take_the_rest(&self, listener: TcpListener, graceful: &GracefulShutdown) {
        /// More than a backlog holds.
        const MOST: usize = 8192;
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..MOST {
            let Ok((stream, peer)) = listener.accept() else { return };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.take(stream, peer, graceful);
            }
        }
    }

    /// Serves a connection on a task of its own, or refuses it.
    fn take(&self, stream: TcpStream, peer: SocketAddr, graceful: &GracefulShutdown) {
        // Without it small answers wait for the other side's delayed acknowledgement.
        drop(stream.set_nodelay(true));
        let config = self.settings.load();
        let tls = self.tls.current();
        let requests = Arc::new(Requests::new());
        let Some(counted) = self.caps.admit(peer.ip(), &config.server, &requests) else {
            self.metrics.connection_cut(CutReason::TooMany);
            // Being told takes a descriptor, too: of a flood few are.
            if tls.is_none()
                && let Ok(told) = Arc::clone(&self.refusals).try_acquire_owned()
            {
                tokio::spawn(async move {
                    refuse(stream).await;
                    drop(told);
                });
            }
            return;
        };
        let limits = config.server.limits;
        let (router, metrics) = (self.router.clone(), Arc::clone(&self.metrics));
        let watcher = graceful.watcher();
        let peer = Peer { address: peer.ip(), over_tls: tls.is_some() };
        tokio::spawn(async move {
            let cut = Arc::clone(&metrics);
            let served = async {
                let service = service(router, peer, Arc::clone(&requests));
                let Some(tls) = tls else {
                    let stream = Patient::new(stream, requests, limits, metrics);
                    return connection(stream, service, watcher).await;
                };
                let handshake = TlsAcceptor::from(tls).accept(stream);
                match tokio::time::timeout(limits.header_timeout, handshake).await {
                    Ok(Ok(stream)) => {
                        let stream = Patient::new(stream, requests, limits, metrics);
                        connection(stream, service, watcher).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => metrics.connection_cut(CutReason::Head),
                }
            };
            tokio::select! {
                () = served => {}
                () = counted.must_close() => cut.connection_cut(CutReason::TooMany),
            }
        });
    }
}

/// Tells a client that there are too many, if it listens at once.
async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(TOO_MANY).await?;
        stream.shutdown().await
    };
    drop(tokio::time::timeout(Duration::from_secs(1), told).await);
}

async fn connection<S, H>(stream: S, service: H, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: hyper::service::Service<
            Incoming,
            Response = axum::response::Response,
            Error = std::convert::Infallible,
            Future: Send,
        > + Send
        + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The stream itself has deadlines, so that hyper needs none.
    builder.http1().header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 * 1024)
        // What one connection may have in memory: a window not looked at yet, and a body for each stream.
        .initial_connection_window_size(64 * 1024)
        .initial_stream_window_size(32 * 1024)
        .max_concurrent_streams(32)
        .max_send_buf_size(64 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%error, "connection ended early");
    }
}

type Incoming = hyper::Request<hyper::body::Incoming>;

/// The router as hyper's service. Each request is told who the peer is, and counts as under way until
/// its answer is there.
fn service(
    router: Enveloped,
    peer: Peer,
    requests: Arc<Requests>,
) -> impl hyper::service::Service<
    Incoming,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> + Send
+ 'static {
    hyper::service::service_fn(move |request: Incoming| {
        let under_way = requests.begin();
        let http2 = request.version() == Version::HTTP_2;
        let (parts, body) = request.into_parts();
        let (body, rest) = if http2 || body.is_end_stream() {
            (Body::new(body), Rest::default())
        } else {
            let (lent, rest) = Lent::new(body);
            (Body::new(lent), rest)
        };
        let (router, requests) = (router.clone(), Arc::clone(&requests));
        async move {
            // A client that leaves long answers untaken gets no further ones: they would fill the memory.
            let room = if http2 && Route::of(parts.uri.path()).answers_lists() {
                let Some(room) = requests.room_for_list().await else {
                    return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
                };
                Some(room)
            } else {
                None
            };
            let request = hyper::Request::from_parts(parts, body);
            let mut answer = router.answer(peer, request).await;
            if !rest.drain().await {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(under_way);
            Ok(if http2 {
                answer.map(|body| Body::new(Watched::new(body, &requests, room)))
            } else {
                answer
            })
        }
    })
}
