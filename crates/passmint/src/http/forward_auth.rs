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
    let roles = &caller.0.claims.roles;
    if wanted.split(',').any(|wanted| roles.iter().any(|role| role == wanted)) {
        Ok(identity(&caller))
    } else {
        Err(ApiError::Forbidden)
    }
}

/// Always all seven, so that no header of the client's own survives in a proxy that copies them.
fn identity(caller: &Caller) -> Response {
    let claims = &caller.0.claims;
    // With room for those of the envelope.
    let mut headers = HeaderMap::with_capacity(14);
    headers.insert(USER_ID, encoded(&claims.subject));
    headers.insert(USER, encoded(&claims.username));
    headers.insert(EMAIL, encoded(&claims.email));
    let roles = match claims.roles.as_slice() {
        [] => HeaderValue::from_static(""),
        [one] => encoded(one),
        many => encoded(&many.join(",")),
    };
    headers.insert(ROLES, roles);
    headers.insert(SESSION, encoded(claims.session.as_deref().unwrap_or_default()));
    // Callers of other kinds come later; a header of the client's own must not survive until then.
    headers.insert(CLIENT, HeaderValue::from_static(""));
    headers.insert(API_KEY, HeaderValue::from_static(""));
    let mut response = Response::default();
    *response.headers_mut() = headers;
    response
}

fn encoded(text: &str) -> HeaderValue {
    let text = std::borrow::Cow::from(utf8_percent_encode(text, ENCODED));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}
