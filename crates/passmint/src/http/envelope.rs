//! What every answer of the public listener needs: request id, headers, CORS, counting, and the one
//! place where the cause of a failure is logged. A panic ends as a 500 here.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{FromRef, Request};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONNECTION, HOST, ORIGIN,
    STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::Instrument as _;

use super::client_address::{AddressDoubts, client_address};
use super::error::{ApiError, Cause};
use super::route::Route;
use crate::config::Config;
use crate::service::key::KeyService;
use crate::service::session::SessionService;
use crate::service::token::TokenService;
use crate::service::user::UserService;
use crate::service::{Services, Settings};
use crate::telemetry::{Incoming, REQUEST, RequestContext, note_answer, request_span};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context, section 3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whether the server takes new work.
#[derive(Debug, Default)]
pub struct Health {
    draining: AtomicBool,
}

impl Health {
    /// Turns readiness off, before the server stops.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// What the handlers of a listener are given. One pointer: it is cloned for every request.
#[derive(Clone)]
pub struct PublicState(Arc<Shared>);

struct Shared {
    services: Services,
    health: Arc<Health>,
    ids: RequestIds,
    address_doubts: AddressDoubts,
}

impl PublicState {
    /// For those services.
    pub fn new(services: Services, health: Arc<Health>) -> Self {
        let (ids, address_doubts) = (RequestIds::default(), AddressDoubts::default());
        Self(Arc::new(Shared { services, health, ids, address_doubts }))
    }

