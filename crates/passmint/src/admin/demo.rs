//! The demo's clock: an integrator sees an expiry without waiting a day.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::clock::TurnableClock;
use crate::config::parse_duration;
use crate::service::maintenance::Maintenance;

/// The farthest one call may turn the clock.
const FARTHEST: Duration = Duration::from_hours(87600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    advance: String,
}

/// The clock of a demo, and what has to happen when it is turned.
#[derive(Clone)]
pub struct DemoClock {
    clock: Arc<TurnableClock>,
    maintenance: Arc<Maintenance>,
}

impl DemoClock {
    /// Of the clock that the services of `maintenance` read.
    pub fn new(clock: Arc<TurnableClock>, maintenance: Arc<Maintenance>) -> Self {
        Self { clock, maintenance }
    }

    /// `POST /demo/clock {"advance":"25h"}`: turns the server's clock on, does what is due by then, and
    /// tells the new time.
    pub(super) async fn turn(&self, headers: &HeaderMap, body: &Bytes) -> Response {
        // `curl -d` calls it a form. A page of another site could send one, too, but not without
        // `Origin`, which the listener has looked at.
        let taken = |value: &HeaderValue| {
            let value = value.as_bytes();
            value.starts_with(b"application/json") || value == b"application/x-www-form-urlencoded"
        };
        if !headers.get(CONTENT_TYPE).is_some_and(taken) {
            let body = json!({ "detail": "Send it as application/json." });
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Json(body)).into_response();
        }
        let wrong = |why: String| {
            let body = json!({ "detail": format!("{why}. Send {{\"advance\":\"25h\"}}.") });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        };
        let turn: Turn = match serde_json::from_slice(body) {
            Ok(turn) => turn,
            Err(error) => return wrong(error.to_string()),
        };
        match parse_duration(&turn.advance) {
            Ok(span) if span <= FARTHEST => {
                let now = self.clock.advance(span);
                self.maintenance.catch_up().await;
                Json(json!({ "now": now.iso8601() })).into_response()
            }
            Ok(_) => wrong("that is more than ten years".to_owned()),
            Err(why) => wrong(why),
        }
    }
}
