//! What handlers ask for in their signatures: the caller, and where it calls from.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::envelope::PublicState;
use super::error::{ApiError, Unauthorized};
use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::service::token::Verified;
use crate::telemetry::REQUEST;
use crate::throttle::Door;

/// Whoever a valid access token speaks for.
pub(super) struct Caller(pub(super) Arc<Verified>);

/// A caller that is one of our users, in one of its sessions.
pub(super) struct UserCaller {
    pub(super) verified: Arc<Verified>,
    pub(super) user: UserId,
    pub(super) session: Option<SessionId>,
}

impl FromRequestParts<PublicState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, ApiError> {
        let token = authorization(&parts.headers).map_err(ApiError::Unauthorized)?;
        let verified = state.services().tokens.verify(token).await?;
        Ok(Self(verified))
    }
}

impl FromRequestParts<PublicState> for UserCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, ApiError> {
        let Caller(verified) = Caller::from_request_parts(parts, state).await?;
        let user = verified.subject.user.ok_or(ApiError::Unauthorized(Unauthorized::Invalid))?;
        let session = verified.subject.session;
        Ok(Self { verified, user, session })
    }
}

/// A user that is about to change something: counted before anything is done.
pub(super) struct ChangingCaller(pub(super) UserCaller);

impl FromRequestParts<PublicState> for ChangingCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, ApiError> {
        let caller = UserCaller::from_request_parts(parts, state).await?;
        state.services().parts.admit_change(caller.user)?;
        Ok(Self(caller))
    }
}

/// The token of the `Authorization` header (contract section 4).
pub(super) fn authorization(headers: &HeaderMap) -> Result<&str, Unauthorized> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next().ok_or(Unauthorized::NotProvided)?;
    if all.next().is_some() {
        return Err(Unauthorized::Invalid);
    }
    let bytes = value.as_bytes().trim_ascii();
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let (scheme, rest) = bytes.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"JWT") && !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Unauthorized::NotProvided);
    }
    let token = rest.trim_ascii_start();
    if token.is_empty() {
        return Err(Unauthorized::NoCredentials);
    }
    if token.contains(&b' ') {
        return Err(Unauthorized::Spaces);
    }
    std::str::from_utf8(token).map_err(|_| Unauthorized::Invalid)
}

/// Whether there is an `Authorization` header at all.
pub(super) fn has_authorization(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

/// Where a request comes from.
pub(super) struct Origin {
    /// The client's address: the socket's, or what a trusted proxy says.
    pub(super) address: Option<IpAddr>,
    /// What the client calls itself, shortened.
    pub(super) user_agent: String,
}

impl FromRequestParts<PublicState> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &PublicState) -> Result<Self, Infallible> {
        let address = client();
        let user_agent = parts.headers.get(USER_AGENT).map(printable).unwrap_or_default();
        Ok(Self { address, user_agent })
    }
}

/// The client's address, as the envelope found it.
fn client() -> Option<IpAddr> {
    REQUEST.try_with(|request| request.address).ok()
}

/// A request to an endpoint that takes a password, counted before anything of it is read.
pub(super) struct PasswordDoor;

/// The same for one that takes a refresh token.
pub(super) struct RefreshDoor;

impl FromRequestParts<PublicState> for PasswordDoor {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, state: &PublicState) -> Result<Self, ApiError> {
        state.services().parts.admit_request(Door::TokenAuth, client())?;
        Ok(Self)
    }
}

impl FromRequestParts<PublicState> for RefreshDoor {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, state: &PublicState) -> Result<Self, ApiError> {
        state.services().parts.admit_request(Door::TokenRefresh, client())?;
        Ok(Self)
    }
}

fn printable(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes())
        .chars()
        .filter(|character| !character.is_control())
        .take(256)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_table_of_the_contract() {
        let read = |values: &[&'static str]| authorization(&header(values)).map(str::to_owned);
        for good in ["JWT a.b.c", "jwt   a.b.c", "Bearer a.b.c", "bEaReR a.b.c  "] {
            assert_eq!(read(&[good]), Ok("a.b.c".to_owned()), "{good}");
        }
        for other in ["", "Basic abc", "Token abc", "a.b.c", "JWTx abc"] {
            assert_eq!(read(&[other]), Err(Unauthorized::NotProvided), "{other}");
        }
        assert_eq!(read(&[]), Err(Unauthorized::NotProvided));
        assert_eq!(read(&["JWT"]), Err(Unauthorized::NoCredentials));
        assert_eq!(read(&["JWT   "]), Err(Unauthorized::NoCredentials));
        assert_eq!(read(&["JWT a b"]), Err(Unauthorized::Spaces));
        assert_eq!(read(&["JWT a.b.c", "JWT a.b.c"]), Err(Unauthorized::Invalid));
    }
}
