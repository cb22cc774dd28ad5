//! What handlers ask for in their signatures: the caller, and where it calls from.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::envelope::PublicState;
use super::error::{ApiError, Unauthorized};
use crate::config::Server;
use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::service::Settings;
use crate::service::token::{TokenService, Verified};

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
        let verified = TokenService::from_ref(state).verify(token)?;
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

    async fn from_request_parts(
        parts: &mut Parts,
        state: &PublicState,
    ) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let settings = Settings::from_ref(state).load_full();
        let address = peer.map(|peer| client_address(peer, &parts.headers, &settings.server));
        let user_agent = parts.headers.get(USER_AGENT).map(printable).unwrap_or_default();
        Ok(Self { address, user_agent })
    }
}

fn printable(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes())
        .chars()
        .filter(|character| !character.is_control())
        .take(256)
        .collect()
}

/// The forwarding header read from the right, past trusted hops; without a trusted peer, the peer.
fn client_address(peer: IpAddr, headers: &HeaderMap, server: &Server) -> IpAddr {
    let trusted = |address: &IpAddr| server.trusted_proxies.iter().any(|net| net.contains(address));
    let mut client = peer.to_canonical();
    if !trusted(&client) {
        return client;
    }
    let lines: Vec<&str> = headers
        .get_all(server.forwarded_header.as_str())
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    for hop in lines.iter().flat_map(|line| line.split(',')).rev() {
        let Some(address) = hop_address(hop.trim()) else {
            return client;
        };
        client = address.to_canonical();
        if !trusted(&client) {
            return client;
        }
    }
    client
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    hop.parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()
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

    fn server(trusted: &str, header: &str) -> Server {
        let config = crate::config::Config::load(&crate::config::Sources {
            environment: vec![
                ("PASSMINT_SERVER__TRUSTED_PROXIES".to_owned(), trusted.to_owned()),
                ("PASSMINT_SERVER__FORWARDED_HEADER".to_owned(), header.to_owned()),
            ],
            ..crate::config::Sources::default()
        });
        config.unwrap().server
    }

    #[test]
    fn forwarding_headers_count_from_trusted_peers_only() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 192.0.2.7"));
        headers.append("x-forwarded-for", HeaderValue::from_static("10.0.0.9"));
        headers.append("forwarded", HeaderValue::from_static("for=7.7.7.7"));
        let from = |peer: &str, trusted: &str| {
            let server = server(trusted, "X-Forwarded-For");
            client_address(peer.parse().unwrap(), &headers, &server).to_string()
        };
        assert_eq!(from("10.0.0.1", "10.0.0.0/8"), "192.0.2.7");
        assert_eq!(from("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(from("203.0.113.5", "10.0.0.0/8"), "203.0.113.5");
        assert_eq!(from("::ffff:10.0.0.1", "10.0.0.0/8"), "192.0.2.7");
        let none = client_address(
            "10.0.0.1".parse().unwrap(),
            &HeaderMap::new(),
            &server("10.0.0.0/8", "X-Forwarded-For"),
        );
        assert_eq!(none.to_string(), "10.0.0.1");
    }

    #[test]
    fn hops_in_every_spelling() {
        for (hop, address) in [
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("unknown", None),
        ] {
            assert_eq!(hop_address(hop), address.map(|a| a.parse().unwrap()), "{hop}");
        }
    }
}
