//! What Prometheus scrapes.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::service::Services;
use crate::telemetry::{Exposition, Reading};

/// `GET /metrics`: `OpenMetrics` 1.0 to who accepts it, the text format of Prometheus otherwise.
pub(super) fn scrape(services: &Services, headers: &HeaderMap) -> Response {
    let hashing = services.parts.hashing.state();
    let reading = Reading {
        queued: hashing.queued,
        hash_time: hashing.hash_time,
        revocations: services.parts.revocations.len(),
        // The store of this node tells the view before it answers: there is nothing to be behind of.
        revocation_view_age: Duration::ZERO,
        throttle_keys: services.parts.throttle.entries(),
    };
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::for_accept(accept);
    let text = services.metrics.scrape(&reading, exposition);
    ([(CONTENT_TYPE, exposition.content_type())], text).into_response()
}
