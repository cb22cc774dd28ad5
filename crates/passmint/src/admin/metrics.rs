//! What Prometheus scrapes.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::service::Services;

/// `GET /metrics` (`OpenMetrics` 1.0).
pub(super) fn scrape(services: &Services) -> Response {
    let hashing = services.parts.hashing.state();
    let text = services.metrics.scrape(
        hashing.queued,
        hashing.hash_time.as_secs_f64(),
        services.parts.revocations.len(),
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}
