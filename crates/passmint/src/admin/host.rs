//! Whom the admin listener answers to in `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{StatusCode, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Names that count: loopback, the listener's own address, and those configured.
#[derive(Clone)]
pub struct AllowedHosts {
    own: IpAddr,
    names: Arc<[String]>,
}

impl AllowedHosts {
    /// Of a listener on `own`, with `server.admin_hosts`.
    pub fn new(own: IpAddr, names: &[String]) -> Self {
        Self { own, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    fn allow(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if let Ok(address) = host.parse::<IpAddr>() {
            return address.is_loopback() || address == self.own;
        }
        host == "localhost" || self.names.contains(&host)
    }
}

/// Refuses requests to any other name with 421 (RFC 9110 section 15.5.20).
pub(super) async fn check(
    State(hosts): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    if is_from_another_site(&request) {
        let text =
            "This listener takes no requests that change something from web pages of others.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = header.and_then(|host| host.parse::<Authority>().ok());
    let named = request.uri().authority().cloned().or(authority);
    if named.is_some_and(|authority| hosts.allow(authority.host())) {
        return next.run(request).await;
    }
    let text = "This listener does not answer to that Host. Add the name to server.admin_hosts.\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// Whether a browser says that a page of another origin sends this, and it would change something (Fetch
/// Metadata; the `Origin` header of the Fetch standard).
fn is_from_another_site(request: &Request) -> bool {
    if request.method().is_safe() {
        return false;
    }
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let site = header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let own = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some() && host == header("host")
    };
    site || header("origin").is_some_and(|origin| !own(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_own_address_and_configured_names() {
        let hosts = AllowedHosts::new([10, 0, 0, 5].into(), &["Admin.Example".to_owned()]);
        for good in
            ["localhost", "127.0.0.1", "[::1]", "10.0.0.5", "admin.example", "ADMIN.example"]
        {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in ["10.0.0.6", "evil.example", "localhost.evil.example", ""] {
            assert!(!hosts.allow(bad), "{bad}");
        }
    }
}
