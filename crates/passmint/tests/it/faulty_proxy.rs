//! A proxy in front of the real server that has one fault, in what it does to a request or to its answer; and the
//! throttle that one may have.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::extract::{Request as Incoming, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use passmint_verify::JwkSet;
use serde_json::Value;

use crate::harness::{Answer, get, request};

/// A request on its way to the real server.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) server: SocketAddr,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A text field of a JSON body.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body[name].as_str().map(str::to_owned)
    }

    /// The access token that is presented.
    pub(crate) fn token(&self) -> String {
        let header = self.header("authorization").and_then(|header| header.split_once(' '));
        let token = header.map(|(_, token)| token.to_owned());
        token.or_else(|| self.field("token")).unwrap_or_default()
    }

    /// One part of it, as JSON; null when it is none.
    pub(crate) fn part(&self, index: usize) -> Value {
        let token = self.token();
        let part = token.split('.').nth(index).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(crate) fn alg(&self) -> String {
        self.part(0)["alg"].as_str().unwrap_or_default().to_owned()
    }

    /// What is signed, and the signature.
    pub(crate) fn signed(&self) -> (Vec<u8>, Vec<u8>) {
        let token = self.token();
        let (message, signature) = token.rsplit_once('.').unwrap_or_default();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        (message.as_bytes().to_vec(), signature)
    }

    pub(crate) fn is_hs256_with(&self, secret: &[u8]) -> bool {
        let (message, signature) = self.signed();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        self.alg() == "HS256" && hmac::verify(&key, &message, &signature).is_ok()
    }

    pub(crate) fn is_login(&self) -> bool {
        self.path == "/api/v1/token-auth/" && self.method == "POST"
    }

    pub(crate) fn jwks(&self) -> JwkSet {
        let answer = get("/.well-known/jwks.json").try_send(self.server).unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }
}

pub(crate) type Before = fn(&mut Asked) -> Option<Answer>;
pub(crate) type After = fn(&Asked, &mut Answer);

/// What the proxy does wrong: to the request, then to the answer.
#[derive(Clone, Copy)]
pub(crate) struct Weakness {
    pub(crate) before: Before,
    pub(crate) after: After,
}

pub(crate) const HONEST: Weakness = Weakness { before: |_| None, after: |_, _| {} };

pub(crate) fn before(before: Before) -> Weakness {
    Weakness { before, ..HONEST }
}

pub(crate) fn after(after: After) -> Weakness {
    Weakness { after, ..HONEST }
}

/// The answer of something that believes whatever it is shown.
pub(crate) fn accept(answer: &mut Answer) {
    answer.status = 200;
}

pub(crate) fn answer(status: u16, kind: &str, body: &str) -> Answer {
    let headers = vec![("content-type".to_owned(), kind.to_owned())];
    Answer { status, headers, body: body.to_owned() }
}

/// A proxy with a weakness in front of a server. It stops when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) runtime: Option<tokio::runtime::Runtime>,
}

impl Proxy {
    pub(crate) fn before(server: SocketAddr, weakness: Weakness) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(pass_on).with_state((server, weakness));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

async fn pass_on(
    State((server, weakness)): State<(SocketAddr, Weakness)>,
    asked: Incoming,
) -> Response {
    let (head, body) = asked.into_parts();
    let text = |value: &axum::http::HeaderValue| {
        // Bytes beyond ASCII must arrive as they are.
        value.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>()
    };
    let framing = ["connection", "content-length", "transfer-encoding"];
    let mut asked = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .filter(|(name, _)| !framing.contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        server,
    };
    let work = tokio::task::spawn_blocking(move || {
        let mut answer = (weakness.before)(&mut asked).unwrap_or_else(|| forward(&asked));
        (weakness.after)(&asked, &mut answer);
        answer
    });
    let answer = work.await.unwrap();
    let mut response = answer.body.into_response();
    *response.status_mut() = axum::http::StatusCode::from_u16(answer.status).unwrap();
    response.headers_mut().clear();
    for (name, value) in answer.headers.iter().filter(|(name, _)| !framing.contains(&&**name)) {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

pub(crate) fn forward(asked: &Asked) -> Answer {
    let bytes = |value: &str| value.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>();
    let mut forwarded = request(&asked.method, &asked.path);
    for (name, value) in &asked.headers {
        if asked.body.is_empty() || name != "content-type" {
            forwarded = forwarded.header(name, bytes(value));
        }
    }
    if !asked.body.is_empty() {
        forwarded = forwarded.body(asked.header("content-type").unwrap_or_default(), &asked.body);
    }
    forwarded.try_send(asked.server).unwrap()
}

/// A throttle as contract section 6 has it, in front of a server that may have none: five failures
/// of a name from an address are free, then 429 with a wait that doubles; success clears it.
#[derive(Default)]
struct Throttle {
    failures: HashMap<(String, String), (u32, Option<Instant>)>,
    requests: Option<(f64, Instant)>,
}

static THROTTLE: LazyLock<Mutex<Throttle>> = LazyLock::new(Mutex::default);

fn too_many(seconds: u64) -> Answer {
    let mut refusal = answer(429, "application/json", r#"{"error":"Too many attempts"}"#);
    refusal.headers.push(("retry-after".to_owned(), seconds.to_string()));
    refusal
}

impl Throttle {
    /// 20 requests a second, 40 at once.
    fn comes_too_fast(&mut self) -> bool {
        let now = Instant::now();
        let (left, since) = self.requests.unwrap_or((40.0, now));
        let left = (left + 20.0 * (now - since).as_secs_f64()).min(40.0);
        self.requests = Some((if left < 1.0 { left } else { left - 1.0 }, now));
        left < 1.0
    }

    fn wait(&self, key: &(String, String)) -> Option<Duration> {
        let until = self.failures.get(key)?.1?;
        until.checked_duration_since(Instant::now())
    }

    fn note(&mut self, key: (String, String), status: u16) {
        if status == 200 {
            self.failures.remove(&key);
        } else if status == 206 {
            let entry = self.failures.entry(key).or_default();
            entry.0 += 1;
            if entry.0 >= 5 {
                let wait = Duration::from_secs(1 << (entry.0 - 5).min(9));
                entry.1 = Some(Instant::now() + wait);
            }
        }
    }
}

/// The answer of a throttled login; another request goes on. `address`: by which it counts.
pub(crate) fn throttled(asked: &mut Asked, address: &str) -> Option<Answer> {
    if !asked.is_login() {
        return None;
    }
    let key = (asked.field("username")?, address.to_owned());
    {
        let mut throttle = THROTTLE.lock().unwrap();
        if throttle.comes_too_fast() {
            return Some(too_many(1));
        }
        if let Some(wait) = throttle.wait(&key) {
            return Some(too_many(wait.as_secs() + 1));
        }
    }
    let answer = forward(asked);
    THROTTLE.lock().unwrap().note(key, answer.status);
    Some(answer)
}
