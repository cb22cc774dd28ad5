//! Probes: alive, ready.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::envelope::Health;
use crate::service::Services;

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// `GET /readyz`: the database answers, keys are loaded, and the server is not about to stop.
pub(crate) async fn readyz(
    State(services): State<Services>,
    State(health): State<Arc<Health>>,
) -> Response {
    let why = if health.is_draining() {
        Some("draining")
    } else if services.parts.ping().await.is_err() {
        Some("database")
    } else {
        None
    };
    match why {
        None => Json(json!({ "status": "ready" })).into_response(),
        Some(why) => {
            let body = Json(json!({ "status": "not ready", "because": why }));
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], body).into_response()
        }
    }
}
