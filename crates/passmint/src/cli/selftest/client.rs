//! The self-test's HTTP client: HTTP/1.1 over TCP or TLS, by hyper's handshake on one connection.
//!
//! It adds nothing that an attack did not ask for but `Host` and the framing, follows no redirect,
//! leaves paths as they are written, and sends a header twice when told so.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::Error;

use super::target::Target;

/// How long making a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long an answer may take, to the end of its body.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Longer answers are cut off as trouble.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// Nobody that is trusted vouches for the server.
    #[error(
        "its certificate is not trusted here ({0}): give the authority's file, or the server's own certificate, \
         with --ca, or do not check it with --insecure"
    )]
    Untrusted(String),
    /// The connection broke, or what came was no HTTP.
    #[error("no answer: {0}")]
    Broken(String),
    /// [`ANSWER_DEADLINE`].
    #[error("no answer within 30 s")]
    Late,
    /// HTTP cannot carry it.
    #[error("HTTP cannot carry this request: {0}")]
    Unsendable(String),
}

/// A request as an attack words it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

/// A GET of that path, which begins with a slash.
pub(super) fn get(path: impl Into<String>) -> Request {
    request(Method::GET, path)
}

/// A POST to that path.
pub(super) fn post(path: impl Into<String>) -> Request {
    request(Method::POST, path)
}

/// A request of any method.
pub(super) fn request(method: Method, path: impl Into<String>) -> Request {
    Request { method, path: path.into(), headers: Vec::new(), body: Vec::new() }
}

impl Request {
    /// One more header; one of the same name stays.
    pub(super) fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    /// An access token in its place.
    pub(super) fn jwt(self, token: &str) -> Self {
        self.header("authorization", format!("JWT {token}"))
    }

    /// A body of that media type.
    pub(super) fn body(mut self, kind: &'static str, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self.header("content-type", kind)
    }

    /// A JSON body.
    pub(super) fn json(self, body: &serde_json::Value) -> Self {
        self.body("application/json", body.to_string())
    }

    fn to_hyper(&self, target: &Target) -> Result<hyper::Request<Full<Bytes>>, Trouble> {
        let unsendable = |what: &str| Trouble::Unsendable(what.to_owned());
        let path = format!("{}{}", target.prefix, self.path);
        let mut made = hyper::Request::new(Full::new(Bytes::from(self.body.clone())));
        *made.method_mut() = self.method.clone();
        *made.uri_mut() = Uri::try_from(path).map_err(|_| unsendable("its path"))?;
        let headers = made.headers_mut();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value).map_err(|_| unsendable(name))?;
            headers.append(HeaderName::from_static(name), value);
        }
        if !headers.contains_key(HOST) {
            let host = HeaderValue::from_str(&target.authority).map_err(|_| unsendable("host"))?;
            headers.insert(HOST, host);
        }
        Ok(made)
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// All headers.
    pub(super) headers: HeaderMap,
    /// The body; what is not UTF-8 is replaced.
    pub(super) body: String,
    /// From the request's first byte to the answer's last.
    pub(super) took: Duration,
}

impl Answer {
    /// The first value of a header, as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the server asks to stay away, when it refuses for now (429, 503).
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        matches!(self.status, 429 | 503).then(|| Duration::from_secs(seconds))
    }

    /// A text member of a JSON body.
    pub(super) fn text(&self, member: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        body.get(member)?.as_str().map(str::to_owned)
    }
}

/// One connection, for one request after the other.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Waits until the connection can take a request; false when the server has closed it.
    pub(super) async fn is_open(&mut self) -> bool {
        matches!(tokio::time::timeout(ANSWER_DEADLINE, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends and reads the whole answer.
    pub(super) async fn send(&mut self, request: &Request) -> Result<Answer, Trouble> {
        let request = request.to_hyper(&self.target)?;
        if !self.is_open().await {
            return Err(Trouble::Broken("the connection was closed".to_owned()));
        }
        let exchange = exchange(&mut self.sender, request);
        tokio::time::timeout(ANSWER_DEADLINE, exchange).await.map_err(|_| Trouble::Late)?
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: hyper::Request<Full<Bytes>>,
) -> Result<Answer, Trouble> {
    let started = Instant::now();
    let sent = sender.send_request(request).await;
    let (head, body) = sent.map_err(|error| Trouble::Broken(error.to_string()))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| Trouble::Broken(error.to_string()))?.to_bytes();
    let took = started.elapsed();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, took })
}

/// Makes connections to one server, and keeps one of them open between requests.
pub(super) struct Client {
    target: Target,
    tls: Option<TlsConnector>,
    kept: Mutex<Option<Connection>>,
}

impl Client {
    /// `tls` is there for an https target.
    pub(super) fn new(target: Target, tls: Option<TlsConnector>) -> Self {
        Self { target, tls, kept: Mutex::new(None) }
    }

    /// The server under test.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let late = |_| Trouble::Connect("not made within 10 s".to_owned());
        tokio::time::timeout(CONNECT_DEADLINE, self.open()).await.map_err(late)?
    }

    async fn open(&self) -> Result<Connection, Trouble> {
        let failed = |error: std::io::Error| Trouble::Connect(error.to_string());
        let Target { host, port, .. } = &self.target;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
        // Without it a request in two segments waits for the other side's delayed acknowledgement.
        stream.set_nodelay(true).map_err(failed)?;
        let sender = match &self.tls {
            None => shake_hands(stream).await?,
            Some(tls) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| Trouble::Connect(format!("`{host}` is no name for TLS")))?;
                let untrusted = |error: std::io::Error| match error.get_ref().map(is_untrusted) {
                    Some(true) => Trouble::Untrusted(error.to_string()),
                    _ => failed(error),
                };
                shake_hands(tls.connect(name, stream).await.map_err(untrusted)?).await?
            }
        };
        Ok(Connection { sender, target: self.target.clone() })
    }

    /// Sends on the kept connection, or on a new one when the server has closed it meanwhile.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        let kept = self.kept.lock().take();
        if let Some(mut connection) = kept
            && connection.is_open().await
        {
            // A server may close an idle connection at any moment: that is no answer yet.
            match connection.send(request).await {
                Err(Trouble::Broken(_)) => {}
                other => return self.keep(connection, other),
            }
        }
        let mut connection = self.connect().await?;
        let answer = connection.send(request).await;
        self.keep(connection, answer)
    }

    fn keep(
        &self,
        connection: Connection,
        answer: Result<Answer, Trouble>,
    ) -> Result<Answer, Trouble> {
        if answer.is_ok() {
            *self.kept.lock() = Some(connection);
        }
        answer
    }
}

/// Whether TLS failed for the server's certificate.
fn is_untrusted(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let tls = error.downcast_ref::<Error>();
    matches!(tls, Some(Error::InvalidCertificate(_)))
}

async fn shake_hands<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Trouble>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Trouble::Connect(error.to_string()))?;
    // It ends with the connection; what went wrong is told to whoever waits for an answer.
    tokio::spawn(driver);
    Ok(sender)
}
