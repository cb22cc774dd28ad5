//! The one status table: everything that is not a success becomes an answer here.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::service::Failure;
use crate::service::token::{LoginError, RefreshError, VerifyError};
use crate::service::user::UserError;
use crate::throttle::Throttled;

/// How long to stay away when nothing better is known.
const SHORT: Duration = Duration::from_secs(1);

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldFault {
    /// Absent, null or empty.
    Missing,
    /// Neither text nor integer, with a NUL, or too long.
    NotAString,
    /// As it says.
    Because(String),
}

/// Every way in which a request of this API can fail.
#[derive(Debug)]
pub enum ApiError {
    /// Faults of fields, in the contract's order: 400 `{"field":["fault"]}`.
    Fields(Vec<(&'static str, FieldFault)>),
    /// The body cannot be read: 400 `{"detail":…}`. Never echoes a secret.
    Malformed(Cow<'static, str>),
    /// The body did not arrive in time: 408, and the connection is closed (RFC 9110 section 15.5.9).
    TooSlow,
    /// 413.
    TooLarge,
    /// 415, with the type that was sent.
    UnsupportedMediaType(String),
    /// 404.
    NotFound,
    /// 405, with what the path allows.
    MethodNotAllowed(Method, &'static str),
    /// Credentials refused: 206, or the configured status.
    RefusedCredentials(u16),
    /// A refresh token refused: 206, or the configured status.
    InvalidRefreshToken(u16),
    /// 400.
    ExpiredRefreshToken,
    /// 401 with that text.
    Unauthorized(Unauthorized),
    /// 403: genuine, but without the role asked for.
    Forbidden,
    /// Too many attempts: 429.
    Throttled(Duration),
    /// The hashing queue is full: 503.
    Overloaded(Duration),
    /// The store does not answer: 503. The cause goes to the log.
    Unavailable(String),
    /// A fault of ours: 500. The cause goes to the log.
    Internal(String),
}

/// Why a caller is not known (contract section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// No header, or another scheme.
    NotProvided,
    /// Scheme without token.
    NoCredentials,
    /// More than one part after the scheme.
    Spaces,
    /// Genuine, past `exp`.
    Expired,
    /// Genuine, ended.
    Revoked,
    /// Anything else.
    Invalid,
}

impl Unauthorized {
    fn text(self) -> &'static str {
        match self {
            Self::NotProvided => "Authentication credentials were not provided.",
            Self::NoCredentials => "Invalid Authorization header. No credentials provided.",
            Self::Spaces => {
                "Invalid Authorization header. Credentials string should not contain spaces."
            }
            Self::Expired => "Signature has expired.",
            Self::Revoked => "Token has been revoked.",
            Self::Invalid => "Error decoding signature.",
        }
    }
}

/// The cause of a failed request: the envelope logs it once, under the request id.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

fn answer(status: StatusCode, body: &impl serde::Serialize) -> Response {
    (status, Json(body)).into_response()
}

fn detail(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({ "detail": text }))
}

fn error(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({ "error": text }))
}

