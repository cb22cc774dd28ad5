//! The admin listener: metrics, and the demo's clock. What is private is here, so that no proxy rule
//! gone wrong exposes it. Checks `Host`, so that no web page can reach it by DNS rebinding.

mod demo;
mod host;
mod metrics;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::http::health::{healthz, readyz};
use crate::http::router::Routes;
use crate::http::{Enveloped, PublicState};
use crate::service::Services;

pub use demo::DemoClock;
pub use host::AllowedHosts;

/// The admin listener's router. `clock` is there in a demo with `--clock`.
pub fn router(
    state: PublicState,
    services: Services,
    hosts: AllowedHosts,
    clock: Option<DemoClock>,
) -> Enveloped {
    let scrape = get(async move |headers: HeaderMap| metrics::scrape(&services, &headers));
    let mut routes = Routes::default()
        .plain("/metrics", "GET, HEAD, OPTIONS", scrape)
        .plain("/healthz", "GET, HEAD, OPTIONS", get(healthz))
        .plain("/readyz", "GET, HEAD, OPTIONS", get(readyz));
    if let Some(clock) = clock {
        let turn =
            post(async move |headers: HeaderMap, body: Bytes| clock.turn(&headers, &body).await);
        routes = routes.plain("/demo/clock", "POST, OPTIONS", turn);
    }
    routes.guarded(|routes| routes.layer(from_fn_with_state(hosts, host::check))).finish(state)
}
