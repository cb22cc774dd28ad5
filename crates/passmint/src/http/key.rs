//! The public keys (RFC 7517).

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::service::key::KeyService;

/// `GET /.well-known/jwks.json`. The `max-age` is true: a key is published an hour before it signs.
pub(super) async fn jwks(State(keys): State<KeyService>) -> Response {
    let headers =
        [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, keys.jwks().to_vec()).into_response()
}