    /// The services, without a clone for a look.
    pub(super) fn services(&self) -> &Services {
        &self.0.services
    }
}

macro_rules! part_of_state {
    ($part:ty, $take:expr) => {
        impl FromRef<PublicState> for $part {
            fn from_ref(state: &PublicState) -> Self {
                let take: fn(&PublicState) -> Self = $take;
                take(state)
            }
        }
    };
}

part_of_state!(TokenService, |state| state.0.services.tokens.clone());
part_of_state!(SessionService, |state| state.0.services.sessions.clone());
part_of_state!(UserService, |state| state.0.services.users.clone());
part_of_state!(KeyService, |state| state.0.services.keys.clone());
part_of_state!(Settings, |state| Arc::clone(&state.0.services.settings));
part_of_state!(Services, |state| state.0.services.clone());
part_of_state!(Arc<Health>, |state| Arc::clone(&state.0.health));

/// Makes request ids: unique to the process and its number, not secret.
struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        let process = std::hash::RandomState::new().build_hasher().finish();
        Self { process, next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let sane = |value: &&HeaderValue| {
            (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        if let Some(given) = headers.get(REQUEST_ID).filter(sane) {
            return given.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        HeaderValue::from_bytes(&self.made(number)).unwrap_or(HeaderValue::from_static("none"))
    }

    /// 12 hexadecimal digits of the process, 12 of the number. By hand: it is done for every request.
    fn made(&self, number: u64) -> [u8; 24] {
        let id = u128::from(self.process >> 16) << 48 | u128::from(number);
        let mut digits = [0; 24];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            let nibble = ((id >> (4 * place)) & 15) as u8;
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        digits
    }
}

/// What a listener knows of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The other end of the socket: a client or a proxy.
    pub(super) address: IpAddr,
    /// Whether the server does TLS on it itself.
    pub(super) over_tls: bool,
}

/// A router with the envelope around it: what a listener serves. No layer of the router's, which would
/// cost every request a dozen allocations.
#[derive(Clone)]
pub struct Enveloped {
    state: PublicState,
    router: Router,
}

impl Enveloped {
    /// A router whose handlers have been given the same state.
    pub(crate) fn new(state: PublicState, router: Router) -> Self {
        Self { state, router }
    }

    /// Answers a request that came from `peer`.
    pub(super) async fn answer(self, peer: Peer, request: Request) -> Response {
        let Self { state, router } = self;
        let began = Instant::now();
        let route = Route::of(request.uri().path());
        let id = state.0.ids.of(request.headers());
        let config = state.0.services.settings.load();
        let cors = Cors::of(&request, &config);
        let span = request_span(|| incoming(&request, route, &id), config.otlp.sample_percent);
        let http1 = request.version() <= Version::HTTP_11;
        let hsts = peer.over_tls.then(|| hsts(config.server.hsts)).flatten();
        let client_gone = route.changes_something(request.method()).then(CancellationToken::new);
        let (address, doubt) = client_address(peer.address, request.headers(), &config.server);
        if let Some(doubt) = doubt {
            state.0.address_doubts.note(doubt, peer.address, &state.0.services.metrics);
        }
        let context = RequestContext {
            id: id.to_str().unwrap_or_default().into(),
            address,
            client_gone: client_gone.clone(),
        };
        drop(config);

        let mut response = if let Some(client_gone) = client_gone {
            // What must happen once a decision is taken does not depend on whether the client stays.
            let _tells = client_gone.drop_guard();
            let work = answer(route, request, router).instrument(span.clone());
            let work = state.0.services.parts.detached.spawn(REQUEST.scope(context, work));
            // A panic is caught inside; what is left is a runtime that ends.
            let ended =
                |_| ApiError::Unavailable("the server is ending".to_owned()).into_response();
            work.await.unwrap_or_else(ended)
        } else if span.is_none() {
            REQUEST.scope(context, answer(route, request, router)).await
        } else {
            // Apart and boxed, so that requests without a span do not carry room for one about.
            let traced = answer(route, request, router).instrument(span.clone());
            Box::pin(REQUEST.scope(context, traced)).await
        };

        let status = response.status().as_u16();
        note_answer(&span, status);
        state.0.services.metrics.response(route.class, status, began.elapsed());
        let headers = response.headers_mut();
        cors.apply(headers);
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REQUEST_ID, id);
        if let Some(hsts) = hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
        if http1 && state.0.health.is_draining() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What a trace tells of a request: no path, no query, no header but its place in a larger trace.
fn incoming<'a>(request: &'a Request, route: Route, id: &'a HeaderValue) -> Incoming<'a> {
    let traceparent = request.headers().get(TRACEPARENT);
    Incoming {
        method: request.method().as_str(),
        route: route.template,
        request_id: id.to_str().unwrap_or_default(),
        traceparent: traceparent.and_then(|header| header.to_str().ok()),
    }
}

/// `Strict-Transport-Security` for that long (RFC 6797 section 6.1); none where it is not wanted.
fn hsts(lasts: Duration) -> Option<HeaderValue> {
    let max_age = lasts.as_secs();
    let value = (max_age > 0).then(|| HeaderValue::from_str(&format!("max-age={max_age}")));
    value.and_then(Result::ok)
}

/// Whether a request over HTTP/1.1 says exactly once whom it is for, in a form that can be (RFC 9112
/// section 3.2).
fn has_valid_host(request: &Request) -> bool {
    if request.version() != Version::HTTP_11 {
        return true;
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let valid =
        |host: &str| host.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    host.to_str().is_ok_and(valid)
}

/// The handler's answer, or a 500 when it panics. What went wrong is logged here, once.
async fn answer(route: Route, request: Request, mut router: Router) -> Response {
    if !has_valid_host(&request) {
        return ApiError::Malformed("Exactly one valid Host header is needed.".into())
            .into_response();
    }
    let method = request.method().clone();
    let work = AssertUnwindSafe(router.call(request)).catch_unwind().await;
    let answered = work.map(|Ok(response)| response);
    let mut response = answered.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        ApiError::Internal(format!("panic: {}", text.unwrap_or("no message"))).into_response()
    });
    let status = response.status().as_u16();
    if let Some(Cause(cause)) = response.extensions_mut().remove::<Cause>() {
        tracing::error!(%method, status, cause, "request failed");
    }
    // The route and not the path: what stands in a path may be a token or somebody's secret.
    tracing::debug!(%method, route = route.template.unwrap_or("other"), status, "answered");
    response
}

/// What the Fetch standard's CORS protocol wants to hear about one request.
enum Cors {
    /// A path that no script of another origin has to do with (`/forward-auth`).
    None,
    Applies {
        /// `Access-Control-Allow-Origin`, when the request has an allowed origin.
        origin: Option<HeaderValue>,
        /// For a preflight: the headers it asks for.
        preflight: Option<Preflight>,
    },
}

struct Preflight {
    /// `Access-Control-Request-Headers`, allowed as asked.
    headers: Option<HeaderValue>,
}

impl Cors {
    fn of(request: &Request, config: &Config) -> Self {
        let path = request.uri().path();
        if !path.starts_with("/api/") && !path.starts_with("/.well-known/") {
            return Self::None;
        }
        let headers = request.headers();
        let origin = headers.get(ORIGIN).and_then(|origin| {
            let allowed = &config.server.cors_origins;
            if allowed.iter().any(|allowed| allowed == "*") {
                return Some(HeaderValue::from_static("*"));
            }
            allowed
                .iter()
                .any(|allowed| allowed.as_bytes() == origin.as_bytes())
                .then(|| origin.clone())
        });
        let asks = headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let preflight = (request.method() == Method::OPTIONS && asks)
            .then(|| Preflight { headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned() });
        Self::Applies { origin, preflight }
    }

    fn apply(self, headers: &mut HeaderMap) {
        let Self::Applies { origin, preflight } = self else {
            return;
        };
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After, X-Request-Id, WWW-Authenticate"),
        );
        let Some(preflight) = preflight else { return };
        if let Some(methods) = headers.get(ALLOW).cloned() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(asked) = preflight.headers {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}
