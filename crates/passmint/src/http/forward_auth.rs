//! The answer for proxies: who is it, in headers (contract section 4).

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::error::ApiError;
use super::extract::Caller;

/// What cannot stand in a header as it is; beyond ASCII everything is encoded anyway.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

const USER_ID: HeaderName = HeaderName::from_static("x-auth-user-id");
const USER: HeaderName = HeaderName::from_static("x-auth-user");
const EMAIL: HeaderName = HeaderName::from_static("x-auth-email");
const ROLES: HeaderName = HeaderName::from_static("x-auth-roles");
const SESSION: HeaderName = HeaderName::from_static("x-auth-session");
const CLIENT: HeaderName = HeaderName::from_static("x-auth-client");
const API_KEY: HeaderName = HeaderName::from_static("x-auth-api-key");

/// `/forward-auth`, any method, whatever follows.
pub(super) async fn forward_auth(caller: Caller) -> Response {
    identity(&caller)
}

/// `/forward-auth-roles/{a,b}`: the same, and 403 for a caller with none of these roles.
pub(super) async fn forward_auth_roles(caller: Caller, uri: Uri) -> Result<Response, ApiError> {
    // Only the roles are decoded: what follows is the guarded path, whatever bytes it has.
    let wanted = uri.path().split('/').nth(2).unwrap_or_default();
    let wanted = percent_decode_str(wanted).decode_utf8().map_err(|_| ApiError::Forbidden)?;
    let roles = caller.0.names.roles();
    let has = |wanted: &str| roles.split(',').any(|role| role == wanted);
    // No role is empty.
    if wanted.split(',').any(|wanted| !wanted.is_empty() && has(wanted)) {
        Ok(identity(&caller))
    } else {
        Err(ApiError::Forbidden)
    }
}

/// Always all seven, so that no header of the client's own survives in a proxy that copies them.
fn identity(caller: &Caller) -> Response {
    let Caller(verified) = caller;
    let names = &verified.names;
    // With room for those of the envelope.
    let mut headers = HeaderMap::with_capacity(14);
    headers.insert(USER_ID, encoded(names.subject()));
    headers.insert(USER, encoded(names.username()));
    headers.insert(EMAIL, encoded(names.email()));
    headers.insert(ROLES, encoded(names.roles()));
    let session = verified.subject.session.map(|id| id.to_string());
    headers.insert(SESSION, encoded(&session.unwrap_or_default()));
    // Callers of other kinds come later; a header of the client's own must not survive until then.
    headers.insert(CLIENT, HeaderValue::from_static(""));
    headers.insert(API_KEY, HeaderValue::from_static(""));
    let mut response = Response::default();
    *response.headers_mut() = headers;
    response
}

fn encoded(text: &str) -> HeaderValue {
    if text.is_empty() {
        return HeaderValue::from_static("");
    }
    let text = std::borrow::Cow::from(utf8_percent_encode(text, ENCODED));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}