fn with_retry(mut response: Response, after: Duration) -> Response {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

fn with_cause(mut response: Response, cause: String) -> Response {
    response.extensions_mut().insert(Cause(cause));
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Fields(faults) => answer(StatusCode::BAD_REQUEST, &fields(faults)),
            Self::Malformed(text) => detail(StatusCode::BAD_REQUEST, &text),
            Self::TooSlow => {
                let text = "The request body did not arrive in time.";
                let mut response = detail(StatusCode::REQUEST_TIMEOUT, text);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Self::TooLarge => detail(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Request body is too large: at most 16384 bytes.",
            ),
            Self::UnsupportedMediaType(sent) => detail(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &format!("Unsupported media type \"{sent}\" in request."),
            ),
            Self::NotFound => detail(StatusCode::NOT_FOUND, "Not found."),
            Self::MethodNotAllowed(method, allow) => {
                let text = format!("Method \"{method}\" not allowed.");
                let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, &text);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
            Self::RefusedCredentials(status) => {
                refused(status, "Unable to login with provided credential")
            }
            Self::InvalidRefreshToken(status) => refused(status, "Invalid refresh token"),
            Self::ExpiredRefreshToken => {
                error(StatusCode::BAD_REQUEST, "Refresh token has expired")
            }
            Self::Unauthorized(why) => unauthorized(why.text()),
            Self::Forbidden => {
                let text = "You do not have permission to perform this action.";
                detail(StatusCode::FORBIDDEN, text)
            }
            Self::Throttled(after) => {
                with_retry(error(StatusCode::TOO_MANY_REQUESTS, "Too many attempts"), after)
            }
            Self::Overloaded(after) => {
                with_retry(error(StatusCode::SERVICE_UNAVAILABLE, "Temporarily overloaded"), after)
            }
            Self::Unavailable(cause) => {
                let response = detail(StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable");
                with_cause(with_retry(response, SHORT), cause)
            }
            Self::Internal(cause) => {
                let response = detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");
                with_cause(response, cause)
            }
        }
    }
}

fn fields(faults: Vec<(&'static str, FieldFault)>) -> Map<String, Value> {
    faults
        .into_iter()
        .map(|(field, fault)| {
            let text = match fault {
                FieldFault::Missing => "missing field".to_owned(),
                FieldFault::NotAString => "not a valid string".to_owned(),
                FieldFault::Because(why) => why,
            };
            (field.to_owned(), json!([text]))
        })
        .collect()
}

/// What was refused at login or refresh: 206 as the original sends it, or a 401 like those of tokens for
/// operators who want it (`api.invalid_credentials_status`).
fn refused(status: u16, text: &str) -> Response {
    if status == StatusCode::UNAUTHORIZED.as_u16() {
        return unauthorized(text);
    }
    error(StatusCode::PARTIAL_CONTENT, text)
}

/// The same text under both keys that clients read (contract section 4); nothing in it needs escaping.
fn unauthorized(text: &str) -> Response {
    let body = format!(r#"{{"error":"{text}","detail":"{text}"}}"#);
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("JWT realm=\"api\""));
    (StatusCode::UNAUTHORIZED, headers, body).into_response()
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(cause) | Failure::OutcomeUnknown(cause) => {
                Self::Unavailable(cause)
            }
            Failure::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl ApiError {
    /// A login's failure; `refused` is the configured status.
    pub(super) fn from_login(error: LoginError, refused: u16) -> Self {
        match error {
            LoginError::Refused => Self::RefusedCredentials(refused),
            LoginError::Throttled(throttled) => throttled.into(),
            LoginError::Overloaded(overloaded) => Self::Overloaded(overloaded.retry_after),
            LoginError::ClientGone => Self::Overloaded(SHORT),
            LoginError::Failed(failure) => failure.into(),
        }
    }

    /// A refresh's failure; `refused` is the configured status.
    pub(super) fn from_refresh(error: RefreshError, refused: u16) -> Self {
        match error {
            RefreshError::Refused => Self::InvalidRefreshToken(refused),
            RefreshError::Expired => Self::ExpiredRefreshToken,
            RefreshError::Failed(failure) => failure.into(),
        }
    }

    /// A password change's failure; `refused` is the configured status.
    pub(super) fn from_password_change(error: UserError, refused: u16) -> Self {
        match error {
            UserError::Weak(why) => {
                Self::Fields(vec![("new_password", FieldFault::Because(why.to_string()))])
            }
            UserError::Refused | UserError::Unknown => Self::RefusedCredentials(refused),
            UserError::Throttled(throttled) => throttled.into(),
            UserError::Overloaded(overloaded) => Self::Overloaded(overloaded.retry_after),
            UserError::ClientGone => Self::Overloaded(SHORT),
            UserError::Failed(failure) => failure.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<Throttled> for ApiError {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled(throttled.retry_after)
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        Self::Unauthorized(match error {
            VerifyError::Invalid => Unauthorized::Invalid,
            VerifyError::Expired => Unauthorized::Expired,
            VerifyError::Revoked => Unauthorized::Revoked,
            VerifyError::Undecided(failure) => return failure.into(),
        })
    }
}
